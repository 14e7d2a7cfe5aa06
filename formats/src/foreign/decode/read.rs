//! The decoders of a file.
//!
//! Invariant: a decoder of a type that is not known, or whose work would not be bounded, is an error.
//! Must not know: tokens.

use serde_json::Value;

use super::super::error::{ForeignError, Object};
use super::{byte_of_token, bytes_of_chars};

/// Parts of a sequence.
const MOST_PARTS: usize = 32;
/// Sequences in sequences.
const DEEPEST: usize = 4;
/// Bytes of what is looked for and of what takes its place.
const LONGEST: usize = 256;
/// How many bytes one byte may become.
const MOST_GROWTH: usize = 1024;

/// One step from tokens to text.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::foreign) enum Stage {
    /// Characters stand for bytes; all tokens become one.
    ByteLevel,
    /// This character is a space, and nothing in the first token unless it is kept there.
    Metaspace { replacement: char, keep_first: bool },
    /// A text is replaced in each token.
    Replace { find: String, content: String },
    /// Successive tokens like `<0x0A>` become what their bytes spell.
    ByteFallback,
    /// All tokens become one.
    Fuse,
    /// A character is cut off at the start and the end of each token, at most that often.
    Strip { content: char, start: usize, stop: usize },
    /// This end of a word is a space, and nothing in the last token.
    WordEnd(String),
    /// A token without this prefix begins a word.
    WordPiece { prefix: String, cleanup: bool },
    /// Where there is no decoder: a space between tokens.
    Spaces,
}

/// All steps.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::foreign) struct Decoder {
    pub(in crate::foreign) stages: Vec<Stage>,
}

impl Decoder {
    /// Reads the decoder of a file.
    pub(in crate::foreign) fn read(value: &Value) -> Result<Self, ForeignError> {
        if value.is_null() {
            return Ok(Self { stages: vec![Stage::Spaces] });
        }
        let mut stages = Vec::new();
        let object = Object::new(value, "decoder");
        part(&object, 0, &mut stages)?;
        let growth = stages.iter().map(growth).fold(1, usize::saturating_mul);
        if growth > MOST_GROWTH {
            return Err(object.error(format!(
                "it makes a token up to {growth} times as long; {MOST_GROWTH} times is the most"
            )));
        }
        Ok(Self { stages })
    }

    /// The bytes of one token in the middle of a text; `bytes_are_chars` if encoding writes them so.
    pub(in crate::foreign) fn bytes(&self, token: &str, bytes_are_chars: bool) -> Vec<u8> {
        if bytes_are_chars || self.stages.contains(&Stage::ByteLevel) {
            return bytes_of_chars(token).unwrap_or_else(|| token.into());
        }
        if let Some(byte) = byte_of_token(token).filter(|_| self.stages.contains(&Stage::ByteFallback)) {
            return vec![byte];
        }
        let text = self.stages.iter().fold(token.to_owned(), |text, stage| match stage {
            Stage::Replace { find, content } => text.replace(find.as_str(), content),
            Stage::Metaspace { replacement, .. } => text.replace(*replacement, " "),
            Stage::WordEnd(suffix) => text.replace(suffix.as_str(), " "),
            Stage::WordPiece { prefix, .. } => {
                text.strip_prefix(prefix.as_str()).map_or_else(|| format!(" {text}"), String::from)
            }
            _ => text,
        });
        text.into_bytes()
    }
}

fn growth(stage: &Stage) -> usize {
    match stage {
        Stage::Replace { find, content } => content.len().div_ceil(find.len()).max(1),
        _ => 1,
    }
}

fn part(object: &Object<'_>, depth: usize, stages: &mut Vec<Stage>) -> Result<(), ForeignError> {
    stages.push(match object.kind()? {
        "Sequence" if depth == DEEPEST => {
            return Err(object.error(format!("sequences are nested more than {DEEPEST} deep")));
        }
        "Sequence" => {
            let parts = object.objects("decoders", MOST_PARTS)?;
            return parts.iter().try_for_each(|object| part(object, depth + 1, stages));
        }
        "ByteLevel" => Stage::ByteLevel,
        "ByteFallback" => Stage::ByteFallback,
        "Fuse" => Stage::Fuse,
        "Metaspace" => Stage::Metaspace {
            replacement: one_char(object, "replacement")?,
            keep_first: object.get("prepend_scheme").and_then(Value::as_str) == Some("never")
                || !object.bool_or("add_prefix_space", true)?,
        },
        "Replace" => {
            let find = object.get("pattern").and_then(|pattern| pattern.get("String")?.as_str());
            let Some(find) = find.filter(|find| (1..=LONGEST).contains(&find.len())) else {
                let what = format!("a decoder replaces {{\"String\": \"..\"}} of 1 to {LONGEST} bytes alone");
                return Err(object.field_error("pattern", what));
            };
            Stage::Replace { find: find.into(), content: object.string("content", LONGEST)?.into() }
        }
        "Strip" => Stage::Strip {
            content: one_char(object, "content")?,
            start: count(object, "start")?,
            stop: count(object, "stop")?,
        },
        "BPEDecoder" => match object.string("suffix", LONGEST)? {
            "" => return Err(object.field_error("suffix", "this has to be a text")),
            suffix => Stage::WordEnd(suffix.into()),
        },
        "WordPiece" => Stage::WordPiece {
            prefix: object.string("prefix", LONGEST)?.into(),
            cleanup: object.bool("cleanup")?,
        },
        other => return Err(object.error(format!("the type `{other}` is not a known decoder of BPE"))),
    });
    Ok(())
}

fn one_char(object: &Object<'_>, key: &str) -> Result<char, ForeignError> {
    let mut chars = object.string(key, LONGEST)?.chars();
    match (chars.next(), chars.next()) {
        (Some(char), None) => Ok(char),
        _ => Err(object.field_error(key, "this has to be one character")),
    }
}

fn count(object: &Object<'_>, key: &str) -> Result<usize, ForeignError> {
    let count = object.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| object.field_error(key, "this has to be a number"))
}
