//! What any reply can be held to.
//!
//! Purpose: the parts of a score that need no corpus: length, ending, capital, repetition.
//! Invariant: a part lies in [0, 1].
//! Must not know: which rule asks.

use super::GoldOptions;

/// Number of words: 1 from `least_words` to `most_words`, falling to 0 at none and at twice.
pub(super) fn length(options: &GoldOptions, words: usize) -> f64 {
    let (least, most) = (f64::from(options.least_words), f64::from(options.most_words));
    let words = words as f64;
    if words < least { words / least } else { 1.0 - ramp(words, most, 2.0 * most) }
}

/// 1 when the reply ends in `.`, `!` or `?`, perhaps within quotes.
pub(super) fn closing(reply: &str) -> f64 {
    truth(
        reply
            .trim_end()
            .trim_end_matches(['\'', '"', ')', '\u{2019}', '\u{201d}'])
            .ends_with(['.', '!', '?']),
    )
}

/// 1 when the first letter is a capital.
pub(super) fn capital(reply: &str) -> f64 {
    truth(reply.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_uppercase))
}

/// Share of distinct pairs of neighbours: 0 at .6, 1 from .95.
pub(super) fn repetition(said: &[String]) -> f64 {
    let pairs: Vec<_> = said.windows(2).collect();
    let mut distinct = pairs.clone();
    distinct.sort();
    distinct.dedup();
    if pairs.is_empty() { 1.0 } else { ramp(distinct.len() as f64 / pairs.len() as f64, 0.6, 0.95) }
}

/// 0 up to `low`, 1 from `high`, a straight line between.
pub(super) fn ramp(x: f64, low: f64, high: f64) -> f64 {
    ((x - low) / (high - low)).clamp(0.0, 1.0)
}

/// 1 for true.
pub(super) fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}
