//! The loop of language-model training: base and SFT share it.
//!
//! Purpose: steps, learning rate, validation, samples, progress, checkpoints.
//! Invariant: killed after any step and started again, it ends with the same bytes.
//! Must not know: where rows come from (it is given a function of the step).

use std::time::Instant;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::adamw::{AdamW, AdamWParams};
use super::checkpoint::{Checkpoints, join_prefix, split_prefix};
use super::lm::{TokenRow, lm_grads};
use super::schedule::Schedule;
use crate::context::{Context, StageError};
use crate::generate::NotFinite;
use crate::model::Decoder;
use crate::model::io::{NamedTensors, named_tensors, with_tensors};

/// Measurements by name.
pub type Measured = Vec<(&'static str, f64)>;

/// What to train for.
pub struct Plan<'a> {
    /// Optimizer steps.
    pub steps: u64,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// How the rate runs.
    pub schedule: &'a Schedule,
    /// The optimizer's numbers.
    pub optimizer: &'a AdamWParams,
    /// Rows that go through the model at once.
    pub micro_batch: usize,
    /// Steps between validations; 0 means only at the end.
    pub eval_every: u64,
    /// The rows of a step.
    pub batch: &'a dyn Fn(u64) -> Vec<TokenRow>,
    /// Measures the model on held-out data: name and value.
    pub validate: &'a dyn Fn(&Decoder) -> Measured,
    /// Shows what the model says, at the same steps.
    pub show: &'a dyn Fn(&Decoder, u64) -> Result<(), NotFinite>,
}

#[derive(Serialize, Deserialize)]
struct Counters {
    step: u64,
    updates: u64,
}

/// Trains; returns the model and its last validation.
///
/// # Errors
/// `Interrupted` after checkpointing on request; a failure when the loss is not finite.
pub fn train(ctx: &Context, mut model: Decoder, plan: &Plan) -> Result<(Decoder, Measured), StageError> {
    let mut optimizer = AdamW::new(plan.optimizer.clone());
    let mut checkpoints = Checkpoints::new(ctx, 3 * model.num_params());
    let mut first = 0;
    if let Some(state) =
        checkpoints.resume(ctx, |counters, tensors| restored(&model, plan, counters, tensors))
    {
        (model, optimizer, first) = state;
    }
    plan.schedule.look(ctx, plan.steps);
    let mut tokens = 0usize;
    let start = Instant::now();
    let mut last = Vec::new();
    for step in first..plan.steps {
        checkpoints.save_if_due(ctx, || state(&model, &optimizer, step))?;
        let rows = (plan.batch)(step);
        let rate = plan.learning_rate * plan.schedule.at(step, plan.steps);
        let failed = |e: String| StageError::failed(format!("step {step}: {e}"));
        let (grads, loss) = lm_grads(&model, &rows, plan.micro_batch).map_err(failed)?;
        let norm;
        (model, norm) = optimizer.update(model, grads, rate).map_err(failed)?;
        tokens += rows.iter().map(TokenRow::targets).sum::<usize>();
        let done = step + 1;
        let speed = tokens as f64 / start.elapsed().as_secs_f64();
        ctx.progress(done, plan.steps, || format!("loss {loss:.3}  {:.1}k tok/s", speed / 1000.0));
        if done % 10 == 0 || done == plan.steps {
            ctx.metric(
                done,
                &[
                    ("train/loss", loss),
                    ("train/lr", rate),
                    ("train/grad_norm", norm),
                    ("train/tokens_per_second", speed),
                ],
            );
        }
        if done == plan.steps || (plan.eval_every > 0 && done % plan.eval_every == 0) {
            last = (plan.validate)(&model);
            ctx.metric(done, &last);
            (plan.show)(&model, done).map_err(|e| failed(e.to_string()))?;
        }
    }
    if first >= plan.steps {
        last = (plan.validate)(&model);
    }
    checkpoints.finish();
    Ok((model, last))
}

/// Model, optimizer and step of a checkpoint.
fn restored(
    model: &Decoder,
    plan: &Plan,
    counters: Counters,
    mut tensors: NamedTensors,
) -> Result<(Decoder, AdamW, u64), String> {
    let weights = split_prefix(&mut tensors, "model.");
    let mut optimizer = AdamW::new(plan.optimizer.clone());
    let device = model.device().inner();
    optimizer.restore("optimizer.", counters.updates, &mut tensors, &weights, &device)?;
    Ok((with_tensors(model.clone(), weights)?, optimizer, counters.step))
}

fn state(model: &Decoder, optimizer: &AdamW, step: u64) -> (Counters, NamedTensors) {
    let mut tensors = NamedTensors::new();
    join_prefix(&mut tensors, "model.", named_tensors(model));
    let updates = optimizer.state("optimizer.", &mut tensors);
    (Counters { step, updates }, tensors)
}
