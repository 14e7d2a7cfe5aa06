//! A batch of experience, recomputed token by token.

use burn::tensor::{Int, Tensor, TensorData};

use super::{MAX_TOKENS, REWARDS, Setting, outputs};
use crate::model::device::{Cache, Rows};
use crate::model::{Network, Readout, TokenRow};
use crate::rl::rollout::{RewardConfig, Rollout};
use crate::testing::{assert_close, cpu, host, shapes};

/// A model's log-probabilities over the vocabulary before each token of a response, by burn's operations.
fn distributions(model: &Network, ids: &[u32], from: usize, temperature: f64) -> Vec<Vec<f64>> {
    let model = model.clone().decomposed(&cpu());
    let decoder = model.decoder();
    let hidden = decoder.hidden(Rows::right(&[ids], 0, decoder.device()), None);
    let [_, time, width] = hidden.dims();
    let logits = host(decoder.logits(hidden.reshape([time, width])));
    let rows = logits.chunks(model.config().vocab).skip(from - 1).take(ids.len() - from);
    rows.map(|row| {
        let total: f64 = row.iter().map(|l| (l / temperature).exp()).sum();
        row.iter().map(|l| l / temperature - total.ln()).collect()
    })
    .collect()
}

#[test]
fn the_log_probabilities_of_a_rollout_are_those_that_generation_drew_from() {
    for config in shapes() {
        let setting = Setting::new(&config);
        let temperature = 0.7;
        let made = setting.rollout(temperature, &REWARDS);
        // Generation again, with its cache and its padding on the left, forced to the same tokens.
        let policy = setting.policy.clone().decomposed(&cpu());
        let decoder = policy.decoder();
        let mut cache = Cache::new(config.layers, 11 + MAX_TOKENS);
        let mut rows = Rows::left(&setting.prompts, 0, decoder.device());
        let left = rows.left.clone();
        for t in 0..MAX_TOKENS {
            let hidden = decoder.hidden(rows, Some(&mut cache));
            let [count, time, width] = hidden.dims();
            let logits = host(decoder.logits(hidden.narrow(1, time - 1, 1).reshape([count, width])));
            let mut next = vec![0i64; count];
            for (i, logits) in logits.chunks(config.vocab).enumerate() {
                let Some(&token) = made.completions[i].tokens.get(t) else { continue };
                let total: f64 = logits.iter().map(|l| (l / temperature).exp()).sum();
                let wanted = logits[token as usize] / temperature - total.ln();
                let got = f64::from(made.logprobs[i][t]);
                assert!(
                    (got - wanted).abs() < 1e-4,
                    "{:?}: row {i}, token {t}: {got} {wanted}",
                    config.family
                );
                next[i] = i64::from(token);
            }
            let ids = Tensor::<2, Int>::from_data(TensorData::new(next, [count, 1]), decoder.device());
            rows = Rows { ids, left: left.clone() };
        }
    }
}

#[test]
fn every_number_of_a_rollout_belongs_to_a_real_response_token() {
    let setting = Setting::new(&shapes()[2]);
    let made = setting.rollout(1.0, &REWARDS);
    for (i, completion) in made.completions.iter().enumerate() {
        let n = completion.tokens.len();
        assert!((1..=MAX_TOKENS).contains(&n));
        assert_eq!(made.rows[i].targets(), n);
        assert_eq!(made.rows[i].ids, [setting.prompts[i].as_slice(), &completion.tokens].concat());
        for length in
            [made.logprobs[i].len(), made.values[i].len(), made.advantages[i].len(), made.returns[i].len()]
        {
            assert_eq!(length, n, "row {i}");
        }
        assert_eq!(completion.finished, completion.tokens.last() == Some(&setting.stop));
    }
    let lengths: std::collections::BTreeSet<usize> =
        made.completions.iter().map(|c| c.tokens.len()).collect();
    assert!(lengths.len() > 2, "responses of one length hide padding: {lengths:?}");
}

#[test]
fn a_value_is_read_at_the_state_before_its_token() {
    for config in shapes() {
        let setting = Setting::new(&config);
        let made = setting.rollout(1.0, &REWARDS);
        for (row, values) in made.rows.iter().zip(&made.values) {
            for (t, value) in values.iter().enumerate() {
                // The model sees the prompt and the tokens before t, and no more.
                let before = TokenRow::new(row.ids[..row.from + t].to_vec(), 1);
                let wanted = outputs(&setting.value, &[before], Readout::Scores);
                assert!((value - wanted[0]).abs() < 1e-4, "{value} {wanted:?}");
            }
        }
    }
}

#[test]
fn a_response_without_stop_token_gets_the_penalty_if_there_is_one_and_the_others_their_score() {
    for penalty in [Some(-1.0), Some(-7.5), None] {
        let setting = Setting::new(&shapes()[1]);
        let made = setting.rollout(1.0, &RewardConfig { missing_eos_reward: penalty, ..REWARDS });
        for (i, completion) in made.completions.iter().enumerate() {
            let alone = outputs(&setting.reward.0, &made.rows[i..=i], Readout::Scores)[0];
            let wanted = penalty.filter(|_| !completion.finished).unwrap_or(alone);
            assert!((made.scores[i] - wanted).abs() < 1e-4, "row {i}, which scores {alone}");
        }
        let finished = made.completions.iter().filter(|c| c.finished).count();
        assert!(finished > 0 && finished < made.completions.len(), "both kinds must be there");
        assert_eq!(made.stats.finished, finished as f64 / 8.0);
        let mean = made.scores.iter().sum::<f64>() / 8.0;
        assert!((made.stats.score - mean).abs() < 1e-9);
    }
}

/// Advantages and returns by their definition as sums, forwards: `A_t = sum_k (gamma lambda)^k
/// delta_(t+k)`, `R_t = A_t + V_t`.
fn by_definition(setting: &Setting, made: &Rollout, s: &RewardConfig, i: usize) -> (Vec<f64>, Vec<f64>) {
    let row = &made.rows[i];
    let reference = distributions(&setting.reference, &row.ids, row.from, 1.0);
    let n = row.targets();
    let reward = |t: usize| {
        let token = row.ids[row.from + t] as usize;
        let kl = f64::from(made.logprobs[i][t]) - reference[t][token];
        -s.kl_coef * kl + if t + 1 == n { made.scores[i] } else { 0.0 }
    };
    let value = |t: usize| if t < n { made.values[i][t] } else { 0.0 };
    let delta = |t: usize| reward(t) + s.gamma * value(t + 1) - value(t);
    let advantages: Vec<f64> = (0..n)
        .map(|t| (t..n).map(|u| (s.gamma * s.gae_lambda).powi((u - t) as i32) * delta(u)).sum())
        .collect();
    let returns = advantages.iter().enumerate().map(|(t, a)| a + value(t)).collect();
    (advantages, returns)
}

#[test]
fn advantages_and_returns_are_the_sums_that_define_them() {
    for config in shapes() {
        let setting = Setting::new(&config);
        for rewards in [REWARDS, RewardConfig { gamma: 1.0, gae_lambda: 0.95, kl_coef: 0.05, ..REWARDS }] {
            let made = setting.rollout(1.0, &rewards);
            for i in 0..made.rows.len() {
                let (advantages, returns) = by_definition(&setting, &made, &rewards, i);
                assert_close(&made.advantages[i], &advantages, 1e-5, &format!("advantages of row {i}"));
                assert_close(&made.returns[i], &returns, 1e-5, &format!("returns of row {i}"));
            }
        }
    }
}

#[test]
fn whitening_runs_over_all_response_tokens_and_leaves_the_returns_alone() {
    let setting = Setting::new(&shapes()[0]);
    let plain = setting.rollout(1.0, &REWARDS);
    let white = setting.rollout(1.0, &RewardConfig { whiten: true, ..REWARDS });
    assert_eq!(plain.returns, white.returns);
    let (plain, white) = (plain.advantages.concat(), white.advantages.concat());
    let n = plain.len() as f64;
    let mean = plain.iter().sum::<f64>() / n;
    let variance = plain.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / n;
    let wanted: Vec<f64> = plain.iter().map(|a| (a - mean) / (variance + 1e-8).sqrt()).collect();
    assert_close(&white, &wanted, 1e-9, "whitened");
}

#[test]
fn the_kl_and_the_entropy_are_those_of_the_distributions() {
    let setting = Setting::new(&shapes()[1]);
    let temperature = 1.5;
    let made = setting.rollout(temperature, &REWARDS);
    let (mut exact, mut entropy, mut k1, mut k3, mut tokens) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (row, completion) in made.rows.iter().zip(&made.completions) {
        let ours = distributions(&setting.policy, &row.ids, row.from, temperature);
        let theirs = distributions(&setting.reference, &row.ids, row.from, temperature);
        for (t, (p, q)) in ours.iter().zip(&theirs).enumerate() {
            exact += p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            entropy -= p.iter().map(|p| p.exp() * p).sum::<f64>();
            let l = p[completion.tokens[t] as usize] - q[completion.tokens[t] as usize];
            k1 += l;
            k3 += (-l).exp() - 1.0 + l;
            tokens += 1.0;
        }
    }
    let s = &made.stats;
    let got = [s.exact_kl.unwrap(), s.entropy.unwrap(), s.k1, s.k3, s.length];
    assert_close(
        &got,
        &[exact / 8.0, entropy / tokens, k1 / 8.0, k3 / 8.0, tokens / 8.0],
        1e-4,
        "statistics",
    );
}

#[test]
fn a_policy_that_is_its_reference_has_no_kl_and_is_rewarded_by_the_score_alone() {
    let mut setting = Setting::new(&shapes()[0]);
    setting.reference = setting.policy.clone();
    let made = setting.rollout(1.0, &RewardConfig { gamma: 1.0, gae_lambda: 1.0, ..REWARDS });
    assert_eq!((made.stats.k1, made.stats.k3), (0.0, 0.0));
    assert!(made.stats.exact_kl.unwrap().abs() < 1e-4);
    for (returns, score) in made.returns.iter().zip(&made.scores) {
        assert_close(returns, &vec![*score; returns.len()], 1e-6, "every token's return is the score");
    }
}
