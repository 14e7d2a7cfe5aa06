//! The tokenizer of a model: ours, or one that came with somebody else's model.
//!
//! Purpose: one handle for text and tokens (`handle`), for streams of tokens (`stream`) and for conversations (`chat`),
//! whoever made the tokenizer.
//! Invariant: imported tokenizers keep their ids; a text never becomes a special token, whatever it spells.
//! Must not know: models, stages.

mod chat;
mod handle;
mod stream;

pub use handle::{Tokenizer, TokenizerError};
pub use stream::StreamDecoder;

pub use crate::bpe::chat::Turn;

#[cfg(test)]
mod tests;
