//! PPO's update: some passes over a rollout, in minibatches.
//!
//! Purpose: gradients of the policy and the value loss, optimizer steps, and what they tell.
//! Invariant: the ratio of the first minibatch of the first pass is 1 within 1e-5, on every run;
//! means run over the valid tokens of the whole minibatch, however it is cut.
//! Must not know: how the rollout came about.
//! Source: Schulman 2017; Huang 2024.

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;

use super::loss::{policy_loss, value_loss};
use super::rollout::Rollout;
use super::scorer::Scorer;
use crate::generate::host;
use crate::model::Decoder;
use crate::rng::{keyed, permutation};
use crate::train::corpus::Windows;
use crate::train::lm::target_logprobs;
use crate::train::{AdamW, Grads, TokenRow, lm_grads};

/// The ratio of the first minibatch may differ from 1 by this much.
const FIRST_RATIO: f64 = 1e-5;

/// What is trained, with its optimizers.
pub struct Learner {
    /// The policy.
    pub policy: Decoder,
    /// The value model.
    pub value: Scorer,
    /// The policy's optimizer.
    pub policy_optimizer: AdamW,
    /// The value model's optimizer.
    pub value_optimizer: AdamW,
}

/// How to update.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Passes over the rollout.
    pub epochs: u64,
    /// Minibatches a pass.
    pub minibatches: usize,
    /// Clip range of the ratio.
    pub clip: f64,
    /// Clip range of the values.
    pub value_clip: f64,
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

impl Rule {
    /// The number of a pass of this iteration, over all passes of the run: a key of draws, so it may wrap.
    fn pass(&self, epoch: u64) -> u64 {
        self.iteration.wrapping_mul(self.epochs).wrapping_add(epoch)
    }
}

/// Pretraining text that is mixed in, so that the policy keeps its language: `gamma_ptx L_LM`
/// (Ouyang 2022).
pub struct Pretraining {
    /// Weight of the loss (gamma_ptx).
    pub coef: f64,
    /// The text.
    pub text: Windows,
    /// Rows a minibatch.
    pub rows: usize,
}

impl Pretraining {
    /// The weighted gradient for the n-th minibatch of a run, and the loss before weighing.
    fn gradients(&self, policy: &Decoder, rule: &Rule, minibatch: u64) -> Result<(Grads, f64), String> {
        let draw = |i| keyed(rule.seed, "ppo-pretraining", minibatch, i).random();
        let rows: Vec<TokenRow> = (0..self.rows as u64).map(|i| self.text.row(draw(i))).collect();
        let (grads, loss) = lm_grads(policy, &rows, rule.micro_batch)?;
        Ok((grads.scaled(self.coef), loss))
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
    /// Part of the tokens whose ratio was clipped.
    pub clip_fraction: f64,
    /// Part of the tokens whose value was clipped.
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
    mut learner: Learner,
    rollout: &Rollout,
    rule: &Rule,
    pretraining: Option<&Pretraining>,
) -> Result<(Learner, UpdateStats), String> {
    let mut stats = UpdateStats::default();
    let size = rollout.rows.len().div_ceil(rule.minibatches.max(1));
    for epoch in 0..rule.epochs {
        let order = permutation(rule.seed, "ppo-minibatch", rule.pass(epoch), rollout.rows.len());
        for (i, minibatch) in order.chunks(size).enumerate() {
            let mut step = gradients(&learner, rollout, minibatch, rule);
            if epoch == 0 && i == 0 {
                assert_first_ratio(&step.ratios)?;
            }
            if !(step.policy_loss.is_finite() && step.value_loss.is_finite()) {
                return Err(format!(
                    "the losses are {} (policy) and {} (value): try a smaller learning rate",
                    step.policy_loss, step.value_loss
                ));
            }
            if let Some(mix) = pretraining {
                let number = rule.pass(epoch).wrapping_mul(rule.minibatches as u64).wrapping_add(i as u64);
                let (grads, loss) = mix.gradients(&learner.policy, rule, number)?;
                step.policy.add(grads);
                stats.pretraining_loss += loss;
            }
            let norm;
            (learner.policy, norm) =
                learner.policy_optimizer.update(learner.policy, step.policy, rule.learning_rate)?;
            (learner.value, _) =
                learner.value_optimizer.update(learner.value, step.value, rule.value_learning_rate)?;
            stats.add(&step.ratios, step.policy_loss, step.value_loss, step.value_clipped, norm, rule.clip);
        }
    }
    Ok((learner, stats.mean()))
}

fn assert_first_ratio(ratios: &[f64]) -> Result<(), String> {
    let worst = ratios.iter().map(|r| (r - 1.0).abs()).fold(0.0, f64::max);
    if worst > FIRST_RATIO {
        return Err(format!(
            "the first minibatch's ratio is off 1 by {worst:.2e}, and must not be by more than {FIRST_RATIO:.0e}: \
             rollout and training disagree about log-probabilities (temperature, dropout or weights)"
        ));
    }
    Ok(())
}

/// What one minibatch says, before any step.
pub(super) struct Gradients {
    pub(super) policy: Grads,
    pub(super) value: Grads,
    pub(super) policy_loss: f64,
    pub(super) value_loss: f64,
    pub(super) ratios: Vec<f64>,
    value_clipped: f64,
}

/// Gradients and losses of the rows of `rollout` that `minibatch` names.
pub(super) fn gradients(learner: &Learner, rollout: &Rollout, minibatch: &[usize], rule: &Rule) -> Gradients {
    let device = learner.policy.device();
    let tokens: usize = minibatch.iter().map(|&i| rollout.rows[i].targets()).sum();
    let mut out = Gradients {
        policy: Grads::default(),
        value: Grads::default(),
        policy_loss: 0.0,
        value_loss: 0.0,
        ratios: Vec::with_capacity(tokens),
        value_clipped: 0.0,
    };
    for part in minibatch.chunks(rule.micro_batch) {
        let rows: Vec<TokenRow> = part.iter().map(|&i| rollout.rows[i].clone()).collect();
        let old = flat(part.iter().flat_map(|&i| rollout.logprobs[i].iter().copied()), &device);
        let advantages =
            flat(part.iter().flat_map(|&i| rollout.advantages[i].iter().map(|&x| x as f32)), &device);
        let logprobs = target_logprobs(&learner.policy, &rows, rule.temperature);
        let policy = policy_loss(logprobs, old, advantages, rule.clip, tokens);
        out.ratios.extend(host(policy.ratio).into_iter().map(f64::from));
        out.policy_loss += f64::from(policy.loss.clone().into_scalar::<f32>());
        let mut grads = policy.loss.backward();
        out.policy.add(Grads::take(&learner.policy, &mut grads));

        let old_values =
            flat(part.iter().flat_map(|&i| rollout.values[i].iter().map(|&x| x as f32)), &device);
        let returns = flat(part.iter().flat_map(|&i| rollout.returns[i].iter().map(|&x| x as f32)), &device);
        let values = learner.value.values(&rows);
        let moved = (values.clone().detach() - old_values.clone()).abs();
        out.value_clipped +=
            host(moved).iter().filter(|&&m| f64::from(m) > rule.value_clip).count() as f64 / tokens as f64;
        let loss = value_loss(values, old_values, returns, rule.value_clip, tokens);
        out.value_loss += f64::from(loss.clone().into_scalar::<f32>());
        let mut grads = (loss * rule.value_coef).backward();
        out.value.add(Grads::take(&learner.value, &mut grads));
    }
    out
}

fn flat(values: impl Iterator<Item = f32>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

impl UpdateStats {
    fn add(&mut self, ratios: &[f64], policy: f64, value: f64, value_clipped: f64, norm: f64, clip: f64) {
        let n = ratios.len().max(1) as f64;
        let mean = ratios.iter().sum::<f64>() / n;
        self.policy_loss += policy;
        self.value_loss += value;
        self.approx_kl += ratios.iter().map(|r| r.ln().powi(2) / 2.0).sum::<f64>() / n;
        self.clip_fraction += ratios.iter().filter(|r| (**r - 1.0).abs() > clip).count() as f64 / n;
        self.value_clip_fraction += value_clipped;
        self.ratio += mean;
        self.ratio_variance += ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n;
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
