//! The tokenizer as the stages see it.
//!
//! Purpose: one cheaply cloned handle to vocabulary, pattern and special tokens.
//! Invariant: `decode_bytes(encode_bytes(x)) == x` for any bytes.
//! Must not know: how the parts work.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::chat::SPECIALS;
use super::decode::StreamDecoder;
use super::vocabulary::{MAX_TOKEN_BYTES, Vocabulary};
use super::{Pattern, TokenizerError, TrainOptions, count, encode, file, train};

/// The largest vocabulary that is trained or read.
pub(super) const MAX_VOCAB: usize = 1 << 20;
/// The smallest: bytes and special tokens.
pub const LEAST_VOCAB: usize = 256 + SPECIALS.len();

/// A trained byte-level BPE tokenizer; clones share it, threads may too.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    vocabulary: Vocabulary,
    pattern: Pattern,
}

/// What training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Said when the vocabulary is smaller than was asked for, in words for the log.
    pub note: Option<String>,
}

impl Tokenizer {
    /// Learns a vocabulary from texts. It comes out smaller than asked for, with a note, when the
    /// texts hold too few repeated pairs; a size that no text could give is an error.
    pub fn train<I>(texts: I, options: &TrainOptions) -> Result<Trained, TokenizerError>
    where
        I: IntoIterator,
        I::Item: AsRef<str> + Send + Sync,
    {
        let asked = options.vocab_size;
        if !(LEAST_VOCAB..=MAX_VOCAB).contains(&asked) {
            return Err(TokenizerError::VocabSize { asked, least: LEAST_VOCAB, most: MAX_VOCAB });
        }
        let words = count::count_pieces(texts, options.pattern);
        let merges = train::learn_merges(words, asked - LEAST_VOCAB, options.min_count)?;
        let tokenizer = Self::from_merges(merges, options.pattern)?;
        let got = tokenizer.vocab_size();
        let note = (got < asked).then(|| {
            let pairs = options.min_count.max(1);
            format!(
                "vocab_size {asked} is more than the text gives: no pair is left that occurs {pairs} times \
                 and makes a token of at most {MAX_TOKEN_BYTES} bytes, so the vocabulary has {got} tokens"
            )
        });
        Ok(Trained { tokenizer, note })
    }

    /// The tokenizer of these merges.
    pub(super) fn from_merges(merges: Vec<(u32, u32)>, pattern: Pattern) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::from_merges(merges)?;
        Ok(Self { shared: Arc::new(Shared { vocabulary, pattern }) })
    }

    /// Reads `tokenizer.json` in `folder`, which may come from anywhere.
    pub fn load(folder: &Path) -> Result<Self, TokenizerError> {
        file::load(folder)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `folder`, which is made if missing.
    pub fn save(&self, folder: &Path) -> Result<(), TokenizerError> {
        file::save(self, folder)
    }

    /// The content of the file that describes it.
    ///
    /// # Errors
    /// Those of writing JSON.
    pub fn file(&self) -> Result<Vec<u8>, serde_json::Error> {
        file::bytes(self)
    }

    /// The tokens of a text; never a special one.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        encode::encode(&self.shared.vocabulary, self.shared.pattern, text)
    }

    /// The tokens of many texts, in parallel.
    pub fn encode_batch(&self, texts: &[&str]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text)).collect()
    }

    /// The tokens of any bytes; where they are not UTF-8, merges within the bad stretch only.
    pub fn encode_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut merger = encode::Merger::default();
        for chunk in bytes.utf8_chunks() {
            ids.extend(self.encode(chunk.valid()));
            merger.merge(&self.shared.vocabulary, chunk.invalid(), &mut ids);
        }
        ids
    }

    /// The text of tokens, with a replacement character for bytes that are not UTF-8. Special tokens
    /// are marks, not text: they are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// The bytes of tokens. Special tokens have none; an id that is no token (a padded model head can
    /// choose one) shows as a replacement character.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            self.append_bytes(id, &mut bytes);
        }
        bytes
    }

    /// The text of tokens with special tokens spelt out, for people to look at.
    pub fn decode_marked(&self, ids: &[u32]) -> String {
        let spelt = |&id: &u32| match SPECIALS.get((id as usize).wrapping_sub(self.shared.vocabulary.len())) {
            Some(special) => special.as_bytes().to_vec(),
            None => self.decode_bytes(&[id]),
        };
        String::from_utf8_lossy(&ids.iter().flat_map(spelt).collect::<Vec<u8>>()).into_owned()
    }

    /// A decoder for tokens that come one by one.
    pub fn stream_decoder(&self) -> StreamDecoder {
        StreamDecoder::new(self.clone())
    }

    /// The number of tokens: bytes, merges and special tokens.
    pub fn vocab_size(&self) -> usize {
        self.shared.vocabulary.len() + SPECIALS.len()
    }

    /// Whether another tokenizer gives every text the same ids.
    pub fn has_ids_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.shared, &other.shared);
        ours.pattern == theirs.pattern && ours.vocabulary.merges() == theirs.vocabulary.merges()
    }

    /// How text is split.
    pub fn pattern(&self) -> Pattern {
        self.shared.pattern
    }

    pub(super) fn append_bytes(&self, id: u32, bytes: &mut Vec<u8>) {
        match self.shared.vocabulary.bytes_of(id) {
            Some(token) => bytes.extend_from_slice(token),
            None if (id as usize) < self.vocab_size() => {}
            None => bytes.extend_from_slice("\u{fffd}".as_bytes()),
        }
    }

    pub(super) fn special(&self, index: u32) -> u32 {
        self.shared.vocabulary.len() as u32 + index
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.shared.vocabulary
    }
}
