//! The tokens: 256 bytes and the merges, each with its bytes.
//!
//! Purpose: what training learnt or a file holds, checked once, ready for look-up.
//! Invariant: token `256 + i` is merge `i`; no two tokens have the same bytes, and the bytes of every
//! token encode to that token alone, so a piece that is a token needs no merging.
//! Must not know: special tokens, split patterns, files.

use super::TokenizerError;
use super::encode::Merger;
use super::hash::{Map, pair_key};

/// The longest token that training makes and a file may hold.
pub(super) const MAX_TOKEN_BYTES: usize = 1024;

/// The tokens but for the special ones.
#[derive(Debug)]
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token's bytes end in `bytes`.
    ends: Vec<u32>,
    merges: Vec<(u32, u32)>,
    whole: Map<Box<[u8]>, u32>,
    pairs: Map<u64, u32>,
}

impl Vocabulary {
    /// The vocabulary of these merges; refuses merges that no training makes.
    pub(super) fn from_merges(merges: Vec<(u32, u32)>) -> Result<Self, TokenizerError> {
        let mut vocabulary = Self::of_bytes();
        for (index, &(left, right)) in merges.iter().enumerate() {
            vocabulary.add(left, right).map_err(|what| TokenizerError::Merge { index, what })?;
        }
        vocabulary.merges = merges;
        vocabulary.check_reachable()?;
        Ok(vocabulary)
    }

    fn of_bytes() -> Self {
        Self {
            bytes: (0..=255).collect(),
            ends: (1..=256).collect(),
            merges: Vec::new(),
            whole: (0..=255u8).map(|byte| (Box::from([byte]), byte.into())).collect(),
            pairs: Map::default(),
        }
    }

    fn add(&mut self, left: u32, right: u32) -> Result<(), String> {
        let made = self.ends.len() as u32;
        let (Some(head), Some(tail)) = (self.bytes_of(left), self.bytes_of(right)) else {
            return Err(format!("it joins {left} and {right}, but only {made} tokens stand before it"));
        };
        let joined: Box<[u8]> = [head, tail].concat().into();
        if joined.len() > MAX_TOKEN_BYTES {
            return Err(format!("its token is longer than {MAX_TOKEN_BYTES} bytes"));
        }
        self.bytes.extend_from_slice(&joined);
        self.ends.push(self.bytes.len() as u32);
        if self.pairs.insert(pair_key(left, right), made).is_some() {
            return Err(format!("{left} and {right} are joined twice"));
        }
        match self.whole.insert(joined, made) {
            Some(known) => Err(format!("its bytes are token {known} already")),
            None => Ok(()),
        }
    }

    fn check_reachable(&self) -> Result<(), TokenizerError> {
        let mut merger = Merger::default();
        let mut ids = Vec::new();
        for index in 0..self.merges.len() {
            let token = 256 + index as u32;
            ids.clear();
            merger.merge(self, self.bytes_of(token).unwrap_or_default(), &mut ids);
            if ids != [token] {
                let what = "no text can give its token, for earlier merges take its bytes".into();
                return Err(TokenizerError::Merge { index, what });
            }
        }
        Ok(())
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The merges, in the order of their making.
    pub(super) fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// The bytes of a token, if there is such a token.
    pub(super) fn bytes_of(&self, token: u32) -> Option<&[u8]> {
        let end = *self.ends.get(token as usize)? as usize;
        let start = if token == 0 { 0 } else { self.ends[token as usize - 1] as usize };
        Some(&self.bytes[start..end])
    }

    /// The token with these bytes.
    pub(super) fn whole(&self, bytes: &[u8]) -> Option<u32> {
        self.whole.get(bytes).copied()
    }

    /// The token that the pair merges to, which is also the merge's rank.
    pub(super) fn joined(&self, left: u32, right: u32) -> Option<u32> {
        self.pairs.get(&pair_key(left, right)).copied()
    }
}
