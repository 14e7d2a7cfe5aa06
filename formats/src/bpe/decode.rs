//! Tokens to text, all at once or as they come.
//!
//! Invariant: what a [`StreamDecoder`] gives piece by piece is what [`Tokenizer::decode`] gives at once.
//! Must not know: merges, how tokens are made.

use super::Tokenizer;

/// Decodes tokens as a model makes them: a character is given out when its last byte is there.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    /// The first bytes of a character whose last are not there yet; at most 3.
    waiting: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, waiting: Vec::new() }
    }

    /// The text that this token completes; often empty in the middle of a character.
    pub fn push(&mut self, token: u32) -> String {
        self.tokenizer.append_bytes(token, &mut self.waiting);
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.waiting.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let bad = chunk.invalid();
            if bad.is_empty() || (done + bad.len() == self.waiting.len() && may_go_on(bad)) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += bad.len();
        }
        self.waiting.drain(..done);
        text
    }

    /// The rest when no more tokens come: a replacement character for a character cut short.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.waiting).into_owned()
    }
}

/// Whether these bytes, which are not UTF-8, are the beginning of a character.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
