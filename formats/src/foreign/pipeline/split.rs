//! Pre-tokenizers.
//!
//! Purpose: where a text is cut before merging.
//! Invariant: the parts that search with a pattern of the file do it here, with fuel; the others are the crate's, whose
//! patterns are its own and simple. No part is read that would panic there.
//! Must not know: tokens.

use std::sync::LazyLock;

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::super::error::{ForeignError, Object};
use super::super::regex::{Fuel, Regex};
use super::find::{Finder, Inverted};

/// Parts of a sequence.
const MOST_PARTS: usize = 32;
/// Sequences in sequences.
const DEEPEST: usize = 4;

/// The pattern of GPT-2, which `ByteLevel` stands for.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// That pattern.
pub(super) fn gpt2() -> Option<&'static Finder> {
    static FINDER: LazyLock<Option<Finder>> = LazyLock::new(|| Regex::new(GPT2).ok().map(Finder::Pattern));
    FINDER.as_ref()
}

/// A pre-tokenizer.
#[derive(Debug, PartialEq)]
pub(in crate::foreign) enum PreTokenizer {
    Sequence(Vec<PreTokenizer>),
    Split { find: Finder, behavior: SplitDelimiterBehavior, invert: bool },
    ByteLevel { prefix_space: bool, pattern: bool },
    Other(PreTokenizerWrapper),
}

impl PreTokenizer {
    /// Reads the pre-tokenizer of a file; `None` for null.
    pub(in crate::foreign) fn read(value: &serde_json::Value) -> Result<Option<Self>, ForeignError> {
        if value.is_null() {
            return Ok(None);
        }
        let object = Object::new(value, "pre_tokenizer");
        let read = Self::part(&object, 0)?;
        // Each of them writes every byte beyond ASCII as two.
        if read.byte_levels() > 1 {
            return Err(object.error("there are two parts of the type ByteLevel, which makes no sense"));
        }
        Ok(Some(read))
    }

    fn part(object: &Object<'_>, depth: usize) -> Result<Self, ForeignError> {
        Ok(match object.kind()? {
            "Sequence" if depth == DEEPEST => {
                return Err(object.error(format!("sequences are nested more than {DEEPEST} deep")));
            }
            "Sequence" => {
                let parts = object.objects("pretokenizers", MOST_PARTS)?;
                let parts = parts.iter().map(|part| Self::part(part, depth + 1));
                Self::Sequence(parts.collect::<Result<_, _>>()?)
            }
            "Split" => {
                let behavior = object.get("behavior").cloned().unwrap_or_default();
                let behavior = serde_json::from_value(behavior)
                    .map_err(|error| object.field_error("behavior", error.to_string()))?;
                Self::Split {
                    find: Finder::read(object)?,
                    behavior,
                    invert: object.bool_or("invert", false)?,
                }
            }
            "ByteLevel" => Self::ByteLevel {
                prefix_space: object.bool("add_prefix_space")?,
                pattern: object.bool_or("use_regex", true)?,
            },
            // It would panic on a length of 0.
            "FixedLength"
                if object.get("length").is_some_and(|length| length.as_u64().is_none_or(|n| n == 0)) =>
            {
                return Err(object.field_error("length", "this has to be a number of at least 1"));
            }
            "Metaspace" | "Digits" | "Whitespace" | "WhitespaceSplit" | "Punctuation"
            | "BertPreTokenizer" | "CharDelimiterSplit" | "UnicodeScripts" | "FixedLength" => {
                let read = serde_json::from_value(object.value().clone());
                Self::Other(read.map_err(|error| object.error(error.to_string()))?)
            }
            other => return Err(object.error(format!("the type `{other}` is not a known pre-tokenizer"))),
        })
    }

    fn byte_levels(&self) -> usize {
        match self {
            Self::Sequence(parts) => parts.iter().map(Self::byte_levels).sum(),
            Self::ByteLevel { .. } => 1,
            Self::Split { .. } | Self::Other(_) => 0,
        }
    }

    /// Whether the pieces are written in the characters that stand for bytes.
    pub(in crate::foreign) fn is_byte_level(&self) -> bool {
        self.byte_levels() > 0
    }

    /// Cuts the stretches that are not tokens yet.
    pub(in crate::foreign) fn apply(&self, text: &mut PreTokenizedString, fuel: &Fuel) {
        // The results are always `Ok`: no closure here fails, and the crate's parts do not either.
        match self {
            Self::Sequence(parts) => parts.iter().for_each(|part| part.apply(text, fuel)),
            Self::Split { find, behavior, invert: false } => {
                _ = text.split(|_, part| part.split(find.with(fuel), *behavior));
            }
            Self::Split { find, behavior, invert: true } => {
                _ = text.split(|_, part| part.split(Inverted(find.with(fuel)), *behavior));
            }
            Self::ByteLevel { prefix_space, pattern } => {
                let find = gpt2().filter(|_| *pattern);
                _ = text.split(|_, mut part| {
                    if *prefix_space && !part.get().starts_with(' ') {
                        part.prepend(" ");
                    }
                    match find {
                        Some(find) => part.split(find.with(fuel), SplitDelimiterBehavior::Isolated),
                        None => Ok(vec![part]),
                    }
                });
                _ = ByteLevel::new(false, true, false).pre_tokenize(text);
            }
            Self::Other(other) => _ = other.pre_tokenize(text),
        }
    }
}
