//! `reward`: a reward model from rankings.
//!
//! Purpose: SFT model, rankings and, where 0 is to be the mean of the demonstrations, those in; reward
//! model out.
//! Invariant: the K completions of a prompt are in one batch; the score is read at the last real
//! response token; a row that is too long for the context is cut at its end, and may lose its stop
//! token; the order depends on (seed, pass) alone.
//! Must not know: who ranked.
//! Source: Ouyang 2022, section 3.5; Ziegler 2019 (head); Guo 2017 (calibration).

use std::collections::BTreeMap;

use kiln_formats::tokenizer::{Tokenizer, TokenizerError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, optional, output};
use crate::adapter;
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Demonstration, Judged, hold_out};
use crate::dialogue::{Ranked, batch_of, demonstrated, ranked};
use crate::kernels::host;
use crate::model::{Execution, LoraParams, Network, Readout, TokenRow};
use crate::rl::RewardModel;
use crate::rl::advantage::moments;
use crate::rl::pairs::{Pair, accuracy, best_gain, loss, margin};
use crate::rl::reward_model::ScoreError;
use crate::rng::pass_batch;
use crate::train::{Decay, OptimizerParams, Schedule, Trainer, state};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Passes over the rankings; more than one overfits soon (Ouyang 2022).
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
    /// The part of the rankings, at their end, that is held out.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Whether scores are scaled so that the held-out pairs are as likely as can be: then a difference
    /// of scores is a log-odds, and rankings that say nothing give a model that says nothing.
    pub calibrate: bool,
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
            learning_rate: 3e-4,
            schedule: Schedule { decay: Decay::Linear, warmup: 10, min_lr_ratio: 0.0 },
            optimizer: OptimizerParams { eps: 1e-5, weight_decay: 0.0, ..OptimizerParams::default() },
            validation_fraction: 0.1,
            calibrate: false,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "reward",
        5,
        "trains a reward model on ranked completions",
        (
            vec![
                input("model", &["checkpoint", "policy"], "the SFT model to start from"),
                input("rankings", &["rankings"], "ranked completions"),
                optional("demonstrations", &["demonstrations"], "their mean reward becomes 0"),
            ],
            vec![output("reward", "reward", "the reward model")],
        ),
        run,
    )
    .checked(check)
}

/// What the schema cannot say.
fn check(params: &Params) -> Result<(), String> {
    match params.calibrate && params.validation_fraction == 0.0 {
        true => Err("`calibrate` needs rankings that are held out: raise `validation_fraction`".to_owned()),
        false => Ok(()),
    }
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let (decoder, tokenizer) = bundle::load(ctx.input("model")?, ctx.device())?;
    let decoder = adapter::start(decoder, params.lora.as_ref(), params.seed)?.executed(params.execution);
    let context = decoder.config().max_position_embeddings;
    let rankings: Vec<Judged> = data::read(ctx.input("rankings")?)?;
    let mut items = ranked(ctx, &tokenizer, &rankings, context)?;
    let held_out =
        hold_out(&mut items, params.validation_fraction, "rankings").map_err(StageError::failed)?;
    ctx.log(format!("{} rankings to train on, {} held out", items.len(), held_out.len()));
    let steps = params.epochs.saturating_mul(items.len().div_ceil(params.prompts_per_batch) as u64);
    let reward = train(params, ctx, (decoder.with_value_head(params.seed), steps), &items)?;
    // Also where nothing is held out, a model without scores is not published.
    reward.score_all(&items[0].rows)?;
    let reward = if params.calibrate { calibrated(reward, ctx, &held_out, steps)? } else { reward };
    let (reward, mean) = centred(reward, ctx, &tokenizer, context)?;
    let report = evaluate(&reward, &held_out)?;
    let shown: Vec<(&str, f64)> = report.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    ctx.metric(steps, &shown);
    if mean != 0.0 {
        ctx.log(format!("bias shifted by {:.3}", -mean));
    }
    bundle::save_reward(ctx.output("reward")?, &reward, &tokenizer, ctx.input("model")?)?;
    let pick = |name: &str| report.get(name).map(|v| (name.trim_start_matches("rm/").to_owned(), *v));
    Ok(["rm/accuracy", "rm/margin"].into_iter().filter_map(pick).collect())
}

fn train(
    params: &Params,
    ctx: &Context,
    (model, steps): (Network, u64),
    items: &[Ranked],
) -> Result<RewardModel, StageError> {
    params.schedule.look(ctx, steps);
    let trained = state::run(ctx, Trainer::new(model, &params.optimizer), steps, |trainer, step| {
        let failed = |e: String| StageError::failed(format!("step {step}: {e}"));
        let chosen = pass_batch(params.seed, "reward", step, items.len(), params.prompts_per_batch);
        let (rows, pairs) = batch_of(chosen.iter().map(|&i| &items[i]));
        let mut right = 0.0;
        let value = trainer.add(&rows, Readout::Scores, |scores| {
            right = accuracy(&host(scores.clone().detach()), &pairs);
            loss(scores, &pairs, chosen.len())
        });
        let value = value.map_err(failed)?;
        let rate = params.learning_rate * params.schedule.at(step, steps);
        let norm = trainer.step(rate).map_err(failed)?;
        let done = step + 1;
        ctx.progress(done, steps, || format!("loss {value:.3}  accuracy {right:.2}"));
        if done % 5 == 0 || done == steps {
            let names = ["train/loss", "train/accuracy", "train/lr", "train/grad_norm"];
            ctx.metrics(done, names, [value, right, rate, norm]);
        }
        Ok(())
    })?;
    Ok(RewardModel(trained.model))
}

/// Scales the scores to log-odds by the held-out pairs, which training has not seen.
fn calibrated(
    reward: RewardModel,
    ctx: &Context,
    held_out: &[Ranked],
    steps: u64,
) -> Result<RewardModel, StageError> {
    let (rows, pairs) = batch_of(held_out.iter());
    let scores = reward.score_all(&rows)?;
    let margins: Vec<(f64, f64)> =
        pairs.iter().map(|p| (f64::from(scores[p.better]) - f64::from(scores[p.worse]), p.weight)).collect();
    let gain = best_gain(&margins);
    ctx.log(format!("scores scaled by {gain:.3}, by {} held-out pairs", pairs.len()));
    if gain == 0.0 {
        ctx.warn("the held-out rankings bear out nothing of what was learnt: every score is 0");
    }
    ctx.metric(steps, &[("rm/gain", gain)]);
    Ok(reward.rescaled(gain, 0.0))
}

/// Shifts the bias so that the mean reward of the demonstrations is 0; returns that mean.
fn centred(
    reward: RewardModel,
    ctx: &Context,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<(RewardModel, f64), StageError> {
    let Some(path) = ctx.optional_input("demonstrations") else { return Ok((reward, 0.0)) };
    let demonstrations: Vec<Demonstration> = data::read(path)?;
    let rows = demonstrations
        .iter()
        .map(|d| Ok(demonstrated(tokenizer, d)?.0))
        .filter(|row| row.as_ref().map_or(true, |row| row.ids.len() <= context && row.targets() > 0))
        // A thousand tell the mean well enough.
        .take(1024)
        .collect::<Result<Vec<TokenRow>, TokenizerError>>()?;
    if rows.is_empty() {
        return Ok((reward, 0.0));
    }
    let scores = reward.score_all(&rows)?;
    let mean = scores.iter().map(|&s| f64::from(s)).sum::<f64>() / scores.len() as f64;
    Ok((reward.rescaled(1.0, -mean), mean))
}

/// Of held-out rankings: accuracy over all pairs and by rank gap, margin, score statistics, correlation with length.
fn evaluate(reward: &RewardModel, items: &[Ranked]) -> Result<BTreeMap<String, f64>, ScoreError> {
    let mut out = BTreeMap::new();
    if items.is_empty() {
        return Ok(out);
    }
    let (rows, pairs) = batch_of(items.iter());
    let scores = reward.score_all(&rows)?;
    out.insert("rm/accuracy".to_owned(), accuracy(&scores, &pairs));
    out.insert("rm/margin".to_owned(), margin(&scores, &pairs));
    for gap in 1..=pairs.iter().map(|p| p.gap).max().unwrap_or(0) {
        let of_gap: Vec<Pair> = pairs.iter().filter(|p| p.gap == gap).copied().collect();
        out.insert(format!("rm/accuracy_gap_{gap}"), accuracy(&scores, &of_gap));
    }
    let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
    let lengths: Vec<f64> = rows.iter().map(|r| r.targets() as f64).collect();
    let ((mean, variance), (mean_length, length_variance)) = (moments(&scores), moments(&lengths));
    let covariance = scores.iter().zip(&lengths).map(|(s, l)| (s - mean) * (l - mean_length)).sum::<f64>()
        / scores.len().max(1) as f64;
    out.insert("rm/mean".to_owned(), mean);
    out.insert("rm/deviation".to_owned(), variance.sqrt());
    out.insert("rm/length_correlation".to_owned(), covariance / (variance * length_variance).sqrt());
    Ok(out)
}
