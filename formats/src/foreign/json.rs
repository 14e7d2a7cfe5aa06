//! `tokenizer.json` as it is written.
//!
//! Purpose: the vocabulary, the merges and the added tokens of a file or of a JSON value, and its smaller parts as JSON.
//! Invariant: nothing is kept beyond the limits, whatever the file says about its sizes; parts that do not matter for the ids
//! (`truncation`, `padding`) are skipped. A model of another kind than BPE is read as far as its name.
//! Must not know: what the parts mean.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Tokens in the vocabulary, and one more than the largest id.
pub(super) const MOST_TOKENS: usize = 1 << 20;
/// Merges.
const MOST_MERGES: usize = 1 << 21;
/// Bytes in the spelling of a token.
pub(super) const LONGEST_TOKEN: usize = 4096;
/// Added tokens, of which models have up to some thousands.
const MOST_ADDED: usize = 1 << 16;
/// Bytes of JSON in a normalizer, a pre-tokenizer, a post-processor or a decoder.
const LARGEST_PART: usize = 1 << 20;

/// The file.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default)]
    pub(super) added_tokens: AddedTokens,
    #[serde(default)]
    pub(super) normalizer: Part,
    #[serde(default)]
    pub(super) pre_tokenizer: Part,
    #[serde(default)]
    pub(super) post_processor: Part,
    #[serde(default)]
    pub(super) decoder: Part,
    pub(super) model: ModelJson,
}

/// `model`.
#[derive(Debug, Deserialize)]
pub(super) struct ModelJson {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) dropout: Option<f64>,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: Option<bool>,
    #[serde(default)]
    pub(super) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(super) ignore_merges: Option<bool>,
    #[serde(default)]
    pub(super) vocab: Vocabulary,
    #[serde(default)]
    pub(super) merges: Option<Merges>,
}

/// An entry of `added_tokens`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct AddedJson {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// `added_tokens`.
#[derive(Debug, Default)]
pub(super) struct AddedTokens(pub(super) Vec<AddedJson>);

impl<'de> Deserialize<'de> for AddedTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Option::<List<AddedJson, MOST_ADDED>>::deserialize(deserializer)?;
        Ok(Self(list.map(|list| list.0).unwrap_or_default()))
    }
}

/// A small part of the file, as JSON; null if there is none.
#[derive(Debug, Default)]
pub(super) struct Part(pub(super) Value);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As text first, for a value in memory takes up to thirty times what it takes as text.
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if text.get().len() > LARGEST_PART {
            let what =
                format!("a part of {} bytes is more than the {LARGEST_PART} allowed", text.get().len());
            return Err(D::Error::custom(what));
        }
        serde_json::from_str(text.get()).map(Self).map_err(D::Error::custom)
    }
}

/// `vocab`: tokens and ids in the order of the file. A list, as other models have it, is skipped.
#[derive(Debug, Default)]
pub(super) struct Vocabulary(pub(super) Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a map from token to id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut tokens = Vec::new();
        while let Some((token, id)) = map.next_entry::<Token, u64>()? {
            if tokens.len() == MOST_TOKENS {
                return Err(A::Error::custom(format!("there are more than {MOST_TOKENS} tokens")));
            }
            if id >= MOST_TOKENS as u64 {
                let what =
                    format!("the token `{}` has the id {id}; ids go up to {}", token.0, MOST_TOKENS - 1);
                return Err(A::Error::custom(what));
            }
            tokens.push((token.0, id as u32));
        }
        Ok(Vocabulary(tokens))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocabulary, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Vocabulary::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Vocabulary, E> {
        Ok(Vocabulary::default())
    }
}

/// The spelling of a token.
struct Token(String);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() > LONGEST_TOKEN {
            let start: String = text.chars().take(20).collect();
            let what =
                format!("a token of {} bytes, `{start}..`, is longer than {LONGEST_TOKEN}", text.len());
            return Err(D::Error::custom(what));
        }
        Ok(Self(text))
    }
}

/// `merges`: pairs of tokens in the order of their rank.
#[derive(Debug, Default)]
pub(super) struct Merges(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let merges = List::<Merge, MOST_MERGES>::deserialize(deserializer)?.0;
        // Old files begin with a comment, as `merges.txt` does.
        Ok(Self(merges.into_iter().filter_map(|merge| merge.0).collect()))
    }
}

/// `"a b"` or `["a", "b"]`; none for a comment.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a merge: `\"a b\"` or `[\"a\", \"b\"]`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Merge, E> {
        if text.starts_with("#version") {
            return Ok(Merge(None));
        }
        match text.split_once(' ').filter(|(_, right)| !right.contains(' ')) {
            Some((left, right)) => Ok(Merge(Some((left.into(), right.into())))),
            None => Err(E::custom("a merge has to be two tokens with one space between them")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
        let left = list.next_element::<Token>()?;
        let right = list.next_element::<Token>()?;
        match (left, right, list.next_element::<IgnoredAny>()?) {
            (Some(left), Some(right), None) => Ok(Merge(Some((left.0, right.0)))),
            _ => Err(A::Error::custom("a merge has to be two tokens")),
        }
    }
}

/// A list of at most `MOST` elements.
struct List<T, const MOST: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor::<T, MOST>(std::marker::PhantomData))
    }
}

struct ListVisitor<T, const MOST: usize>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for ListVisitor<T, MOST> {
    type Value = List<T, MOST>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == MOST {
                return Err(A::Error::custom(format!("a list has more than {MOST} elements")));
            }
            elements.push(element);
        }
        Ok(List(elements))
    }
}
