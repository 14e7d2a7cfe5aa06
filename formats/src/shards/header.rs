//! The headers of the index and of a shard.
//!
//! Purpose: what they say, and where the parts of a shard lie.
//! Invariant: a header that was read has been checked: its numbers fit together, and nothing in them overflows.
//! Must not know: files.

use serde::{Deserialize, Serialize};

/// The format and its version.
pub(super) const FORMAT: &str = "kiln.tokens/1";
/// Bytes of a shard before its ids.
pub(super) const HEADER: u64 = 1024;
/// The largest vocabulary of which an id has two bytes.
const SHORT: u32 = 1 << 16;
/// The most tokens of a folder; so no place of a byte overflows.
const MOST_TOKENS: u64 = 1 << 56;

/// How an id is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dtype {
    U16,
    U32,
}

impl Dtype {
    /// The narrowest that holds every id.
    pub(super) fn of(vocab_size: u32) -> Self {
        if vocab_size <= SHORT { Self::U16 } else { Self::U32 }
    }

    /// Bytes of an id.
    pub(super) fn width(self) -> u64 {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }
}

/// What a shard is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) dtype: Dtype,
    pub(super) documents: u64,
    pub(super) tokens: u64,
    /// Whether there are bits that say which tokens are learnt.
    pub(super) mask: bool,
    pub(super) vocab_size: u32,
    /// The SHA-256 of the tokenizer, in hexadecimal.
    pub(super) tokenizer: String,
}

/// What a folder is: the sum of its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) format: String,
    pub(super) dtype: Dtype,
    pub(super) documents: u64,
    pub(super) tokens: u64,
    pub(super) mask: bool,
    pub(super) vocab_size: u32,
    pub(super) tokenizer: String,
    pub(super) shards: Vec<Part>,
}

/// What the index says of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) file: String,
    pub(super) documents: u64,
    pub(super) tokens: u64,
}

/// Whether this is a SHA-256 in hexadecimal.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a shard.
pub(super) fn shard_name(place: usize) -> String {
    format!("{place:05}.tokens")
}

impl Header {
    /// Where the offsets of the documents begin.
    pub(super) fn offsets_at(&self) -> u64 {
        (HEADER + self.tokens * self.dtype.width()).next_multiple_of(8)
    }

    /// Where the bits begin.
    pub(super) fn mask_at(&self) -> u64 {
        self.offsets_at() + (self.documents + 1) * 8
    }

    /// How many bytes the shard has.
    pub(super) fn size(&self) -> u64 {
        self.mask_at() + if self.mask { self.tokens.div_ceil(8) } else { 0 }
    }

    /// The header as it stands in the file.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).ok()?;
        let room = (HEADER as usize).checked_sub(bytes.len() + 1)?;
        bytes.extend(std::iter::repeat_n(b' ', room));
        bytes.push(b'\n');
        Some(bytes)
    }

    /// What is wrong with the numbers, if anything.
    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is `{}`, and `{FORMAT}` is read", self.format));
        }
        if self.vocab_size == 0 || self.dtype != Dtype::of(self.vocab_size) {
            return Err(format!("a vocabulary of {} does not go with its dtype", self.vocab_size));
        }
        if !is_digest(&self.tokenizer) {
            return Err("its `tokenizer` is no SHA-256 in hexadecimal".into());
        }
        if self.tokens > MOST_TOKENS || self.documents > self.tokens {
            return Err(format!("{} documents cannot have {} tokens", self.documents, self.tokens));
        }
        Ok(())
    }

    /// Reads the header of a shard.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let header: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("its header is damaged: {error}"))?;
        header.check()?;
        Ok(header)
    }
}

impl Index {
    /// Reads an index.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let index: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no index: {error}"))?;
        index.header(index.documents, index.tokens).check()?;
        let (mut documents, mut tokens) = (0_u64, 0_u64);
        for (place, part) in index.shards.iter().enumerate() {
            // A name of its own choice could lead anywhere.
            if part.file != shard_name(place) {
                return Err(format!("shard {place} should be named `{}`", shard_name(place)));
            }
            documents = documents.saturating_add(part.documents);
            tokens = tokens.saturating_add(part.tokens);
        }
        if (documents, tokens) != (index.documents, index.tokens) {
            return Err("its shards do not add up to what it says".into());
        }
        Ok(index)
    }

    /// The header that a shard of so much should have.
    pub(super) fn header(&self, documents: u64, tokens: u64) -> Header {
        Header {
            format: self.format.clone(),
            dtype: self.dtype,
            documents,
            tokens,
            mask: self.mask,
            vocab_size: self.vocab_size,
            tokenizer: self.tokenizer.clone(),
        }
    }
}
