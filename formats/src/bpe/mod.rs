//! Byte-level BPE: the tokenizer of every stage.
//!
//! Purpose: train, write, read and use a tokenizer. A text is split by a named pattern
//! ([`pretokenize`]), the distinct pieces are counted ([`count`]), the most frequent pair becomes a
//! token again and again ([`train`]); the merges make a [`vocabulary`], which [`encode`] and
//! [`decode`] apply. [`file`](self) is `tokenizer.json`, [`chat`] the special tokens and the one
//! template. [`Tokenizer`] is the door to all of it.
//! Invariant: ids 0..256 are the bytes, then the merges in the order of their making, then the
//! special tokens; text never encodes to a special token, whatever it spells.
//! Must not know: models, stages, the runner.

pub mod chat;
pub mod cli;
mod count;
mod decode;
mod encode;
mod error;
mod file;
mod hash;
mod json;
mod pretokenize;
mod tokenizer;
mod train;
mod vocabulary;

pub use decode::StreamDecoder;
pub use error::TokenizerError;
pub use pretokenize::{Pattern, last_cut};
pub use tokenizer::{LEAST_VOCAB, Tokenizer, Trained};
pub use train::TrainOptions;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
