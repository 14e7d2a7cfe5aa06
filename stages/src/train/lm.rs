//! The language-modelling loss of rows of tokens.
//!
//! Purpose: cross-entropy over chosen target tokens, its gradient over micro-batches, and the
//! log-probabilities that the RL stage builds on.
//! Invariant: the mean runs over all target tokens of the optimizer step, so cutting a batch into
//! micro-batches changes nothing beyond rounding; logits are computed for target positions only.
//! Must not know: where rows come from.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};

use super::grads::Grads;
use crate::kernels;
use crate::model::{Decoder, Rows};

/// A row of tokens of which some are targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The tokens, without padding.
    pub ids: Vec<u32>,
    /// The first token that is a target (at least 1: nothing predicts token 0); all after it are.
    pub from: usize,
}

impl TokenRow {
    /// How many targets the row has.
    pub fn targets(&self) -> usize {
        self.ids.len().saturating_sub(self.from.max(1))
    }
}

/// The log-probabilities of all targets of rows, in order: `[sum of targets]`.
///
/// `temperature` divides the logits. Rows are padded on the right with token 0, which causal
/// attention hides.
pub fn target_logprobs(model: &Decoder, rows: &[TokenRow], temperature: f64) -> Tensor<1> {
    let (logits, targets) = target_logits(model, rows);
    let logits = if temperature == 1.0 { logits } else { logits / temperature };
    kernels::token_logprobs(logits, targets)
}

/// The logits that predict each target of rows, `[n, vocab]`, and the targets, `[n]`.
pub fn target_logits(model: &Decoder, rows: &[TokenRow]) -> (Tensor<2>, Tensor<1, Int>) {
    let device = model.device();
    // The last token of a row predicts nothing that is asked for.
    let inputs: Vec<&[u32]> = rows.iter().map(|r| &r.ids[..r.ids.len().saturating_sub(1)]).collect();
    let time = inputs.iter().map(|r| r.len()).max().unwrap_or(0);
    let mut positions = Vec::new();
    let mut targets = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        for t in row.from.max(1)..row.ids.len() {
            positions.push((i * time + t - 1) as i64);
            targets.push(i64::from(row.ids[t]));
        }
    }
    let hidden = model.hidden(Rows::right(&inputs, 0, &device), None);
    let [batch, _, width] = hidden.dims();
    let n = positions.len();
    let hidden = hidden.reshape([batch * time, width]);
    // When every position is a target, the selection would only copy.
    let picked = if n == batch * time {
        hidden
    } else {
        hidden.select(0, Tensor::from_data(TensorData::new(positions, [n]), &device))
    };
    (model.logits(picked), Tensor::from_data(TensorData::new(targets, [n]), &device))
}

/// The gradient of the mean loss over all targets of `rows`, and that loss.
///
/// `micro` rows go through the model at once.
///
/// # Errors
/// When no row has a target, or the loss is not finite; names the first row concerned.
pub fn lm_grads(model: &Decoder, rows: &[TokenRow], micro: usize) -> Result<(Grads, f64), String> {
    let total = targets_of(rows)?;
    let mut grads = Grads::default();
    let mut loss = 0.0;
    for (i, part) in rows.chunks(micro.max(1)).enumerate() {
        let part_loss = target_logprobs(model, part, 1.0).sum().neg() / total as f64;
        let value = f64::from(part_loss.clone().into_scalar::<f32>());
        if !value.is_finite() {
            return Err(format!(
                "the loss of rows {} and after is {value}: try a smaller learning rate",
                i * micro
            ));
        }
        loss += value;
        let mut gradients = part_loss.backward();
        grads.add(Grads::take(model, &mut gradients));
    }
    Ok((grads, loss))
}

/// The summed loss and the number of targets of rows, without gradients.
pub fn lm_loss(model: &Decoder, rows: &[TokenRow], micro: usize) -> (f64, usize) {
    let model = model.valid();
    let sums = rows
        .chunks(micro.max(1))
        .map(|part| f64::from(target_logprobs(&model, part, 1.0).sum().neg().into_scalar::<f32>()));
    (sums.sum(), rows.iter().map(TokenRow::targets).sum())
}

fn targets_of(rows: &[TokenRow]) -> Result<usize, String> {
    match rows.iter().position(|r| r.targets() == 0) {
        Some(i) => Err(format!("row {i} of the batch has no target token: its loss is not defined")),
        None => Ok(rows.iter().map(TokenRow::targets).sum()),
    }
}
