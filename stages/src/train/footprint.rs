//! The memory that training takes at least.
//!
//! Purpose: what cannot fit is refused before it is begun, with what would make it smaller; otherwise the system would end
//! the process without a word.
//! Invariant: a lower bound, so that nothing is refused that fits; swap space does not count.
//! Must not know: which stage trains.

use crate::context::{Context, StageError};
use crate::kernels::is_host;
use crate::model::cpu::tape::{Keep, keeps_logits, per_token};
use crate::model::{Dtype, Execution, ModelConfig};

/// Refuses the training of a model on the CPU, `tokens` of which go through it at once, if it takes more memory than there
/// is.
///
/// # Errors
/// How much it takes, how much there is, and what takes less.
pub fn check(
    ctx: &Context,
    config: &ModelConfig,
    tokens: usize,
    execution: Execution,
) -> Result<(), StageError> {
    let (Some(there), true) = (ctx.memory(), is_host(ctx.device())) else { return Ok(()) };
    // Weights, gradients and two moments; the masters of weights that are kept rounded.
    let flats = if execution.dtype == Dtype::Bfloat16 { 5 } else { 4 };
    let model = 4 * flats * u128::from(config.parameters());
    let keep = if execution.recompute { Keep::Inputs } else { Keep::Everything };
    let logits = if keeps_logits(config, keep) { config.vocab } else { 0 };
    let batch = 4 * (per_token(config, keep) + logits) as u128 * tokens as u128;
    if model + batch <= u128::from(there) {
        return Ok(());
    }
    let size = |bytes: u128| match bytes as f64 {
        bytes if bytes < 1e9 => format!("{:.0} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    };
    let less = match (model > u128::from(there), execution.recompute) {
        (true, _) => "choose a smaller `model`",
        (false, true) => "lower `micro_batch`",
        (false, false) => "lower `micro_batch`, or set `recompute: true`",
    };
    Err(StageError::failed(format!(
        "this needs at least {} of memory ({} for {} parameters with their gradients and moments, {} for {tokens} tokens that \
         go through the model at once), and there are {}: {less}",
        size(model + batch),
        size(model),
        config.parameters(),
        size(batch),
        size(u128::from(there))
    )))
}
