//! Tokens to text as they come.
//!
//! Purpose: the decoder of either kind of tokenizer.
//! Invariant: the pieces make up the text of all tokens at once.
//! Must not know: who makes the tokens.

use crate::bpe;
use crate::foreign;

/// Decodes tokens as a model makes them: a character is given out when its last byte is there.
#[derive(Debug, Clone)]
pub enum StreamDecoder {
    /// Of our tokenizer.
    Own(bpe::StreamDecoder),
    /// Of another.
    Foreign(foreign::ForeignStreamDecoder),
}

impl StreamDecoder {
    /// The text that this token completes; often empty in the middle of a character.
    pub fn push(&mut self, token: u32) -> String {
        match self {
            Self::Own(decoder) => decoder.push(token),
            Self::Foreign(decoder) => decoder.push(token),
        }
    }

    /// The rest when no more tokens come: a replacement character for a character cut short.
    pub fn finish(self) -> String {
        match self {
            Self::Own(decoder) => decoder.finish(),
            Self::Foreign(decoder) => decoder.finish(),
        }
    }
}
