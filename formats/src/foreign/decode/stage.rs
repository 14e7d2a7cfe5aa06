//! Decoders at work.
//!
//! Purpose: each stage takes tokens one after the other and hands on what it is sure of.
//! Invariant: a run gives the same text whether it streams or not. Stages for which nothing is certain before the last token
//! hold everything back.
//! Must not know: how decoders are written down.

use super::read::{Decoder, Stage};
use super::{byte_of_token, bytes_of_chars};

/// Decoding, under way.
#[derive(Debug, Clone)]
pub(in crate::foreign) struct Run {
    steps: Vec<Step>,
}

/// A stage and what it holds.
#[derive(Debug, Clone)]
enum Step {
    /// Bytes of a character that is not complete; where something follows that needs the whole text, all of the text.
    ByteLevel {
        bytes: Vec<u8>,
        text: Option<String>,
    },
    Metaspace {
        replacement: char,
        first: bool,
    },
    Replace {
        find: String,
        content: String,
    },
    ByteFallback {
        bytes: Vec<u8>,
    },
    Fuse {
        text: String,
    },
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    /// The start of a text that comes in pieces.
    StripStart {
        content: char,
        left: usize,
    },
    WordEnd {
        suffix: String,
        last: Option<String>,
    },
    WordPiece {
        prefix: String,
        cleanup: bool,
        first: bool,
    },
    Spaces {
        first: bool,
    },
}

impl Run {
    /// Begins; a run that streams hands on what it can before [`Self::finish`].
    pub(in crate::foreign) fn new(decoder: &Decoder, streams: bool) -> Self {
        let mut steps = Vec::new();
        let mut fused = false;
        for (index, stage) in decoder.stages.iter().enumerate() {
            let streams = streams && decoder.stages[index + 1..].iter().all(takes_pieces);
            match stage {
                // A text that comes in pieces needs no joining.
                Stage::Fuse if streams => {}
                Stage::Strip { content, start, .. } if fused && streams && takes_pieces(stage) => {
                    steps.push(Step::StripStart { content: *content, left: *start });
                }
                _ => steps.push(Step::new(stage, streams)),
            }
            fused |= matches!(stage, Stage::Fuse | Stage::ByteLevel);
        }
        Self { steps }
    }

    /// Takes a token; gives the text that is certain now.
    pub(in crate::foreign) fn push(&mut self, token: &str) -> String {
        self.pass(0, vec![token.into()])
    }

    /// The rest of the text.
    pub(in crate::foreign) fn finish(mut self) -> String {
        let mut text = String::new();
        for index in 0..self.steps.len() {
            let mut held = Vec::new();
            self.steps[index].finish(&mut held);
            text += &self.pass(index + 1, held);
        }
        text
    }

    /// Leads tokens through the steps from the one at `index` on.
    fn pass(&mut self, index: usize, mut tokens: Vec<String>) -> String {
        for step in self.steps.iter_mut().skip(index) {
            let mut next = Vec::with_capacity(tokens.len());
            for token in tokens {
                step.push(token, &mut next);
            }
            tokens = next;
        }
        tokens.concat()
    }
}

/// Whether a stage can be given one text in pieces.
fn takes_pieces(stage: &Stage) -> bool {
    match stage {
        Stage::Fuse => true,
        Stage::Strip { stop, .. } => *stop == 0,
        _ => false,
    }
}

impl Step {
    fn new(stage: &Stage, streams: bool) -> Self {
        match stage {
            Stage::ByteLevel => Self::ByteLevel { bytes: Vec::new(), text: (!streams).then(String::new) },
            Stage::Metaspace { replacement, keep_first } => {
                Self::Metaspace { replacement: *replacement, first: !keep_first }
            }
            Stage::Replace { find, content } => {
                Self::Replace { find: find.clone(), content: content.clone() }
            }
            Stage::ByteFallback => Self::ByteFallback { bytes: Vec::new() },
            Stage::Fuse => Self::Fuse { text: String::new() },
            Stage::Strip { content, start, stop } => {
                Self::Strip { content: *content, start: *start, stop: *stop }
            }
            Stage::WordEnd(suffix) => Self::WordEnd { suffix: suffix.clone(), last: None },
            Stage::WordPiece { prefix, cleanup } => {
                Self::WordPiece { prefix: prefix.clone(), cleanup: *cleanup, first: true }
            }
            Stage::Spaces => Self::Spaces { first: true },
        }
    }

    fn push(&mut self, token: String, next: &mut Vec<String>) {
        match self {
            Self::ByteLevel { bytes, text } => {
                bytes.extend(bytes_of_chars(&token).unwrap_or_else(|| token.into_bytes()));
                let sure = complete(bytes);
                match text {
                    Some(text) => text.push_str(&sure),
                    None => next.push(sure),
                }
            }
            Self::Metaspace { replacement, first } => {
                let space = if std::mem::take(first) { "" } else { " " };
                next.push(token.replace(*replacement, space));
            }
            Self::Replace { find, content } => next.push(token.replace(find.as_str(), content)),
            Self::ByteFallback { bytes } => match byte_of_token(&token) {
                Some(byte) => bytes.push(byte),
                None => {
                    next.extend(spelled(bytes));
                    next.push(token);
                }
            },
            Self::Fuse { text } => text.push_str(&token),
            Self::Strip { content, start, stop } => next.push(strip(&token, *content, *start, *stop)),
            Self::StripStart { content, left } => {
                let rest = strip(&token, *content, *left, 0);
                let cut = token.chars().count() - rest.chars().count();
                *left = if rest.is_empty() { *left - cut } else { 0 };
                next.push(rest);
            }
            Self::WordEnd { suffix, last } => {
                let before = last.replace(token);
                next.extend(before.map(|token| token.replace(suffix.as_str(), " ")));
            }
            Self::WordPiece { prefix, cleanup, first } => {
                let token = match token.strip_prefix(prefix.as_str()) {
                    _ if std::mem::take(first) => token,
                    Some(rest) => rest.into(),
                    None => format!(" {token}"),
                };
                next.push(if *cleanup { cleaned(&token) } else { token });
            }
            Self::Spaces { first } => {
                next.push(if std::mem::take(first) { token } else { format!(" {token}") });
            }
        }
    }

    fn finish(&mut self, next: &mut Vec<String>) {
        match self {
            Self::ByteLevel { bytes, text } => {
                next.push(text.take().unwrap_or_default() + &String::from_utf8_lossy(bytes));
            }
            Self::ByteFallback { bytes } => next.extend(spelled(bytes)),
            Self::Fuse { text } => next.push(std::mem::take(text)),
            Self::WordEnd { suffix, last } => {
                next.extend(last.take().map(|token| token.replace(suffix.as_str(), "")));
            }
            _ => {}
        }
    }
}

/// Takes the characters that are complete, with a replacement character for each stretch of bytes that begins none.
fn complete(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let bad = chunk.invalid();
        let may_go_on = std::str::from_utf8(bad).is_err_and(|error| error.error_len().is_none());
        if bad.is_empty() || (done + bad.len() == bytes.len() && may_go_on) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        done += bad.len();
    }
    bytes.drain(..done);
    text
}

/// What a run of bytes spells: all of it, or a replacement character for each byte.
fn spelled(bytes: &mut Vec<u8>) -> Option<String> {
    if bytes.is_empty() {
        return None;
    }
    let bytes = std::mem::take(bytes);
    let count = bytes.len();
    Some(String::from_utf8(bytes).unwrap_or_else(|_| "\u{fffd}".repeat(count)))
}

/// Cuts a character off both ends, at most that often.
fn strip(token: &str, content: char, start: usize, stop: usize) -> String {
    let at_start = token.chars().take(start).take_while(|&char| char == content).count();
    let rest = &token[at_start * content.len_utf8()..];
    let at_end = rest.chars().rev().take(stop).take_while(|&char| char == content).count();
    rest[..rest.len() - at_end * content.len_utf8()].into()
}

/// What the decoder of WordPiece removes before punctuation.
fn cleaned(token: &str) -> String {
    let marks =
        [(" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")];
    let words = [(" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")];
    let all = marks.iter().chain(&words);
    all.fold(token.to_owned(), |text, (find, content)| text.replace(find, content))
}
