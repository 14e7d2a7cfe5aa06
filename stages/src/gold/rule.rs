//! The gold reward as the stages call it.
//!
//! Purpose: make a rule from its name, texts and options; score one reply or a set of them.
//! Invariant: 1 is the best and -1 the worst score; whatever is asked, a score is finite.
//! Must not know: where replies come from.

use super::format::Format;
use super::verse::Verse;
use super::{GoldOptions, Rule, Weights};

/// A reply to score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What was asked.
    pub prompt: &'a str,
    /// What was answered.
    pub text: &'a str,
    /// True when the answer ended with the stop token.
    pub finished: bool,
}

/// What is wrong with the options or texts of a rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GoldError {
    /// No words to learn from.
    #[error("the gold rule's corpus has no words; give it the text that replies should resemble")]
    NoWords,
    /// A weight that is none.
    #[error("gold.weights.{name} is {value}; it must lie between 0 and 1")]
    Weight {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// Lengths that fit no reply.
    #[error("gold.least_words is {least} and gold.most_words {most}; give 1 <= least_words <= most_words")]
    Lengths {
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A pattern that cannot be compiled.
    #[error("gold.pattern: {0}")]
    Pattern(String),
    /// A rarity that is no number of bits.
    #[error("gold.content_bits is {0}; it must be a number of bits from 0 to 32")]
    ContentBits(f64),
}

/// A rule, ready to score.
#[derive(Debug, Clone)]
pub struct Gold {
    rule: Kind,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Kind {
    Verse(Verse),
    Format(Format),
}

/// The parts of a score with their names, each in [0, 1].
pub type Parts = Vec<(&'static str, f64)>;

impl Gold {
    /// Makes the rule that the options name, with what it learns from texts (for `verse`: the
    /// corpus that replies should resemble, without anything that is held out; `format` needs none).
    ///
    /// # Errors
    /// [`GoldError`] names the option or input that is wrong.
    pub fn new<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
        options: &GoldOptions,
    ) -> Result<Self, GoldError> {
        for (name, value) in options.weights.named() {
            if !(0.0..=1.0).contains(&value) {
                return Err(GoldError::Weight { name, value });
            }
        }
        let (least, most) = (options.least_words, options.most_words);
        if least == 0 || least > most {
            return Err(GoldError::Lengths { least, most });
        }
        if !(0.0..=32.0).contains(&options.content_bits) {
            return Err(GoldError::ContentBits(options.content_bits));
        }
        let rule = match options.rule {
            Rule::Verse => Kind::Verse(Verse::new(texts, options).ok_or(GoldError::NoWords)?),
            Rule::Format => Kind::Format(Format::new(options)?),
        };
        Ok(Self { rule, weights: options.weights })
    }

    /// The score of one reply by itself, in [-1, 1]: how fresh it is beside others is not seen.
    pub fn score(&self, prompt: &str, text: &str, finished: bool) -> f64 {
        let parts = match &self.rule {
            Kind::Verse(verse) => verse.parts(prompt, text).named().to_vec(),
            Kind::Format(format) => format.parts(text),
        };
        self.total(&parts, finished)
    }

    /// The parts of each reply of a set. The set is what one model said to
    /// many prompts: of `verse`, a model that says the same to all of them loses by `fresh`.
    pub fn parts_of_all(&self, replies: &[Reply<'_>]) -> Vec<Parts> {
        match &self.rule {
            Kind::Verse(verse) => {
                verse.parts_of_all(replies).iter().map(|parts| parts.named().to_vec()).collect()
            }
            Kind::Format(format) => replies.iter().map(|reply| format.parts(reply.text)).collect(),
        }
    }

    /// The score of each reply of a set, in [-1, 1].
    pub fn score_all(&self, replies: &[Reply<'_>]) -> Vec<f64> {
        let parts = self.parts_of_all(replies);
        replies.iter().zip(&parts).map(|(reply, parts)| self.total(parts, reply.finished)).collect()
    }

    fn total(&self, parts: &Parts, finished: bool) -> f64 {
        if finished { self.weights.product(parts) } else { -1.0 }
    }
}
