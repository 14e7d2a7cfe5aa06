//! PPO's update: some passes over a rollout, in minibatches.
//!
//! Purpose: gradients of the policy and the value loss, optimizer steps, and what they tell.
//! Invariant: the ratio of the first minibatch of the first pass is 1 on every run, exactly where rollout and training
//! compute on the CPU; means run over the valid tokens of the whole minibatch, however it is cut.
//! Must not know: how the rollout came about.
//! Source: Schulman 2017; Huang 2024.

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;

use super::advantage::moments;
use super::losses::{policy_loss, value_loss};
use super::rollout::Rollout;
use crate::data::DataError;
use crate::kernels::host;
use crate::kernels::is_host;
use crate::model::{Readout, TokenRow};
use crate::rng::{keyed, permutation};
use crate::train::corpus::Windows;
use crate::train::{Trainer, add_lm_loss};

/// What is trained, with its optimizers.
#[derive(Debug, Clone)]
pub struct Learners {
    /// The policy.
    pub policy: Trainer,
    /// The value model.
    pub value: Trainer,
}

/// How to update.
#[derive(Debug, Clone, Copy)]
pub struct PpoConfig {
    /// Passes over the rollout.
    pub epochs: u64,
    /// Minibatches a pass.
    pub minibatches: usize,
    /// Clip range of the ratio.
    pub cliprange: f64,
    /// Clip range of the values.
    pub cliprange_value: f64,
    /// Weight of the value loss.
    pub value_coef: f64,
    /// Temperature of the rollout.
    pub temperature: f64,
    /// Rows that go through a model at once.
    pub micro_batch: usize,
    /// Learning rate of the policy.
    pub learning_rate: f64,
    /// Learning rate of the value model.
    pub value_learning_rate: f64,
    /// Seed of the order.
    pub seed: u64,
    /// The iteration, for the order.
    pub iteration: u64,
}

impl PpoConfig {
    /// The number of a pass of this iteration, over all passes of the run: a key of draws, so it may wrap.
    fn pass(&self, epoch: u64) -> u64 {
        self.iteration.wrapping_mul(self.epochs).wrapping_add(epoch)
    }

    /// The order of the rows in a pass: that of the rollout in the first, in which it was scored, then another each time.
    fn order(&self, epoch: u64, rows: usize) -> Vec<usize> {
        match epoch {
            0 => (0..rows).collect(),
            _ => permutation(self.seed, "ppo-minibatch", self.pass(epoch), rows),
        }
    }
}

/// Pretraining text that is mixed in, so that the policy keeps its language: `ptx_coef L_LM`
/// (Ouyang 2022).
pub struct Pretraining {
    /// Weight of the loss (gamma of Ouyang 2022).
    pub ptx_coef: f64,
    /// The text.
    pub text: Windows,
    /// Rows a minibatch.
    pub rows: usize,
}

impl Pretraining {
    /// Adds the weighted gradient for the n-th minibatch of a run; returns the loss before weighing.
    fn add(&self, policy: &mut Trainer, config: &PpoConfig, minibatch: u64) -> Result<f64, String> {
        let draw = |i| keyed(config.seed, "ppo-pretraining", minibatch, i).random();
        let rows: Result<Vec<TokenRow>, DataError> =
            (0..self.rows as u64).map(|i| self.text.row(draw(i))).collect();
        let rows = rows.map_err(|e| e.to_string())?;
        add_lm_loss(policy, &rows, config.micro_batch, self.ptx_coef)
    }
}

/// Means over all minibatches of an update.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpdateStats {
    /// Mean policy loss.
    pub policy_loss: f64,
    /// Mean value loss.
    pub value_loss: f64,
    /// Mean loss on the pretraining text, where some is mixed in.
    pub pretraining_loss: f64,
    /// Mean of `(logp - logp_old)^2 / 2`.
    pub approx_kl: f64,
    /// Part of the tokens whose clipped term of the policy loss was the larger one.
    pub clip_fraction: f64,
    /// Part of the tokens whose clipped term of the value loss was the larger one.
    pub value_clip_fraction: f64,
    /// Mean ratio.
    pub ratio: f64,
    /// Variance of the ratio.
    pub ratio_variance: f64,
    /// Mean norm of the policy's gradient before clipping.
    pub grad_norm: f64,
    minibatches: f64,
}

/// Runs all passes over a rollout.
///
/// # Errors
/// When the first ratio is not 1, or a loss or a gradient is not finite.
pub fn update(
    learners: &mut Learners,
    rollout: &Rollout,
    config: &PpoConfig,
    pretraining: Option<&Pretraining>,
) -> Result<UpdateStats, String> {
    let mut stats = UpdateStats::default();
    let size = rollout.rows.len().div_ceil(config.minibatches.max(1));
    for epoch in 0..config.epochs {
        for (i, minibatch) in config.order(epoch, rollout.rows.len()).chunks(size).enumerate() {
            let seen = add_losses(learners, rollout, minibatch, config)?;
            if epoch == 0 && i == 0 {
                assert_first_ratio(
                    &seen.ratios,
                    if is_host(learners.policy.model.device()) { 0.0 } else { 1e-5 },
                )?;
            }
            if let Some(mix) = pretraining {
                let number =
                    config.pass(epoch).wrapping_mul(config.minibatches as u64).wrapping_add(i as u64);
                stats.pretraining_loss += mix.add(&mut learners.policy, config, number)?;
            }
            let norm = learners.policy.step(config.learning_rate)?;
            learners.value.step(config.value_learning_rate)?;
            stats.add(&seen, norm);
        }
    }
    Ok(stats.mean())
}

fn assert_first_ratio(ratios: &[f64], tolerance: f64) -> Result<(), String> {
    let worst = ratios.iter().map(|r| (r - 1.0).abs()).fold(0.0, f64::max);
    if worst > tolerance {
        return Err(format!(
            "the first minibatch's ratio is off 1 by {worst:.2e}, and must not be by more than {tolerance:.0e}: \
             rollout and training disagree about log-probabilities (temperature or weights)"
        ));
    }
    Ok(())
}

/// What one minibatch says, before any step.
#[derive(Default)]
pub(super) struct Minibatch {
    pub(super) policy_loss: f64,
    pub(super) value_loss: f64,
    pub(super) ratios: Vec<f64>,
    /// Parts of the tokens.
    pub(super) clipped: f64,
    value_clipped: f64,
}

/// Adds the gradients of both losses over the rows of `rollout` that `minibatch` names.
pub(super) fn add_losses(
    learners: &mut Learners,
    rollout: &Rollout,
    minibatch: &[usize],
    config: &PpoConfig,
) -> Result<Minibatch, String> {
    let device = learners.policy.model.device().clone();
    let tokens: usize = minibatch.iter().map(|&i| rollout.rows[i].targets()).sum();
    let mut out = Minibatch::default();
    for part in minibatch.chunks(config.micro_batch) {
        let rows: Vec<TokenRow> = part.iter().map(|&i| rollout.rows[i].clone()).collect();
        let of_rows = |values: &[Vec<f64>]| {
            flat(part.iter().flat_map(|&i| values[i].iter().map(|&x| x as f32)), &device)
        };
        let old = flat(part.iter().flat_map(|&i| rollout.logprobs[i].iter().copied()), &device);
        let advantages = of_rows(&rollout.advantages);
        let readout = Readout::LogProbs { temperature: config.temperature as f32 };
        out.policy_loss += learners.policy.add(&rows, readout, |logprobs| {
            let policy = policy_loss(logprobs, old, advantages, config.cliprange, tokens);
            out.ratios.extend(host(policy.ratio).into_iter().map(f64::from));
            out.clipped += policy.clipped / tokens as f64;
            policy.loss
        })?;
        let (old, returns) = (of_rows(&rollout.values), of_rows(&rollout.returns));
        let weighted = learners.value.add(&rows, Readout::Values, |values| {
            let value = value_loss(values, old, returns, config.cliprange_value, tokens);
            out.value_clipped += value.clipped / tokens as f64;
            out.value_loss += f64::from(value.loss.clone().into_scalar::<f32>());
            value.loss * config.value_coef
        });
        weighted.map_err(|e| format!("value model: {e}"))?;
    }
    Ok(out)
}

fn flat(values: impl Iterator<Item = f32>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

impl UpdateStats {
    fn add(&mut self, seen: &Minibatch, norm: f64) {
        let ratios = &seen.ratios;
        let n = ratios.len().max(1) as f64;
        let (mean, variance) = moments(ratios);
        self.policy_loss += seen.policy_loss;
        self.value_loss += seen.value_loss;
        self.approx_kl += ratios.iter().map(|r| r.ln().powi(2) / 2.0).sum::<f64>() / n;
        self.clip_fraction += seen.clipped;
        self.value_clip_fraction += seen.value_clipped;
        self.ratio += mean;
        self.ratio_variance += variance;
        self.grad_norm += norm;
        self.minibatches += 1.0;
    }

    fn mean(mut self) -> Self {
        let n = self.minibatches.max(1.0);
        for value in [
            &mut self.policy_loss,
            &mut self.value_loss,
            &mut self.pretraining_loss,
            &mut self.approx_kl,
            &mut self.clip_fraction,
            &mut self.value_clip_fraction,
            &mut self.ratio,
            &mut self.ratio_variance,
            &mut self.grad_norm,
        ] {
            *value /= n;
        }
        self
    }
}
