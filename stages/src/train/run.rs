//! The loop of language-model training: base and SFT share it.
//!
//! Purpose: steps, learning rate, validation, samples, progress.
//! Invariant: killed after any step and started again, it ends with the same bytes.
//! Must not know: where rows come from (it is given a function of the step).

use super::adamw::AdamWParams;
use super::lm::add_lm_loss;
use super::meter::Meter;
use super::schedule::Schedule;
use super::state;
use super::trainer::Trainer;
use crate::context::{Context, StageError};
use crate::generate::NotFinite;
use crate::model::{Network, TokenRow};

/// Measurements by name.
pub type Measured = Vec<(&'static str, f64)>;

/// What to train for.
pub struct TrainConfig<'a> {
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
    pub validate: &'a dyn Fn(&Network) -> Result<Measured, StageError>,
    /// Shows what the model says, at the same steps.
    pub show: &'a dyn Fn(&Network, u64) -> Result<(), NotFinite>,
}

/// Trains; returns the model and its last validation.
///
/// # Errors
/// `Interrupted` after checkpointing on request; a failure when the loss is not finite.
pub fn train(ctx: &Context, model: Network, plan: &TrainConfig) -> Result<(Network, Measured), StageError> {
    plan.schedule.look(ctx, plan.steps);
    let mut meter = Meter::new(&model);
    let trained = state::run(ctx, Trainer::new(model, plan.optimizer), plan.steps, |trainer, step| {
        let failed = |e: String| StageError::failed(format!("step {step}: {e}"));
        let rows = (plan.batch)(step);
        let rate = plan.learning_rate * plan.schedule.at(step, plan.steps);
        let loss = add_lm_loss(trainer, &rows, plan.micro_batch, 1.0).map_err(failed)?;
        let norm = trainer.step(rate).map_err(failed)?;
        meter.add(&trainer.model, rows.iter().map(|row| row.ids.len() - 1));
        let (done, speed) = (step + 1, meter.tokens_per_second());
        ctx.progress(done, plan.steps, || format!("loss {loss:.3}  {:.1}k tok/s", speed / 1000.0));
        if done % 10 == 0 || done == plan.steps {
            ctx.metrics(done, ["train/loss", "train/lr", "train/grad_norm"], [loss, rate, norm]);
            ctx.metric(done, &meter.measurements());
        }
        if plan.eval_every > 0 && done % plan.eval_every == 0 && done < plan.steps {
            ctx.metric(done, &(plan.validate)(&trainer.model)?);
            (plan.show)(&trainer.model, done).map_err(|e| failed(e.to_string()))?;
        }
        Ok(())
    })?;
    let last = (plan.validate)(&trained.model)?;
    ctx.metric(plan.steps, &last);
    (plan.show)(&trained.model, plan.steps)?;
    Ok((trained.model, last))
}
