//! Tokens as `tokenizer.json` spells them.
//!
//! Purpose: GPT-2's byte-to-unicode table, and the JSON of vocabulary and merges.
//! Invariant: a vocabulary is written in the order of its ids; reading keeps duplicates visible and
//! stops at the size limit.
//! Must not know: what the tokens mean.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tokenizer::MAX_VOCAB;

/// The character that stands for each byte: itself where it is printable Latin-1, else the next one
/// from U+0100 on (GPT-2's `bytes_to_unicode`).
pub(super) fn byte_chars() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        printable @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => printable.into(),
        _ => others.next().unwrap_or_default(),
    })
}

/// A token's bytes in those characters.
pub(super) fn spell(bytes: &[u8], chars: &[char; 256]) -> String {
    bytes.iter().map(|&byte| chars[byte as usize]).collect()
}

/// The vocabulary: each token's spelling and id.
pub(super) struct VocabularyText(pub(super) Vec<(String, u32)>);

impl Serialize for VocabularyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (text, id) in &self.0 {
            map.serialize_entry(text, id)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for VocabularyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = VocabularyText;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a map from token to id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabularyText, A::Error> {
        let mut tokens = Vec::new();
        while let Some(entry) = map.next_entry()? {
            if tokens.len() == MAX_VOCAB {
                return Err(A::Error::custom(format!("more than {MAX_VOCAB} tokens")));
            }
            tokens.push(entry);
        }
        Ok(VocabularyText(tokens))
    }
}

/// A merge: the spellings of both sides. Written as `left right`, which every release of
/// `tokenizers` reads; read also as the pair that newer ones write.
pub(super) struct MergeText(pub(super) String, pub(super) String);

impl Serialize for MergeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} {}", self.0, self.1))
    }
}

impl<'de> Deserialize<'de> for MergeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Pair(String, String),
        }
        match Either::deserialize(deserializer)? {
            Either::Pair(left, right) => Ok(Self(left, right)),
            Either::Text(text) => match text.split_once(' ') {
                Some((left, right)) => Ok(Self(left.into(), right.into())),
                None => Err(D::Error::custom(format!("merge `{text}` is not two tokens"))),
            },
        }
    }
}
