//! One batch of experience: responses, what every model says of them, and what follows from it.
//!
//! Purpose: samples responses, scores them, computes log-probabilities, values, rewards,
//! advantages and returns.
//! Invariant: rollout, reference and training share one log-probability function, at one temperature, and the rows go
//! through it in the micro-batches of the first epoch, so that the first ratio is exactly 1; a response without stop token
//! gets the penalty, if there is one, instead of its score.
//! Must not know: optimizers, the outer loop.
//! Source: Huang 2024.

use super::advantage::{gae, token_rewards, whiten};
use super::kl;
use super::reward_model::{RewardModel, ScoreError};
use crate::generate::{Completion, Sampling, generate};
use crate::kernels::cpu::logprobs::entropy_and_kl;
use crate::model::{Network, Readout, TokenRow};

/// The exact KL and the entropy need every logit of every token twice; beyond this many tokens of
/// vocabulary the estimates must do.
const EXACT_VOCAB: usize = 4096;

/// The models of PPO.
pub struct Models<'a> {
    /// The policy as it is now.
    pub policy: &'a Network,
    /// What the policy was at the start.
    pub reference: &'a Network,
    /// The value model as it is now.
    pub value: &'a Network,
    /// The reward model.
    pub reward: &'a RewardModel,
}

/// The numbers that shape rewards and advantages.
#[derive(Debug, Clone, Copy)]
pub struct RewardConfig {
    /// Weight of the KL penalty (beta).
    pub kl_coef: f64,
    /// Discount.
    pub gamma: f64,
    /// Trace decay of GAE.
    pub gae_lambda: f64,
    /// Replaces the score of a response without stop token, if anything does.
    pub missing_eos_reward: Option<f64>,
    /// Rows of a minibatch, and rows of it that go through a model at once.
    pub batches: [usize; 2],
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
    /// Advantages, whitened if that was asked for, a row each.
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
    config: &RewardConfig,
) -> Result<Rollout, String> {
    let completions =
        generate(models.policy, prompts, keys, prompts.len(), sampling).map_err(|e| e.to_string())?;
    let rows: Vec<TokenRow> = prompts
        .iter()
        .zip(&completions)
        .map(|(p, c)| TokenRow::new([p.as_slice(), &c.tokens].concat(), p.len()))
        .collect();
    let mut seen = Experience::default();
    let [minibatch, micro] = config.batches;
    for part in rows.chunks(minibatch).flat_map(|minibatch| minibatch.chunks(micro)) {
        seen.look(models, part, sampling.temperature);
    }
    seen.scores = ScoreError::check(seen.scores).map_err(|e| e.to_string())?;
    let scores: Vec<f64> = completions
        .iter()
        .zip(&seen.scores)
        .map(|(c, &s)| config.missing_eos_reward.filter(|_| !c.finished).unwrap_or(f64::from(s)))
        .collect();
    let mut advantages = Vec::with_capacity(rows.len());
    let mut returns = Vec::with_capacity(rows.len());
    for (i, score) in scores.iter().enumerate() {
        let rewards = token_rewards(&seen.logprobs[i], &seen.reference[i], config.kl_coef, *score);
        let (a, r) = gae(&rewards, &seen.values[i], config.gamma, config.gae_lambda);
        advantages.push(a);
        returns.push(r);
    }
    if config.whiten {
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
struct Experience {
    logprobs: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
    values: Vec<Vec<f64>>,
    scores: Vec<f32>,
    exact_kl: f64,
    entropy: f64,
    exact: bool,
}

impl Experience {
    fn look(&mut self, models: &Models, rows: &[TokenRow], temperature: f64) {
        let temperature = temperature as f32;
        let vocab = models.policy.config().vocab;
        self.exact = vocab <= EXACT_VOCAB;
        let asked = [models.policy, models.reference].map(|model| match self.exact {
            true => model.logprobs_and_logits(rows, temperature),
            false => (model.outputs(rows, Readout::LogProbs { temperature }), Vec::new()),
        });
        let [(logprobs, logits), (reference, reference_logits)] = asked;
        if self.exact {
            let (entropy, kl) = entropy_and_kl(&logits, &reference_logits, vocab, temperature);
            self.entropy += entropy;
            self.exact_kl += kl;
        }
        self.logprobs.extend(by_row(&logprobs, rows));
        self.reference.extend(by_row(&reference, rows));
        let values: Vec<f64> =
            models.value.outputs(rows, Readout::Values).into_iter().map(f64::from).collect();
        self.values.extend(by_row(&values, rows));
        self.scores.extend(models.reward.0.outputs(rows, Readout::Scores));
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

fn stats(completions: &[Completion], scores: &[f64], seen: &Experience) -> RolloutStats {
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
        let rows = [TokenRow::new(vec![1, 2, 3], 1), TokenRow::new(vec![1, 2, 3], 2)];
        assert_eq!(by_row(&[1, 2, 3], &rows), vec![vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_pair_said_again_counts_as_repeated() {
        assert_eq!(repeats(&[1, 2, 1, 2]), 1.0 / 3.0);
        assert_eq!(repeats(&[1]), 0.0);
    }
}
