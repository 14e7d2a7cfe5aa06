//! One batch of experience: responses, what every model says of them, and what follows from it.
//!
//! Purpose: samples responses, scores them, computes log-probabilities, values, rewards,
//! advantages and returns.
//! Invariant: rollout, reference and training share one log-probability function, at one
//! temperature; a response without stop token gets the penalty, if there is one, instead of its score.
//! Must not know: optimizers, the outer loop.
//! Source: Huang 2024.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::advantage::{gae, token_rewards, whiten};
use super::kl;
use super::scorer::{ScoreError, Scorer};
use crate::generate::{Completion, Sampling, generate, host};
use crate::kernels;
use crate::model::Decoder;
use crate::train::TokenRow;
use crate::train::lm::target_logits;

/// The exact KL and the entropy need every logit of every token twice; beyond this many tokens of
/// vocabulary the estimates must do.
const EXACT_VOCAB: usize = 4096;

/// The models of PPO, all without autodiff.
pub struct Models<'a> {
    /// The policy as it is now.
    pub policy: &'a Decoder,
    /// What the policy was at the start.
    pub reference: &'a Decoder,
    /// The value model as it is now.
    pub value: &'a Scorer,
    /// The reward model.
    pub reward: &'a Scorer,
}

/// The numbers that shape rewards and advantages.
#[derive(Debug, Clone, Copy)]
pub struct Shaping {
    /// Weight of the KL penalty.
    pub beta: f64,
    /// Discount.
    pub gamma: f64,
    /// Trace decay of GAE.
    pub lambda: f64,
    /// Replaces the score of a response without stop token, if anything does.
    pub missing_stop: Option<f64>,
    /// Rows that go through a model at once.
    pub micro_batch: usize,
    /// Whether advantages are whitened.
    pub whiten: bool,
}

/// A batch of experience; per-token entries are those of the responses.
pub struct Rollout {
    /// Prompt and response, the response's tokens as targets.
    pub rows: Vec<TokenRow>,
    /// The responses.
    pub completions: Vec<Completion>,
    /// `logp_old`, a row each.
    pub logprobs: Vec<Vec<f32>>,
    /// Values before each token, a row each.
    pub values: Vec<Vec<f64>>,
    /// Whitened advantages, a row each.
    pub advantages: Vec<Vec<f64>>,
    /// Returns, a row each.
    pub returns: Vec<Vec<f64>>,
    /// The scores that went into the rewards.
    pub scores: Vec<f64>,
    /// Means over responses.
    pub stats: RolloutStats,
}

/// What a rollout tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct RolloutStats {
    /// Mean score (penalties included).
    pub score: f64,
    /// KL from the reference, summed over a response: the estimates k1 and k3.
    pub k1: f64,
    /// See `k1`.
    pub k3: f64,
    /// The same, exact: summed over the vocabulary at each token.
    pub exact_kl: Option<f64>,
    /// Mean entropy of the policy at a token, in nats.
    pub entropy: Option<f64>,
    /// Part of the responses that ended with the stop token.
    pub finished: f64,
    /// Mean length in tokens.
    pub length: f64,
    /// Part of neighbouring token pairs that occurred before in the same response.
    pub repeats: f64,
}

/// Samples a response to each prompt and computes everything an update needs.
///
/// # Errors
/// When logits of the policy or scores of the reward model are not finite.
pub fn rollout(
    models: &Models,
    prompts: &[Vec<u32>],
    keys: &[u64],
    sampling: &Sampling,
    shaping: &Shaping,
) -> Result<Rollout, String> {
    let completions =
        generate(models.policy, prompts, keys, prompts.len(), sampling).map_err(|e| e.to_string())?;
    let rows: Vec<TokenRow> = prompts
        .iter()
        .zip(&completions)
        .map(|(p, c)| TokenRow { ids: [p.as_slice(), &c.tokens].concat(), from: p.len() })
        .collect();
    let mut seen = Seen::default();
    for part in rows.chunks(shaping.micro_batch) {
        seen.look(models, part, sampling.temperature);
    }
    seen.scores = ScoreError::check(seen.scores).map_err(|e| e.to_string())?;
    let scores: Vec<f64> = completions
        .iter()
        .zip(&seen.scores)
        .map(|(c, &s)| shaping.missing_stop.filter(|_| !c.finished).unwrap_or(f64::from(s)))
        .collect();
    let mut advantages = Vec::with_capacity(rows.len());
    let mut returns = Vec::with_capacity(rows.len());
    for (i, score) in scores.iter().enumerate() {
        let rewards = token_rewards(&seen.logprobs[i], &seen.reference[i], shaping.beta, *score);
        let (a, r) = gae(&rewards, &seen.values[i], shaping.gamma, shaping.lambda);
        advantages.push(a);
        returns.push(r);
    }
    if shaping.whiten {
        whiten_rows(&mut advantages);
    }
    let stats = stats(&completions, &scores, &seen);
    Ok(Rollout {
        rows,
        completions,
        logprobs: seen.logprobs,
        values: seen.values,
        advantages,
        returns,
        scores,
        stats,
    })
}

/// What the models say of the responses, row by row.
#[derive(Default)]
struct Seen {
    logprobs: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
    values: Vec<Vec<f64>>,
    scores: Vec<f32>,
    exact_kl: f64,
    entropy: f64,
    exact: bool,
}

impl Seen {
    fn look(&mut self, models: &Models, rows: &[TokenRow], temperature: f64) {
        let (logits, targets) = target_logits(models.policy, rows);
        let (reference_logits, _) = target_logits(models.reference, rows);
        let scale = |l: Tensor<2>| if temperature == 1.0 { l } else { l / temperature };
        let (logits, reference_logits) = (scale(logits), scale(reference_logits));
        let logprobs = kernels::token_logprobs(logits.clone(), targets.clone());
        let reference = kernels::token_logprobs(reference_logits.clone(), targets);
        self.exact = logits.dims()[1] <= EXACT_VOCAB;
        if self.exact {
            let all = log_softmax(logits, 1);
            let theirs = log_softmax(reference_logits, 1);
            let probabilities = all.clone().exp();
            self.entropy -= f64::from((probabilities.clone() * all.clone()).sum().into_scalar::<f32>());
            self.exact_kl += f64::from((probabilities * (all - theirs)).sum().into_scalar::<f32>());
        }
        self.logprobs.extend(by_row(&host(logprobs), rows));
        self.reference.extend(by_row(&host(reference), rows));
        let values: Vec<f64> = host(models.value.values(rows)).into_iter().map(f64::from).collect();
        self.values.extend(by_row(&values, rows));
        self.scores.extend(host(models.reward.scores(rows)));
    }
}

/// Cuts a flat list of the targets' numbers into rows.
pub fn by_row<T: Copy>(flat: &[T], rows: &[TokenRow]) -> Vec<Vec<T>> {
    let mut at = 0;
    rows.iter()
        .map(|row| {
            at += row.targets();
            flat[at - row.targets()..at].to_vec()
        })
        .collect()
}

fn whiten_rows(rows: &mut [Vec<f64>]) {
    let mut flat: Vec<f64> = rows.concat();
    whiten(&mut flat);
    let mut values = flat.into_iter();
    for slot in rows.iter_mut().flatten() {
        *slot = values.next().unwrap_or(0.0);
    }
}

fn stats(completions: &[Completion], scores: &[f64], seen: &Seen) -> RolloutStats {
    let n = completions.len().max(1) as f64;
    let tokens: usize = completions.iter().map(|c| c.tokens.len()).sum();
    let kl: Vec<[f64; 3]> =
        seen.logprobs.iter().zip(&seen.reference).map(|(p, r)| kl::estimates(p, r)).collect();
    RolloutStats {
        score: scores.iter().sum::<f64>() / n,
        k1: kl.iter().map(|k| k[0]).sum::<f64>() / n,
        k3: kl.iter().map(|k| k[2]).sum::<f64>() / n,
        exact_kl: seen.exact.then_some(seen.exact_kl / n),
        entropy: seen.exact.then_some(seen.entropy / tokens.max(1) as f64),
        finished: completions.iter().filter(|c| c.finished).count() as f64 / n,
        length: tokens as f64 / n,
        repeats: completions.iter().map(|c| repeats(&c.tokens)).sum::<f64>() / n,
    }
}

/// The part of neighbouring pairs that occurred before.
fn repeats(tokens: &[u32]) -> f64 {
    let mut seen = std::collections::BTreeSet::new();
    let repeated = tokens.windows(2).filter(|pair| !seen.insert((pair[0], pair[1]))).count();
    repeated as f64 / tokens.len().saturating_sub(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_numbers_are_cut_at_the_rows_targets() {
        let rows = [TokenRow { ids: vec![1, 2, 3], from: 1 }, TokenRow { ids: vec![1, 2, 3], from: 2 }];
        assert_eq!(by_row(&[1, 2, 3], &rows), vec![vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_pair_said_again_counts_as_repeated() {
        assert_eq!(repeats(&[1, 2, 1, 2]), 1.0 / 3.0);
        assert_eq!(repeats(&[1]), 0.0);
    }
}
