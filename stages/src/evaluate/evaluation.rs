//! What the evaluation stage collects.
//!
//! Purpose: the plain data that a report is made from.
//! Invariant: a checked evaluation has one answer and one finite gold score a prompt and model.
//! Must not know: how a report looks.

use crate::data::Completion;

use super::best_of_n::Scored;

/// All that was measured.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// The held-out prompts.
    pub prompts: Vec<String>,
    /// Who answered, from the bottom of the ladder up: `base`, `sft`, `policy`, and `human` where
    /// people's answers are known.
    pub answers: Vec<Answers>,
    /// Samples of the SFT model scored by reward model and gold, by prompt; empty without a reward
    /// model.
    pub best_of_n: Vec<Vec<Scored>>,
    /// How many prompts the report shows with everybody's answers.
    pub shown: usize,
    /// The seed of the bootstrap.
    pub seed: u64,
}

/// One model's (or people's) answers.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Whose: `base`, `sft`, `policy`, `human`, ..
    pub name: String,
    /// One answer a prompt.
    pub replies: Vec<Completion>,
    /// The gold reward of each, in [-1, 1].
    pub gold: Vec<f64>,
    /// The gold rule's parts, mean over prompts, by name.
    pub parts: Vec<(String, f64)>,
    /// The loss on the validation text, for a language model.
    pub loss: Option<ValidationLoss>,
}

/// A loss on held-out text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValidationLoss {
    /// Mean cross-entropy a token, in nats.
    pub nats_per_token: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Bytes of text that those tokens stand for.
    pub bytes: u64,
}

impl ValidationLoss {
    /// The loss in bits a byte of text, which does not depend on the tokenizer.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats_per_token * self.tokens as f64 / (self.bytes.max(1) as f64 * std::f64::consts::LN_2)
    }
}

/// Why no report can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// Too little for an interval.
    #[error("{0} held-out prompts are too few for an interval; give at least 2, better 256")]
    TooFewPrompts(usize),
    /// Answers and prompts do not match.
    #[error("{name} has {replies} replies and {gold} gold scores for {prompts} prompts")]
    Unequal {
        /// Whose answers.
        name: String,
        /// Its replies.
        replies: usize,
        /// Its scores.
        gold: usize,
        /// The prompts.
        prompts: usize,
    },
    /// A score that is no number.
    #[error("the gold reward of {name} for prompt {prompt} is no number")]
    NotFinite {
        /// Whose answers.
        name: String,
        /// The prompt's number, from 1.
        prompt: usize,
    },
}

impl Evaluation {
    /// Checks that everybody answered every prompt.
    ///
    /// # Errors
    /// [`EvaluationError`] names whose answers do not fit.
    pub fn check(&self) -> Result<(), EvaluationError> {
        let prompts = self.prompts.len();
        if prompts < 2 {
            return Err(EvaluationError::TooFewPrompts(prompts));
        }
        for answers in &self.answers {
            let (name, replies, gold) = (answers.name.clone(), answers.replies.len(), answers.gold.len());
            if replies != prompts || gold != prompts {
                return Err(EvaluationError::Unequal { name, replies, gold, prompts });
            }
            if let Some(index) = answers.gold.iter().position(|score| !score.is_finite()) {
                return Err(EvaluationError::NotFinite { name, prompt: index + 1 });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_counts_bytes_not_tokens() {
        // ln 2 nats a token, 3 tokens for 12 bytes: a quarter of a bit a byte.
        let loss = ValidationLoss { nats_per_token: std::f64::consts::LN_2, tokens: 3, bytes: 12 };
        assert!((loss.bits_per_byte() - 0.25).abs() < 1e-12);
    }
}
