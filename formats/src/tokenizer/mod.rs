//! The tokenizer of a model: ours, or one that came with somebody else's model.
//!
//! Purpose: one handle for text and tokens (`handle`), for streams of tokens (`stream`), for conversations (`chat`)
//! and for what of a conversation is learnt (`masks`), whoever made the tokenizer.
//! Invariant: imported tokenizers keep their ids; a text never becomes a special token, whatever it spells.
//! Must not know: models, stages.

mod chat;
mod handle;
mod masks;
mod stream;

pub use handle::{Tokenizer, TokenizerError};
pub use masks::Masked;
pub use stream::StreamDecoder;

#[cfg(test)]
mod tests;
