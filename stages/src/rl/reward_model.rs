//! A decoder with a scalar head: the reward model, and the value model that starts from it.
//!
//! Purpose: scores of responses, and what is done with the head after training.
//! Invariant: a response's score is read at its last real token, found from its length; nothing
//! else of the row matters.
//! Must not know: losses, stages.

use crate::context::StageError;
use crate::kernels::flat::Flat;
use crate::model::{Network, Readout, TokenRow};

/// A score is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the scores of the reward model are not finite: its weights have grown without bound; train it with a smaller \
     learning rate"
)]
pub struct ScoreError;

impl From<ScoreError> for StageError {
    fn from(e: ScoreError) -> Self {
        Self::failed(e)
    }
}

impl ScoreError {
    /// The scores, if all are finite.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(scores: Vec<f32>) -> Result<Vec<f32>, Self> {
        if scores.iter().all(|score| score.is_finite()) { Ok(scores) } else { Err(Self) }
    }
}

/// A network with a scalar head.
#[derive(Debug, Clone)]
pub struct RewardModel(pub Network);

impl RewardModel {
    /// The scores of any number of rows.
    ///
    /// # Errors
    /// When one is not finite.
    pub fn score_all(&self, rows: &[TokenRow]) -> Result<Vec<f32>, ScoreError> {
        let scores = rows.chunks(64).flat_map(|part| self.0.outputs(part, Readout::Scores)).collect();
        ScoreError::check(scores)
    }

    /// Makes every score `gain score + offset`.
    pub fn rescaled(mut self, gain: f64, offset: f64) -> Self {
        let mut weights = self.0.trained().values().into_owned();
        if let Some(head) = self.0.value_head() {
            for at in head.weight.clone().chain(head.bias.clone().into_iter().flatten()) {
                weights[at] = (f64::from(weights[at]) * gain) as f32;
            }
            for at in head.bias.clone().into_iter().flatten() {
                weights[at] = (f64::from(weights[at]) + offset) as f32;
            }
        }
        *self.0.trained_mut() = Flat::new(weights, self.0.device());
        self
    }
}
