//! What the good texts know of words.
//!
//! Purpose: counts of words and of pairs of neighbours in a corpus, and the two measures made from
//! them: how rare a word is, and how well one word follows another.
//! Invariant: a measure depends on the texts alone, not on their order.
//! Must not know: which rule asks, what a reply is.

use std::collections::HashMap;

use super::words::words;

/// Weight of the pair's own count against the word's in P(word | word before).
const PAIR_WEIGHT: f64 = 0.5;
/// One surprising pair counts for at most this many nats, so that a single rare idiom buys little.
const STRONGEST_BOND: f64 = 4.0;

/// Counts of words and neighbours.
#[derive(Debug, Clone, Default)]
pub struct Lexicon {
    numbers: HashMap<String, u32>,
    counts: Vec<u32>,
    pairs: HashMap<(u32, u32), u32>,
    total: u64,
}

impl Lexicon {
    /// Counts the words of texts; neighbours are counted within a paragraph.
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut lexicon = Self::default();
        for text in texts {
            for paragraph in text.as_ref().split("\n\n") {
                lexicon.count(paragraph);
            }
        }
        lexicon
    }

    fn count(&mut self, paragraph: &str) {
        let mut before = None;
        for word in words(paragraph) {
            let next = self.counts.len() as u32;
            let number = *self.numbers.entry(word).or_insert(next);
            if number == next {
                self.counts.push(0);
            }
            self.counts[number as usize] += 1;
            self.total += 1;
            if let Some(before) = before.replace(number) {
                *self.pairs.entry((before, number)).or_default() += 1;
            }
        }
    }

    /// True when no word was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The number of a known word.
    pub fn number(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// How often a word stands in the texts.
    pub fn occurrences(&self, word: &str) -> u32 {
        self.number(word).map_or(0, |number| self.counts[number as usize])
    }

    /// How rare a known word is: -log2 of its share of all words, in bits; none for unknown words.
    pub fn rarity(&self, word: &str) -> Option<f64> {
        let count = self.occurrences(word);
        (count > 0).then(|| (self.total as f64 / f64::from(count)).log2())
    }

    /// How much likelier `word` is after `before` than anywhere: ln P(word | before) / P(word) in
    /// nats, with P(word | before) halfway between the pair's share and the word's own. Words that
    /// never met give ln 1/2, the lowest; an unknown word gives the same.
    pub fn bond(&self, before: &str, word: &str) -> f64 {
        let lowest = (1.0 - PAIR_WEIGHT).ln();
        let (Some(a), Some(b)) = (self.number(before), self.number(word)) else { return lowest };
        let pair = f64::from(self.pairs.get(&(a, b)).copied().unwrap_or(0));
        let follows = pair / f64::from(self.counts[a as usize]);
        let alone = f64::from(self.counts[b as usize]) / self.total as f64;
        (PAIR_WEIGHT * follows / alone + (1.0 - PAIR_WEIGHT)).ln().min(STRONGEST_BOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rarity_is_bits_of_surprise() {
        let lexicon = Lexicon::new(["a a a b", "c c c c"]);
        assert_eq!(lexicon.rarity("c"), Some(1.0));
        assert_eq!(lexicon.rarity("b"), Some(3.0));
        assert_eq!(lexicon.rarity("d"), None);
    }

    #[test]
    fn a_bond_compares_a_pair_with_chance() {
        // 8 words; b follows a in 2 of a's 2 occurrences; P(b) = 2/8.
        let lexicon = Lexicon::new(["a b", "a b", "c d c d"]);
        let expected = (0.5 * 1.0 / 0.25 + 0.5f64).ln();
        assert!((lexicon.bond("a", "b") - expected).abs() < 1e-12);
        assert!((lexicon.bond("b", "a") - 0.5f64.ln()).abs() < 1e-12);
        assert!((lexicon.bond("a", "zounds") - 0.5f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn words_of_two_paragraphs_are_no_neighbours() {
        let lexicon = Lexicon::new(["a\n\nb"]);
        assert!((lexicon.bond("a", "b") - 0.5f64.ln()).abs() < 1e-12);
    }
}
