//! Normalizers.
//!
//! Purpose: what is done to a text before it is split: Unicode's normal forms, and replacements as SentencePiece has them.
//! Invariant: a text grows by a bounded factor.
//! Must not know: pieces, tokens.

use std::borrow::Cow;

use tokenizers::normalizers::{BertNormalizer, ByteLevel, Nmt, StripAccents};
use tokenizers::{NormalizedString, Normalizer as _};

use super::super::error::{ForeignError, Object};
use super::super::regex::Fuel;
use super::find::{Finder, Found};

/// Parts of a sequence.
const MOST_PARTS: usize = 32;
/// Sequences in sequences.
const DEEPEST: usize = 4;
/// Bytes of the text that takes the place of another.
const LONGEST: usize = 256;
/// How many bytes one byte may become.
const MOST_GROWTH: u64 = 1024;

/// A normalizer.
#[derive(Debug, PartialEq)]
pub(in crate::foreign) enum Normalizer {
    Sequence(Vec<Normalizer>),
    Replace { find: Finder, content: String },
    Prepend(String),
    Strip { left: bool, right: bool },
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    Nmt,
    ByteLevel,
    Bert { clean: bool, chinese: bool, accents: Option<bool>, lowercase: bool },
}

impl Normalizer {
    /// Reads the normalizer of a file; `None` for null.
    pub(in crate::foreign) fn read(value: &serde_json::Value) -> Result<Option<Self>, ForeignError> {
        if value.is_null() {
            return Ok(None);
        }
        let object = Object::new(value, "normalizer");
        let normalizer = Self::part(&object, 0)?;
        let growth = normalizer.growth();
        if growth > MOST_GROWTH {
            let what =
                format!("it makes a text up to {growth} times as long; {MOST_GROWTH} times is the most");
            return Err(object.error(what));
        }
        Ok(Some(normalizer))
    }

    fn part(object: &Object<'_>, depth: usize) -> Result<Self, ForeignError> {
        Ok(match object.kind()? {
            "Sequence" if depth == DEEPEST => {
                return Err(object.error(format!("sequences are nested more than {DEEPEST} deep")));
            }
            "Sequence" => {
                let parts = object.objects("normalizers", MOST_PARTS)?;
                let parts = parts.iter().map(|part| Self::part(part, depth + 1));
                Self::Sequence(parts.collect::<Result<_, _>>()?)
            }
            "Replace" => Self::Replace {
                find: Finder::read(object)?,
                content: object.string("content", LONGEST)?.into(),
            },
            "Prepend" => Self::Prepend(object.string("prepend", LONGEST)?.into()),
            "Strip" => Self::Strip { left: object.bool("strip_left")?, right: object.bool("strip_right")? },
            "NFC" => Self::Nfc,
            "NFD" => Self::Nfd,
            "NFKC" => Self::Nfkc,
            "NFKD" => Self::Nfkd,
            "Lowercase" => Self::Lowercase,
            "StripAccents" => Self::StripAccents,
            "Nmt" => Self::Nmt,
            "ByteLevel" => Self::ByteLevel,
            "BertNormalizer" => Self::Bert {
                clean: object.bool("clean_text")?,
                chinese: object.bool("handle_chinese_chars")?,
                accents: object.get("strip_accents").map(|_| object.bool("strip_accents")).transpose()?,
                lowercase: object.bool("lowercase")?,
            },
            "Precompiled" => {
                return Err(object.error(
                    "the type Precompiled, a binary table of SentencePiece, is not supported; use a model whose \
                     normalizer is written out",
                ));
            }
            other => return Err(object.error(format!("the type `{other}` is not a known normalizer"))),
        })
    }

    /// How many bytes at most one byte becomes.
    fn growth(&self) -> u64 {
        match self {
            Self::Sequence(parts) => parts.iter().map(Self::growth).fold(1, u64::saturating_mul),
            Self::Replace { find, content } => find.growth(content),
            // Each stretch between special tokens gets it.
            Self::Prepend(text) => text.len() as u64 + 1,
            Self::Nfc | Self::Nfd => 4,
            // U+FDFA becomes 18 characters.
            Self::Nfkc | Self::Nfkd => 12,
            Self::Lowercase | Self::ByteLevel => 2,
            Self::Bert { .. } => 24,
            Self::Strip { .. } | Self::StripAccents | Self::Nmt => 1,
        }
    }

    /// Normalizes a text in place.
    pub(in crate::foreign) fn apply(&self, text: &mut NormalizedString, fuel: &Fuel) {
        // The results of the crate's normalizers are always `Ok`; what they might say otherwise, the crate ignores as well.
        match self {
            Self::Sequence(parts) => parts.iter().for_each(|part| part.apply(text, fuel)),
            Self::Replace { find, content } => replace(text, find, content, fuel),
            Self::Prepend(prefix) => prepend(text, prefix),
            Self::Strip { left, right } => {
                if *left {
                    text.lstrip();
                }
                if *right {
                    text.rstrip();
                }
            }
            Self::Nfc => _ = text.nfc(),
            Self::Nfd => _ = text.nfd(),
            Self::Nfkc => _ = text.nfkc(),
            Self::Nfkd => _ = text.nfkd(),
            Self::Lowercase => _ = text.lowercase(),
            Self::StripAccents => _ = StripAccents.normalize(text),
            Self::Nmt => _ = Nmt.normalize(text),
            Self::ByteLevel => _ = ByteLevel::new().normalize(text),
            Self::Bert { clean, chinese, accents, lowercase } => {
                _ = BertNormalizer::new(*clean, *chinese, *accents, *lowercase).normalize(text);
            }
        }
    }

    /// Whether the text is written in the characters that stand for bytes.
    pub(in crate::foreign) fn is_byte_level(&self) -> bool {
        match self {
            Self::Sequence(parts) => parts.iter().any(Self::is_byte_level),
            other => *other == Self::ByteLevel,
        }
    }

    /// What a text becomes.
    pub(in crate::foreign) fn normalized<'t>(&self, text: &'t str, fuel: &Fuel) -> Cow<'t, str> {
        // No character below the combining marks is changed or joined with another.
        if *self == Self::Nfc && text.chars().all(|char| char < '\u{300}') {
            return text.into();
        }
        let mut string = NormalizedString::from(text);
        self.apply(&mut string, fuel);
        string.get().to_owned().into()
    }
}

/// Replaces what is found. What is put before the text is put there as a prefix is: in the way that the crate's replacement
/// does it, it belongs to no part of the original, and the next change panics.
fn replace(text: &mut NormalizedString, find: &Finder, content: &str, fuel: &Fuel) {
    if text.is_empty() {
        return;
    }
    let mut found = find.find_all(text.get(), fuel);
    let before = found.first() == Some(&(0, 0));
    if before {
        found.remove(0);
    }
    _ = text.replace(Found(found), content);
    if before {
        prepend(text, content);
    }
}

/// Puts a text before another that is not empty. With an empty prefix the crate's own function would take the first character
/// off the original.
fn prepend(text: &mut NormalizedString, prefix: &str) {
    if !prefix.is_empty() {
        text.prepend(prefix);
    }
}
