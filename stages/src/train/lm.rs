//! The language-modelling loss of rows of tokens.
//!
//! Purpose: cross-entropy over chosen target tokens, its gradient over micro-batches.
//! Invariant: the mean runs over all target tokens of the optimizer step, so cutting a batch into
//! micro-batches changes nothing beyond rounding.
//! Must not know: where rows come from.

use super::trainer::Trainer;
use crate::context::StageError;
use crate::model::{Network, Readout, TokenRow};

/// What a language model is asked.
pub const LOGPROBS: Readout = Readout::LogProbs { temperature: 1.0 };

/// Adds the gradient of `coef` times the mean loss over all targets of `rows`; returns that mean, before `coef`.
///
/// `micro` rows go through the model at once.
///
/// # Errors
/// When a row has no target, or the loss is not finite; names the first row concerned.
pub fn add_lm_loss(trainer: &mut Trainer, rows: &[TokenRow], micro: usize, coef: f64) -> Result<f64, String> {
    if let Some(i) = rows.iter().position(|r| r.targets() == 0) {
        return Err(format!("row {i} of the batch has no target token: its loss is not defined"));
    }
    let scale = coef / rows.iter().map(TokenRow::targets).sum::<usize>() as f64;
    let mut loss = 0.0;
    for (i, part) in rows.chunks(micro.max(1)).enumerate() {
        let value = trainer.add(part, LOGPROBS, |logprobs| logprobs.sum() * -scale);
        loss += value.map_err(|e| format!("rows {} and after: {e}", i * micro))?;
    }
    Ok(loss / coef)
}

/// The summed loss and the number of targets of rows, without gradients.
///
/// # Errors
/// When the loss is not finite.
pub fn lm_loss(model: &Network, rows: &[TokenRow], micro: usize) -> Result<(f64, usize), StageError> {
    let parts = rows.chunks(micro.max(1)).map(|part| model.outputs(part, LOGPROBS));
    let sum: f64 = parts.map(|logprobs| -logprobs.into_iter().map(f64::from).sum::<f64>()).sum();
    match sum.is_finite() {
        true => Ok((sum, rows.iter().map(TokenRow::targets).sum())),
        false => {
            Err(StageError::failed(format!("the validation loss is {sum}: try a smaller learning rate")))
        }
    }
}

/// Rows that go through a model at once: all where the param is 0, and never more than there are.
pub fn micro_batch(param: usize, rows: usize) -> usize {
    if param == 0 { rows } else { param.min(rows) }
}
