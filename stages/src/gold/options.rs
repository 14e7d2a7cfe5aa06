//! The params of the gold reward.
//!
//! Purpose: the part `gold: {rule, ..}` of the kinds that score replies.
//! Invariant: a default is what the real-text pipeline was measured with.
//! Must not know: how a score is made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A speech that could stand in the corpus `lexicon`.
    #[default]
    Verse,
    /// A reply of a sensible length that matches `pattern`; no corpus is needed.
    Format,
}

/// Which rule scores replies, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GoldOptions {
    /// The rule.
    pub rule: Rule,
    /// Of the rule `format`: a regular expression that the whole reply has to match; none lets any reply match.
    #[schemars(length(max = 4096))]
    pub pattern: Option<String>,
    /// The fewest words of a reply of sensible length.
    #[schemars(range(min = 1))]
    pub least_words: u32,
    /// The most words of a reply of sensible length; one of twice as many gets nothing for it.
    #[schemars(range(min = 1))]
    pub most_words: u32,
    /// How rare a content word is at least, in bits: 9 means one in 512 words of the corpus.
    #[schemars(range(min = 0.0, max = 32.0))]
    pub content_bits: f64,
    /// What each part is worth.
    pub weights: Weights,
}

/// What each part is worth, from 0 (ignored) to 1: a part at 0 costs that share of the score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// A match of the pattern.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub pattern: f64,
    /// Words that the corpus knows.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub known: f64,
    /// Words that follow one another as they do in the corpus.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub order: f64,
    /// A sensible number of words.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub length: f64,
    /// A full stop, question mark or exclamation mark at the end.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub closing: f64,
    /// A capital letter at the start.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub capital: f64,
    /// No pair of words said twice.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub repetition: f64,
    /// Content words, not only the small safe ones.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub content: f64,
    /// Words of its own, not the prompt's said again.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub own: f64,
    /// A content word of the prompt taken up.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub relation: f64,
    /// Not what is said to every other prompt as well.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fresh: f64,
}

impl Weights {
    /// The weights with their names.
    pub fn named(&self) -> [(&'static str, f64); 11] {
        [
            ("pattern", self.pattern),
            ("known", self.known),
            ("order", self.order),
            ("length", self.length),
            ("closing", self.closing),
            ("capital", self.capital),
            ("repetition", self.repetition),
            ("content", self.content),
            ("own", self.own),
            ("relation", self.relation),
            ("fresh", self.fresh),
        ]
    }

    /// A score from parts with their names, each in [0, 1]: the product of (1 - weight x (1 - part)), so that no strength pays
    /// for a weakness.
    pub(super) fn product(&self, parts: &[(&'static str, f64)]) -> f64 {
        let weights = self.named();
        let weight =
            |name| weights.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, weight)| *weight);
        parts.iter().map(|(name, part)| 1.0 - weight(*name) * (1.0 - part)).product()
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            pattern: 0.8,
            known: 0.9,
            order: 0.8,
            length: 0.7,
            closing: 0.4,
            capital: 0.2,
            repetition: 0.7,
            content: 0.7,
            own: 0.5,
            // People seldom say the other's word again, so this is for made-up text only.
            relation: 0.0,
            fresh: 0.8,
        }
    }
}

impl Default for GoldOptions {
    fn default() -> Self {
        Self {
            rule: Rule::Verse,
            pattern: None,
            least_words: 4,
            most_words: 30,
            content_bits: 9.0,
            weights: Weights::default(),
        }
    }
}
