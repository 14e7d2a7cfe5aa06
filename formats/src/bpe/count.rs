//! How often each distinct piece occurs in a body of text.
//!
//! Purpose: the only pass of training over all of the text.
//! Invariant: the counts depend on the pieces alone, not on threads, batches or the order of texts.
//! Must not know: merges.

use rayon::prelude::*;

use super::Pattern;
use super::hash::Map;
use super::pretokenize::stretches;

/// Bytes of text that are held at a time, beside what a single text has.
const BATCH: usize = 16 << 20;
/// Bytes of text that a thread takes at a time.
const STRETCH: usize = 512 << 10;

/// Counts the pieces of two bytes and more (shorter ones have nothing to merge) in `texts`.
pub(super) fn count_pieces<I>(texts: I, pattern: Pattern) -> Map<Box<str>, u64>
where
    I: IntoIterator,
    I::Item: AsRef<str> + Send + Sync,
{
    let mut total = Map::default();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for text in texts {
        bytes += text.as_ref().len();
        batch.push(text);
        if bytes >= BATCH {
            count_batch(&batch, pattern, &mut total);
            batch.clear();
            bytes = 0;
        }
    }
    count_batch(&batch, pattern, &mut total);
    total
}

fn count_batch<'t, S: AsRef<str> + Sync>(batch: &'t [S], pattern: Pattern, total: &mut Map<Box<str>, u64>) {
    let stretches: Vec<&str> = batch.iter().flat_map(|text| stretches(text.as_ref(), STRETCH)).collect();
    let share = stretches.len().div_ceil(rayon::current_num_threads()).max(1);
    let count = |share: &[&'t str]| {
        share.iter().fold(Map::default(), |counts, stretch| count_stretch(counts, stretch, pattern))
    };
    let parts: Vec<Map<&str, u64>> = stretches.par_chunks(share).map(count).collect();
    for (piece, count) in parts.into_iter().flatten() {
        match total.get_mut(piece) {
            Some(known) => *known += count,
            None => {
                total.insert(piece.into(), count);
            }
        }
    }
}

fn count_stretch<'a>(mut counts: Map<&'a str, u64>, stretch: &'a str, pattern: Pattern) -> Map<&'a str, u64> {
    for piece in pattern.pieces(stretch).filter(|piece| piece.len() > 1) {
        *counts.entry(piece).or_default() += 1;
    }
    counts
}
