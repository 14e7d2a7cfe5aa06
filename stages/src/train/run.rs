//! The loop of language-model training: base and SFT share it.
//!
//! Purpose: steps, learning rate, validation, samples, progress.
//! Invariant: killed after any step and started again, it ends with the same bytes.
//! Must not know: where rows come from (it is given a function of the step).

use super::lm::add_lm_loss;
use super::meter::Meter;
use super::optimizer::OptimizerParams;
use super::schedule::Schedule;
use super::state;
use super::trainer::Trainer;
use crate::context::{Context, StageError};
use crate::data::DataError;
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
    pub optimizer: &'a OptimizerParams,
    /// Rows that go through the model at once.
    pub micro_batch: usize,
    /// Steps between validations; 0 means only at the end.
    pub eval_every: u64,
    /// The rows of a step.
    pub batch: &'a dyn Fn(u64) -> Result<Vec<TokenRow>, DataError>,
    /// Measures the model on held-out data: name and value.
    pub validate: &'a dyn Fn(&Network) -> Result<Measured, StageError>,
    /// Shows what the model says, at the same steps.
    pub show: &'a dyn Fn(&Network, u64) -> Result<(), StageError>,
}

/// Trains; returns the model and its last validation.
///
/// # Errors
/// `Interrupted` after checkpointing on request; a failure when the loss is not finite.
pub fn train(ctx: &Context, model: Network, config: &TrainConfig) -> Result<(Network, Measured), StageError> {
    config.schedule.look(ctx, config.steps);
    let mut meter = Meter::new(&model);
    let trained = state::run(ctx, Trainer::new(model, config.optimizer), config.steps, |trainer, step| {
        let failed = |e: String| StageError::failed(format!("step {step}: {e}"));
        let rows = (config.batch)(step)?;
        let rate = config.learning_rate * config.schedule.at(step, config.steps);
        let loss = add_lm_loss(trainer, &rows, config.micro_batch, 1.0).map_err(failed)?;
        let norm = trainer.step(rate).map_err(failed)?;
        meter.add(&trainer.model, rows.iter().map(|row| row.ids.len() - 1));
        let (done, speed) = (step + 1, meter.tokens_per_second());
        ctx.progress(done, config.steps, || format!("loss {loss:.3}  {:.1}k tok/s", speed / 1000.0));
        if done % 10 == 0 || done == config.steps {
            ctx.metrics(done, ["train/loss", "train/lr", "train/grad_norm"], [loss, rate, norm]);
            ctx.metric(done, &meter.measurements());
        }
        if config.eval_every > 0 && done % config.eval_every == 0 && done < config.steps {
            ctx.metric(done, &(config.validate)(&trainer.model)?);
            (config.show)(&trainer.model, done).map_err(|e| failed(e.to_string()))?;
        }
        Ok(())
    })?;
    let last = (config.validate)(&trained.model)?;
    ctx.metric(config.steps, &last);
    (config.show)(&trained.model, config.steps)?;
    Ok((trained.model, last))
}
