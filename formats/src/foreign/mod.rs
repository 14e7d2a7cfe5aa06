//! Tokenizers that are not ours: those of Hugging Face models.
//!
//! Purpose: read the tokenizer of a model that somebody brings along ([`ForeignTokenizer`]) and give texts the ids that
//! Python's `tokenizers` gives them. The crate of that name does the merging and keeps the alignment of normalized text;
//! what it does in ways that panic, hang or differ on files of strangers is done here: the files ([`folder`], [`json`],
//! [`config`]), added tokens ([`added`]), patterns ([`regex`]), decoders ([`decode`]).
//! Invariant: a file may be hostile; once it is read, no text and no id makes anything fail, hang or panic. Text that spells
//! a special token becomes one only where that is asked for.
//! Must not know: our own tokenizer, chat templates, models, stages.

mod added;
mod build;
mod config;
mod decode;
mod error;
mod folder;
mod fuzz;
mod json;
mod model;
mod pipeline;
mod protect;
mod regex;
mod tokenizer;
mod trie;

pub use error::ForeignError;
pub use folder::NamedFile;
pub use fuzz::fuzz;
pub use tokenizer::{ForeignStreamDecoder, ForeignTokenizer};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
