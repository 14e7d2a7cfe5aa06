//! Tokens back to text.
//!
//! Purpose: [`read`] knows the decoders of a file, [`stage`] runs them, all at once or token by token.
//! Invariant: what a stream gives piece by piece is what decoding at once gives; no decoder fails, whatever the tokens.
//! Must not know: ids.

mod bytes;
mod read;
mod stage;

pub(super) use bytes::{byte_of_token, bytes_of_chars, char_of_byte};
pub(super) use read::Decoder;
pub(super) use stage::Run;
