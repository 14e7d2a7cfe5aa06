//! `dpo`: the policy, straight from rankings, by direct preference optimisation.
//!
//! Purpose: SFT model and rankings in, policy out.
//! Invariant: the reward of a row is `kl_coef (log pi - log pi_ref)` of its response, and the loss that of a reward model
//! (Rafailov 2023, equation 7, for one pair a prompt). The order depends on (seed, pass) alone.
//! Must not know: who ranked.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::adapter;
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Judged, hold_out};
use crate::dialogue::{Ranked, batch_of, ranked};
use crate::kernels::host;
use crate::model::{Execution, LoraParams, Network, TokenRow};
use crate::rl::pairs::{accuracy, loss, margin};
use crate::rng::pass_batch;
use crate::train::lm::LOGPROBS;
use crate::train::{Decay, OptimizerParams, Schedule, Trainer, state};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Passes over the rankings.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Prompts a step, each with all its completions.
    #[schemars(range(min = 1))]
    pub prompts_per_batch: usize,
    /// How a batch goes through the model.
    #[serde(flatten)]
    pub execution: Execution,
    /// Trains an adapter of low rank in place of the model's own weights, which are frozen.
    pub lora: Option<LoraParams>,
    /// The peak learning rate.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub learning_rate: f64,
    /// How the rate runs.
    pub schedule: Schedule,
    /// The optimizer and its numbers.
    pub optimizer: OptimizerParams,
    /// How much a departure from the SFT model weighs (beta).
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0.0))]
    pub kl_coef: f64,
    /// The part of the rankings, at their end, that is held out.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// The seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            epochs: 1,
            prompts_per_batch: 8,
            execution: Execution::default(),
            lora: None,
            learning_rate: 1e-4,
            schedule: Schedule { decay: Decay::Linear, warmup: 10, min_lr_ratio: 0.0 },
            optimizer: OptimizerParams { weight_decay: 0.0, ..OptimizerParams::default() },
            kl_coef: 0.1,
            validation_fraction: 0.1,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    let model = input("model", &["checkpoint", "policy"], "the SFT model: start and reference");
    let inputs = vec![model, input("rankings", &["rankings"], "ranked completions")];
    let outputs = vec![output("policy", "policy", "the policy")];
    Entry::new("dpo", 3, "trains a policy on ranked completions with DPO", (inputs, outputs), run)
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let (model, tokenizer) = bundle::load(ctx.input("model")?, ctx.device())?;
    let model = adapter::start(model, params.lora.as_ref(), params.seed)?.executed(params.execution);
    let rankings: Vec<Judged> = data::read(ctx.input("rankings")?)?;
    let mut items = ranked(ctx, &tokenizer, &rankings, model.config().max_position_embeddings)?;
    let held_out =
        hold_out(&mut items, params.validation_fraction, "rankings").map_err(StageError::failed)?;
    ctx.log(format!("{} rankings to train on, {} held out", items.len(), held_out.len()));
    let steps = params.epochs.saturating_mul(items.len().div_ceil(params.prompts_per_batch) as u64);
    let policy = train(params, ctx, (&model, steps), &items)?;
    bundle::save(ctx.output("policy")?, &policy, &tokenizer, ctx.input("model")?)?;
    if held_out.is_empty() {
        return Ok(Summary::new());
    }
    let (rows, pairs) = batch_of(held_out.iter());
    let [now, before] = [&policy, &model].map(|model| response_logprobs(model, &rows));
    let rewards: Vec<f32> = now.iter().zip(before).map(|(x, y)| params.kl_coef as f32 * (x - y)).collect();
    let measured = [("accuracy", accuracy(&rewards, &pairs)), ("margin", margin(&rewards, &pairs))];
    ctx.metrics(steps, ["eval/rewards/accuracies", "eval/rewards/margins"], measured.map(|m| m.1));
    Ok(measured.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

fn train(
    params: &Params,
    ctx: &Context,
    (model, steps): (&Network, u64),
    items: &[Ranked],
) -> Result<Network, StageError> {
    params.schedule.look(ctx, steps);
    let trained = state::run(ctx, Trainer::new(model.clone(), &params.optimizer), steps, |trainer, step| {
        let failed = |e: String| StageError::failed(format!("step {step}: {e}"));
        let chosen = pass_batch(params.seed, "dpo", step, items.len(), params.prompts_per_batch);
        let (rows, pairs) = batch_of(chosen.iter().map(|&i| &items[i]));
        let reference = response_logprobs(model, &rows);
        let mut rewards = Vec::new();
        let value = trainer.add(&rows, LOGPROBS, |logprobs| {
            let reference = Tensor::from_floats(reference.as_slice(), &logprobs.device());
            let scores = (by_row(logprobs, &rows) - reference) * params.kl_coef;
            rewards = host(scores.clone().detach());
            loss(scores, &pairs, chosen.len())
        });
        let rate = params.learning_rate * params.schedule.at(step, steps);
        let (value, norm) = (value.map_err(failed)?, trainer.step(rate).map_err(failed)?);
        let (done, right) = (step + 1, accuracy(&rewards, &pairs));
        ctx.progress(done, steps, || format!("loss {value:.3}  accuracy {right:.2}"));
        if done % 5 == 0 || done == steps {
            let names = ["train/loss", "rewards/accuracies", "train/lr", "train/grad_norm"];
            ctx.metrics(done, names, [value, right, rate, norm]);
        }
        Ok(())
    })?;
    Ok(trained.model)
}

/// The log-probability of each row's response.
fn response_logprobs(model: &Network, rows: &[TokenRow]) -> Vec<f32> {
    let parts = rows.chunks(64).map(|part| {
        let all = model.outputs(part, LOGPROBS);
        host(by_row(Tensor::from_floats(all.as_slice(), model.device()), part))
    });
    parts.flatten().collect()
}

/// The sums over rows, `[rows]`, of one number a target, `[n]`.
fn by_row(logprobs: Tensor<1>, rows: &[TokenRow]) -> Tensor<1> {
    let mut at = 0;
    let sum = rows.iter().map(|row| {
        at += row.targets();
        logprobs.clone().narrow(0, at - row.targets(), row.targets()).sum()
    });
    Tensor::cat(sum.collect(), 0)
}
