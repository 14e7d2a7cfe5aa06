//! Training: which pairs become tokens.
//!
//! Purpose: the most frequent adjacent pair becomes a token, over and over (Sennrich 2016), with
//! exact incremental counts: a merge touches only the places where its pair stands.
//! Invariant: among pairs of equal count the one with the smaller left id wins, then the one with
//! the smaller right id; so the merges depend on the counts of the pieces alone, not on threads or
//! the order of texts. Every window counts (`aaa` holds `aa` twice); a pair merges from left to right.
//! Must not know: files, special tokens beyond their number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::hash::{Map, pair_key};
use super::vocabulary::MAX_TOKEN_BYTES;
use super::{Pattern, TokenizerError};

/// How to train.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Bytes, merges and special tokens together; text that holds fewer merges gives fewer tokens.
    pub vocab_size: usize,
    /// How text is split.
    pub pattern: Pattern,
    /// A pair seen less often than this becomes no token; at least 1.
    pub min_count: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self { vocab_size: 8192, pattern: Pattern::default(), min_count: 2 }
    }
}

/// A slot that is the inside of a token, or the border of a word.
const NONE: u32 = u32::MAX;

/// One byte of a distinct word. The first and the last slot of a token hold its id, so that both
/// neighbours of a place are found without links.
#[derive(Clone, Copy)]
struct Slot {
    token: u32,
    word: u32,
}

/// What is known of a pair of tokens.
#[derive(Default)]
struct Pair {
    count: u64,
    /// Slots where the pair stood when it was noted; it may have been merged away since.
    places: Vec<u32>,
}

/// A pair in the queue: the largest count first, then the smallest ids.
type Candidate = (u64, Reverse<(u32, u32)>);

/// The up to `merges` most frequent pairs, in the order of their making.
pub(super) fn learn_merges(
    words: Map<Box<str>, u64>,
    merges: usize,
    min_count: u64,
) -> Result<Vec<(u32, u32)>, TokenizerError> {
    let mut state = State::new(words)?;
    let mut queue: BinaryHeap<Candidate> =
        state.pairs.iter().map(|(&key, pair)| (pair.count, Reverse(split_key(key)))).collect();
    let mut learnt = Vec::with_capacity(merges);
    while learnt.len() < merges {
        let Some((count, Reverse((left, right)))) = queue.pop() else { break };
        let now = state.count(left, right);
        if now != count {
            // Counts only fall once noted: put it back where it belongs now.
            if now >= min_count.max(1) {
                queue.push((now, Reverse((left, right))));
            }
            continue;
        }
        if count < min_count.max(1) {
            break;
        }
        if state.lengths[left as usize] + state.lengths[right as usize] > MAX_TOKEN_BYTES {
            continue;
        }
        state.merge(left, right, &mut queue);
        learnt.push((left, right));
    }
    Ok(learnt)
}

fn split_key(key: u64) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}

/// The words as they stand after the merges so far.
struct State {
    slots: Vec<Slot>,
    /// How often each word occurs.
    weights: Vec<u64>,
    /// The length in bytes of each token.
    lengths: Vec<usize>,
    pairs: Map<u64, Pair>,
}

impl State {
    fn new(words: Map<Box<str>, u64>) -> Result<Self, TokenizerError> {
        let bytes: usize = words.keys().map(|word| word.len() + 1).sum();
        if bytes >= NONE as usize {
            return Err(TokenizerError::TooMuchText);
        }
        let mut slots = Vec::with_capacity(bytes + 1);
        let mut weights = Vec::with_capacity(words.len());
        slots.push(Slot { token: NONE, word: NONE });
        for (index, (word, weight)) in words.into_iter().enumerate() {
            let word_index = index as u32;
            slots.extend(word.bytes().map(|byte| Slot { token: byte.into(), word: word_index }));
            slots.push(Slot { token: NONE, word: NONE });
            weights.push(weight);
        }
        let mut pairs: Map<u64, Pair> = Map::default();
        for (place, both) in slots.windows(2).enumerate() {
            if both[0].token != NONE && both[1].token != NONE {
                let pair = pairs.entry(pair_key(both[0].token, both[1].token)).or_default();
                pair.count += weights[both[0].word as usize];
                pair.places.push(place as u32);
            }
        }
        Ok(Self { slots, weights, lengths: vec![1; 256], pairs })
    }

    fn count(&self, left: u32, right: u32) -> u64 {
        self.pairs.get(&pair_key(left, right)).map_or(0, |pair| pair.count)
    }

    /// Makes the pair a token wherever it stands, and queues the pairs that this brings about.
    fn merge(&mut self, left: u32, right: u32, queue: &mut BinaryHeap<Candidate>) {
        let places = self.pairs.remove(&pair_key(left, right)).unwrap_or_default().places;
        let made = self.lengths.len() as u32;
        let (left_bytes, right_bytes) = (self.lengths[left as usize], self.lengths[right as usize]);
        self.lengths.push(left_bytes + right_bytes);
        let mut news: Map<u64, Pair> = Map::default();
        for place in places {
            let start = place as usize;
            let middle = start + left_bytes;
            if self.slots[start].token != left || self.slots[middle].token != right {
                continue;
            }
            let end = middle + right_bytes;
            self.neighbours(start, end, (left, right, made), &mut news);
            self.slots[middle - 1].token = NONE;
            self.slots[middle].token = NONE;
            self.slots[start].token = made;
            self.slots[end - 1].token = made;
        }
        for (key, pair) in news {
            if pair.count > 0 {
                queue.push((pair.count, Reverse(split_key(key))));
                self.pairs.insert(key, pair);
            }
        }
    }

    /// Moves the counts of the pairs on both sides of one place from the old tokens to the new one.
    fn neighbours(
        &mut self,
        start: usize,
        end: usize,
        (left, right, made): (u32, u32, u32),
        news: &mut Map<u64, Pair>,
    ) {
        let weight = self.weights[self.slots[start].word as usize];
        let before = self.slots[start - 1].token;
        if before != NONE {
            self.lower(pair_key(before, left), weight, news);
            let pair = news.entry(pair_key(before, made)).or_default();
            pair.count += weight;
            pair.places.push((start - self.lengths[before as usize]) as u32);
        }
        let after = self.slots[end].token;
        if after != NONE {
            self.lower(pair_key(right, after), weight, news);
            let pair = news.entry(pair_key(made, after)).or_default();
            pair.count += weight;
            pair.places.push(start as u32);
        }
    }

    /// One place less for a pair, which may be one that this very merge brought about.
    fn lower(&mut self, key: u64, weight: u64, news: &mut Map<u64, Pair>) {
        let pair = self.pairs.get_mut(&key).or_else(|| news.get_mut(&key));
        if let Some(pair) = pair {
            pair.count -= weight;
        }
    }
}
