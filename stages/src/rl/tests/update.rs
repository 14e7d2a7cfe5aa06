//! PPO's update: its losses token by token, its means, and the assertion on the first ratio.

use burn::module::Module;

use super::{SHAPING, Setting};
use crate::model::io::named_tensors;
use crate::model::{Decoder, ModelConfig};
use crate::rl::rollout::{Rollout, Shaping};
use crate::rl::scorer::Scorer;
use crate::rl::update::{self, Gradients, Learner, Pretraining, Rule, UpdateStats, gradients};
use crate::testing::{assert_close, cpu, host, lively, relative, shapes};
use crate::train::corpus::Windows;
use crate::train::lm::target_logprobs;
use crate::train::{AdamW, AdamWParams, Grads, TokenRow, lm_loss};

const RULE: Rule = Rule {
    epochs: 2,
    minibatches: 2,
    clip: 0.2,
    value_clip: 0.2,
    value_coef: 0.1,
    temperature: 1.0,
    micro_batch: 8,
    learning_rate: 1e-3,
    value_learning_rate: 1e-3,
    seed: 3,
    iteration: 0,
};

/// The policy and the value model of `Setting`, ready to learn.
fn learner(config: &ModelConfig) -> Learner {
    let device = cpu().autodiff();
    let params = AdamWParams { eps: 1e-5, weight_decay: 0.0, ..AdamWParams::default() };
    Learner {
        policy: lively(config, 1, &device),
        value: Scorer::new(lively(config, 3, &device), 3),
        policy_optimizer: AdamW::new(params.clone()),
        value_optimizer: AdamW::new(params),
    }
}

/// An update without pretraining text.
fn update(learner: Learner, rollout: &Rollout, rule: &Rule) -> Result<(Learner, UpdateStats), String> {
    update::update(learner, rollout, rule, None)
}

fn experience(config: &ModelConfig, temperature: f64) -> Rollout {
    Setting::new(config).rollout(temperature, &Shaping { whiten: true, ..SHAPING })
}

/// A learner that has moved away from the rollout far enough that some tokens are clipped.
fn moved(config: &ModelConfig, rollout: &Rollout) -> Learner {
    let rule = Rule { epochs: 6, learning_rate: 0.01, value_learning_rate: 0.02, ..RULE };
    update(learner(config), rollout, &rule).unwrap().0
}

fn flat<M: Module>(module: &M, mut grads: Grads) -> Vec<f64> {
    let shapes: Vec<(String, usize)> =
        named_tensors(module).into_iter().map(|(k, d)| (k, d.shape().num_dims())).collect();
    let take = |(path, rank): (String, usize)| match rank {
        1 => grads.remove::<1>(&path).map(host),
        _ => grads.remove::<2>(&path).map(host),
    };
    shapes.into_iter().filter_map(take).flatten().collect()
}

#[test]
fn gradients_are_the_same_however_a_minibatch_is_cut() {
    for config in shapes() {
        let rollout = experience(&config, 1.0);
        let learner = moved(&config, &rollout);
        let order = [3, 1, 7, 0, 5, 2, 6, 4];
        let cut = |micro_batch: usize| gradients(&learner, &rollout, &order, &Rule { micro_batch, ..RULE });
        let whole = cut(8);
        let (policy, value) = (flat(&learner.policy, whole.policy), flat(&learner.value, whole.value));
        for micro_batch in [1, 2, 3] {
            let parts = cut(micro_batch);
            assert!((parts.policy_loss - whole.policy_loss).abs() < 1e-5);
            assert!((parts.value_loss - whole.value_loss).abs() < 1e-4);
            let off = relative(&flat(&learner.policy, parts.policy), &policy);
            assert!(off < 1e-4, "{:?}, micro batch {micro_batch}: policy off by {off}", config.family);
            let off = relative(&flat(&learner.value, parts.value), &value);
            assert!(off < 1e-4, "{:?}, micro batch {micro_batch}: value off by {off}", config.family);
        }
    }
}

/// Log-probability and value of each response token of a row, with the row alone.
fn alone(learner: &Learner, rollout: &Rollout, i: usize, temperature: f64) -> (Vec<f64>, Vec<f64>) {
    let row = &rollout.rows[i..=i];
    (host(target_logprobs(&learner.policy, row, temperature)), host(learner.value.values(row)))
}

#[test]
fn the_losses_are_means_over_the_valid_tokens_of_the_whole_minibatch() {
    for (config, temperature) in shapes().iter().zip([1.0, 0.8, 1.2]) {
        let rollout = experience(config, temperature);
        let rule = Rule { temperature, ..RULE };
        let learner = update(
            learner(config),
            &rollout,
            &Rule { epochs: 6, learning_rate: 0.01, value_learning_rate: 0.02, ..rule },
        )
        .unwrap()
        .0;
        let minibatch = [6, 2, 0, 5];
        let (mut policy, mut value, mut tokens, mut clipped) = (0.0, 0.0, 0.0, 0);
        let mut ratios = Vec::new();
        for i in minibatch {
            let (logprobs, values) = alone(&learner, &rollout, i, temperature);
            for t in 0..logprobs.len() {
                let ratio = (logprobs[t] - f64::from(rollout.logprobs[i][t])).exp();
                let a = rollout.advantages[i][t];
                policy += (-a * ratio).max(-a * ratio.clamp(0.8, 1.2));
                let (old, target) = (rollout.values[i][t], rollout.returns[i][t]);
                let near = values[t].clamp(old - 0.2, old + 0.2);
                value += 0.5 * (values[t] - target).powi(2).max((near - target).powi(2));
                clipped += usize::from((ratio - 1.0).abs() > 0.2);
                tokens += 1.0;
                ratios.push(ratio);
            }
        }
        let got = gradients(&learner, &rollout, &minibatch, &rule);
        assert!(clipped > 0 && clipped < ratios.len(), "some tokens are clipped and some are not: {clipped}");
        assert_close(&got.ratios, &ratios, 1e-4, "ratios");
        assert_close(&[got.policy_loss], &[policy / tokens], 1e-4, "policy loss");
        assert_close(&[got.value_loss], &[value / tokens], 1e-4, "value loss");
    }
}

#[test]
fn the_value_coefficient_scales_the_gradient_and_not_the_loss_that_is_told() {
    let config = &shapes()[0];
    let rollout = experience(config, 1.0);
    let learner = moved(config, &rollout);
    let at = |value_coef: f64| gradients(&learner, &rollout, &[0, 1, 2], &Rule { value_coef, ..RULE });
    let (tenth, whole): (Gradients, Gradients) = (at(0.1), at(1.0));
    assert_eq!(tenth.value_loss, whole.value_loss);
    let wanted: Vec<f64> = flat(&learner.value, whole.value).iter().map(|g| g * 0.1).collect();
    assert!(relative(&flat(&learner.value, tenth.value), &wanted) < 1e-5);
}

#[test]
fn the_first_ratio_is_1_whatever_the_cut_and_the_temperature() {
    for config in shapes() {
        for temperature in [0.5, 1.0, 2.0] {
            let rollout = experience(&config, temperature);
            for (minibatches, micro_batch) in [(1, 8), (1, 1), (4, 2), (8, 3)] {
                let rule = Rule { minibatches, micro_batch, temperature, ..RULE };
                update(learner(&config), &rollout, &rule).unwrap();
            }
        }
    }
}

#[test]
fn another_temperature_in_training_than_in_the_rollout_is_an_error() {
    for config in shapes() {
        for (rollout_temperature, temperature) in [(1.0, 0.7), (0.7, 1.0), (1.0, 1.001)] {
            let rollout = experience(&config, rollout_temperature);
            let said = update(learner(&config), &rollout, &Rule { temperature, ..RULE }).err();
            let said = said.expect("a wrong temperature must not go unseen");
            assert!(said.contains("first minibatch's ratio") && said.contains("temperature"), "{said}");
        }
    }
}

#[test]
fn a_policy_that_did_not_make_the_rollout_is_an_error() {
    let config = &shapes()[1];
    let rollout = experience(config, 1.0);
    let stranger = Learner { policy: lively(config, 2, &cpu().autodiff()), ..learner(config) };
    assert!(update(stranger, &rollout, &RULE).is_err());
}

#[test]
fn without_a_learning_rate_every_ratio_stays_1_and_nothing_moves() {
    let config = &shapes()[2];
    let rollout = experience(config, 1.0);
    let rule = Rule { epochs: 3, learning_rate: 0.0, value_learning_rate: 0.0, ..RULE };
    let (after, stats) = update(learner(config), &rollout, &rule).unwrap();
    assert!((stats.ratio - 1.0).abs() < 1e-6 && stats.ratio_variance < 1e-10, "{stats:?}");
    assert_eq!((stats.clip_fraction, stats.value_clip_fraction), (0.0, 0.0));
    assert!(stats.approx_kl < 1e-10);
    assert_eq!(named_tensors(&after.policy), named_tensors(&learner(config).policy));
    assert_eq!(named_tensors(&after.value), named_tensors(&learner(config).value));
}

#[test]
fn an_update_makes_better_tokens_likelier_and_worse_ones_less_likely() {
    let config = &shapes()[0];
    let rollout = experience(config, 1.0);
    let rule = Rule { minibatches: 1, epochs: 1, learning_rate: 1e-4, ..RULE };
    let (after, _) = update(learner(config), &rollout, &rule).unwrap();
    let gain = |model: &Decoder| -> f64 {
        let now = host(target_logprobs(model, &rollout.rows, 1.0));
        now.iter().zip(rollout.advantages.concat()).map(|(l, a)| l * a).sum()
    };
    assert!(gain(&after.policy) > gain(&learner(config).policy));
    let error = |value: &Scorer| -> f64 {
        let now = host(value.values(&rollout.rows));
        now.iter().zip(rollout.returns.concat()).map(|(v, r)| (v - r).powi(2)).sum()
    };
    assert!(error(&after.value) < error(&learner(config).value));
}

#[test]
fn the_same_update_twice_gives_the_same_bytes() {
    let config = &shapes()[1];
    let rollout = experience(config, 1.0);
    let tensors = || {
        let (after, _) = update(learner(config), &rollout, &RULE).unwrap();
        (named_tensors(&after.policy), named_tensors(&after.value))
    };
    assert_eq!(tensors(), tensors());
}

#[test]
fn a_loss_that_is_not_finite_is_an_error() {
    let config = &shapes()[0];
    let mut rollout = experience(config, 1.0);
    rollout.returns[2][0] = f64::NAN;
    let said = update(learner(config), &rollout, &RULE).err().unwrap();
    assert!(said.contains("NaN"), "{said}");
}

#[test]
fn pretraining_text_that_is_mixed_in_is_learnt_and_without_weight_changes_nothing() {
    let config = &shapes()[0];
    let rollout = experience(config, 1.0);
    let tokens: Vec<u32> = (0..200u32).map(|i| i % 7).collect();
    let (time, rule) = (6, Rule { epochs: 8, minibatches: 1, ..RULE });
    let after = |coef: f64| {
        let text = Windows::new(tokens.clone(), time).unwrap();
        let mix = Pretraining { coef, text, rows: 4 };
        update::update(learner(config), &rollout, &rule, Some(&mix)).unwrap()
    };
    let loss = |model: &Decoder| {
        let text = Windows::new(tokens.clone(), time).unwrap();
        let rows: Vec<TokenRow> = (0..7).map(|i| text.row(i)).collect();
        let (sum, count) = lm_loss(model, &rows, 8);
        sum / count as f64
    };
    let (with, stats) = after(5.0);
    let (without, _) = update(learner(config), &rollout, &rule).unwrap();
    assert!(
        loss(&with.policy) < loss(&without.policy) - 0.01,
        "{} {}",
        loss(&with.policy),
        loss(&without.policy)
    );
    assert!(stats.pretraining_loss > 0.0);
    assert_eq!(named_tensors(&after(0.0).0.policy), named_tensors(&without.policy));
}
