//! Text to tokens.
//!
//! Purpose: a piece that is a token is looked up; any other is merged, the earliest merge first and
//! the leftmost among equals, as Hugging Face `tokenizers` and tiktoken do.
//! Invariant: the ids depend on vocabulary, pattern and text alone; O(n log n) for any text.
//! Must not know: special tokens (text never gives one), files.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::Pattern;
use super::hash::Map;
use super::pretokenize::stretches;
use super::vocabulary::Vocabulary;

/// No token, no merge, no neighbour.
const NONE: u32 = u32::MAX;
/// Up to this many bytes a scan for the next merge beats a queue.
const SHORT: usize = 64;
/// Pieces whose merging is remembered while one text is encoded.
const REMEMBERED: usize = 1 << 16;
/// Texts longer than this are encoded in stretches of this size, in parallel.
const STRETCH: usize = 512 << 10;

/// The tokens of `text`.
pub(super) fn encode(vocabulary: &Vocabulary, pattern: Pattern, text: &str) -> Vec<u32> {
    if text.len() <= STRETCH {
        return encode_stretch(vocabulary, pattern, text);
    }
    let stretches: Vec<&str> = stretches(text, STRETCH).collect();
    let parts: Vec<Vec<u32>> =
        stretches.into_par_iter().map(|stretch| encode_stretch(vocabulary, pattern, stretch)).collect();
    parts.concat()
}

fn encode_stretch(vocabulary: &Vocabulary, pattern: Pattern, text: &str) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len() / 3);
    let mut merger = Merger::default();
    // Where in `ids` a piece that is no token was written before.
    let mut written: Map<&str, (usize, usize)> = Map::default();
    for piece in pattern.pieces(text) {
        if let Some(token) = vocabulary.whole(piece.as_bytes()) {
            ids.push(token);
        } else if let Some(&(start, end)) = written.get(piece) {
            ids.extend_from_within(start..end);
        } else {
            let start = ids.len();
            merger.merge(vocabulary, piece.as_bytes(), &mut ids);
            if written.len() < REMEMBERED {
                written.insert(piece, (start, ids.len()));
            }
        }
    }
    ids
}

/// Merges pieces; holds the scratch space between them.
#[derive(Default)]
pub(super) struct Merger {
    parts: Vec<Part>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

/// A token of a piece under way.
struct Part {
    token: u32,
    /// What it merges to with the next part, or NONE.
    merged: u32,
    previous: u32,
    next: u32,
}

impl Merger {
    /// Appends the tokens of `piece` to `ids`.
    pub(super) fn merge(&mut self, vocabulary: &Vocabulary, piece: &[u8], ids: &mut Vec<u32>) {
        self.parts.clear();
        self.parts.extend(piece.iter().enumerate().map(|(at, &byte)| Part {
            token: byte.into(),
            merged: match piece.get(at + 1) {
                Some(&next) => vocabulary.joined(byte.into(), next.into()).unwrap_or(NONE),
                None => NONE,
            },
            previous: if at == 0 { NONE } else { at as u32 - 1 },
            next: if at + 1 == piece.len() { NONE } else { at as u32 + 1 },
        }));
        if piece.len() <= SHORT {
            self.merge_by_scan(vocabulary);
            ids.extend(self.parts.iter().map(|part| part.token));
        } else {
            self.merge_by_queue(vocabulary);
            let mut at = 0;
            while let Some(part) = self.parts.get(at as usize) {
                ids.push(part.token);
                at = part.next;
            }
        }
    }

    /// Merges with the parts kept side by side (`previous` and `next` are not used).
    fn merge_by_scan(&mut self, vocabulary: &Vocabulary) {
        let parts = &mut self.parts;
        let join = |left: &Part, right: Option<&Part>| {
            right.and_then(|right| vocabulary.joined(left.token, right.token)).unwrap_or(NONE)
        };
        while let Some((at, merged)) =
            parts.iter().map(|part| part.merged).enumerate().min_by_key(|&(_, merged)| merged)
            && merged != NONE
        {
            parts[at].token = merged;
            parts.remove(at + 1);
            parts[at].merged = join(&parts[at], parts.get(at + 1));
            if at > 0 {
                parts[at - 1].merged = join(&parts[at - 1], parts.get(at));
            }
        }
    }

    /// Merges with a queue of candidates and linked parts.
    fn merge_by_queue(&mut self, vocabulary: &Vocabulary) {
        self.queue.clear();
        let candidates = self.parts.iter().enumerate().filter(|(_, part)| part.merged != NONE);
        self.queue.extend(candidates.map(|(at, part)| Reverse((part.merged, at as u32))));
        while let Some(Reverse((merged, at))) = self.queue.pop() {
            // A candidate whose parts have changed since has another `merged` now.
            if self.parts[at as usize].merged != merged {
                continue;
            }
            let gone = self.parts[at as usize].next;
            let next = self.parts[gone as usize].next;
            self.parts[gone as usize].merged = NONE;
            self.parts[at as usize].token = merged;
            self.parts[at as usize].next = next;
            if next != NONE {
                self.parts[next as usize].previous = at;
            }
            self.refresh(vocabulary, at);
            let previous = self.parts[at as usize].previous;
            if previous != NONE {
                self.refresh(vocabulary, previous);
            }
        }
    }

    /// Looks up what the part at `at` merges to now, and queues it.
    fn refresh(&mut self, vocabulary: &Vocabulary, at: u32) {
        let Part { token, next, .. } = self.parts[at as usize];
        let merged = match self.parts.get(next as usize) {
            Some(right) => vocabulary.joined(token, right.token).unwrap_or(NONE),
            None => NONE,
        };
        self.parts[at as usize].merged = merged;
        if merged != NONE {
            self.queue.push(Reverse((merged, at)));
        }
    }
}
