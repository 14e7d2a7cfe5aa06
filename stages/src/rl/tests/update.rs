//! PPO's update: its losses token by token, its means, and the assertion on the first ratio.

use super::{PPO, Setting, bits, contents, outputs};
use crate::model::{ModelConfig, Network, Readout, TokenRow};
use crate::rl::rollout::Rollout;
use crate::rl::update::{self, Learners, Minibatch, PpoConfig, Pretraining, UpdateStats, add_losses};
use crate::testing::{assert_close, cpu, lively, relative, shapes, token_store, wide};
use crate::train::corpus::Windows;
use crate::train::lm::LOGPROBS;
use crate::train::{Trainer, lm_loss};

/// A setting and experience for an update.
fn experience(config: &ModelConfig, ppo: &PpoConfig) -> (Setting, Rollout) {
    let setting = Setting::new(config);
    let rollout = setting.experience(ppo);
    (setting, rollout)
}

/// The learners of a setting after an update without pretraining text.
fn update(setting: &Setting, rollout: &Rollout, ppo: &PpoConfig) -> Result<(Learners, UpdateStats), String> {
    let mut learners = setting.learners();
    let stats = update::update(&mut learners, rollout, ppo, None)?;
    Ok((learners, stats))
}

/// Learners that have moved away from the rollout far enough that some tokens are clipped.
fn moved(setting: &Setting, rollout: &Rollout, ppo: &PpoConfig) -> Learners {
    let ppo = PpoConfig { epochs: 6, learning_rate: 0.01, value_learning_rate: 0.02, ..*ppo };
    update(setting, rollout, &ppo).unwrap().0
}

/// The learners with the gradients of a minibatch, and what is seen of it.
fn losses(
    learners: &Learners,
    rollout: &Rollout,
    minibatch: &[usize],
    ppo: &PpoConfig,
) -> (Learners, Minibatch) {
    let mut learners = learners.clone();
    let seen = add_losses(&mut learners, rollout, minibatch, ppo).unwrap();
    (learners, seen)
}

/// Log-probability and value of each response token of a row, with the row alone.
fn alone(learners: &Learners, rollout: &Rollout, i: usize, temperature: f64) -> [Vec<f64>; 2] {
    let row = &rollout.rows[i..=i];
    let readout = Readout::LogProbs { temperature: temperature as f32 };
    [outputs(&learners.policy.model, row, readout), outputs(&learners.value.model, row, Readout::Values)]
}

#[test]
fn the_losses_are_means_over_the_valid_tokens_of_the_whole_minibatch() {
    for (config, temperature) in shapes().iter().zip([1.0, 0.8, 1.2]) {
        let ppo = PpoConfig { temperature, ..PPO };
        let (setting, rollout) = experience(config, &ppo);
        let learners = moved(&setting, &rollout, &ppo);
        let minibatch = [6, 2, 0, 5];
        let (mut policy, mut value, mut tokens, mut clipped) = (0.0, 0.0, 0.0, 0);
        let mut ratios = Vec::new();
        for i in minibatch {
            let [logprobs, values] = alone(&learners, &rollout, i, temperature);
            for t in 0..logprobs.len() {
                let ratio = (logprobs[t] - f64::from(rollout.logprobs[i][t])).exp();
                let a = rollout.advantages[i][t];
                let held = -a * ratio.clamp(0.8, 1.2);
                clipped += usize::from(held > -a * ratio);
                policy += held.max(-a * ratio);
                let (old, target) = (rollout.values[i][t], rollout.returns[i][t]);
                let near = values[t].clamp(old - 0.2, old + 0.2);
                value += 0.5 * (values[t] - target).powi(2).max((near - target).powi(2));
                tokens += 1.0;
                ratios.push(ratio);
            }
        }
        let (_, got) = losses(&learners, &rollout, &minibatch, &ppo);
        assert!(clipped > 0 && clipped < ratios.len(), "some tokens are clipped and some are not: {clipped}");
        assert_close(&[got.clipped], &[clipped as f64 / tokens], 1e-6, "clipped");
        assert_close(&got.ratios, &ratios, 1e-4, "ratios");
        assert_close(&[got.policy_loss], &[policy / tokens], 1e-4, "policy loss");
        assert_close(&[got.value_loss], &[value / tokens], 1e-4, "value loss");
    }
}

#[test]
fn the_value_coefficient_scales_the_gradient_and_not_the_loss_that_is_told() {
    let (setting, rollout) = experience(&shapes()[0], &PPO);
    let learners = moved(&setting, &rollout, &PPO);
    let at = |value_coef: f64| losses(&learners, &rollout, &[0, 1, 2], &PpoConfig { value_coef, ..PPO });
    let ((tenth, told), (whole, wanted)) = (at(0.1), at(1.0));
    assert_eq!(told.value_loss, wanted.value_loss);
    let [tenth, whole] = [tenth, whole].map(|learners| wide(&learners.value.grads().values()));
    let wanted: Vec<f64> = whole.iter().map(|g| g * 0.1).collect();
    assert!(relative(&tenth, &wanted) < 1e-5);
}

#[test]
fn the_first_ratio_is_1_whatever_the_cut_and_the_temperature() {
    for config in shapes() {
        let setting = Setting::new(&config);
        for temperature in [0.5, 1.0, 2.0] {
            for (minibatches, micro_batch) in [(1, 8), (1, 1), (4, 2), (8, 3)] {
                let ppo = PpoConfig { minibatches, micro_batch, temperature, ..PPO };
                update(&setting, &setting.experience(&ppo), &ppo).unwrap();
            }
        }
    }
}

#[test]
fn another_temperature_in_training_than_in_the_rollout_is_an_error() {
    for config in shapes() {
        let setting = Setting::new(&config);
        for (rollout_temperature, temperature) in [(1.0, 0.7), (0.7, 1.0), (1.0, 1.001)] {
            let rollout = setting.experience(&PpoConfig { temperature: rollout_temperature, ..PPO });
            let said = update(&setting, &rollout, &PpoConfig { temperature, ..PPO }).err();
            let said = said.expect("a wrong temperature must not go unseen");
            assert!(said.contains("first minibatch's ratio") && said.contains("temperature"), "{said}");
        }
    }
}

#[test]
fn a_policy_that_did_not_make_the_rollout_is_an_error() {
    let config = &shapes()[1];
    let (mut setting, rollout) = experience(config, &PPO);
    let same = setting.policy.weights().values().into_owned();
    let place = setting.policy.layout().entry("blocks.1.attention.out.weight").unwrap().range.start;
    setting.policy = lively(config, 2, &cpu());
    assert!(update(&setting, &rollout, &PPO).is_err(), "a stranger");
    let mut other = same.clone();
    other[place] *= 1.01;
    setting.policy = lively(config, 1, &cpu()).with_weights(other);
    assert!(update(&setting, &rollout, &PPO).is_err(), "one weight is another");
    setting.policy = setting.policy.with_weights(same);
    assert!(update(&setting, &rollout, &PPO).is_ok(), "itself");
}

#[test]
fn without_a_learning_rate_every_ratio_stays_1_and_nothing_moves() {
    let (setting, rollout) = experience(&shapes()[2], &PPO);
    let ppo = PpoConfig { epochs: 3, learning_rate: 0.0, value_learning_rate: 0.0, ..PPO };
    let (after, stats) = update(&setting, &rollout, &ppo).unwrap();
    assert!((stats.ratio - 1.0).abs() < 1e-6 && stats.ratio_variance < 1e-10, "{stats:?}");
    assert_eq!((stats.clip_fraction, stats.value_clip_fraction), (0.0, 0.0));
    assert!(stats.approx_kl < 1e-10);
    let before = setting.learners();
    for (after, before) in [(after.policy, before.policy), (after.value, before.value)] {
        assert_eq!(bits(&after.model.weights().values()), bits(&before.model.weights().values()));
    }
}

#[test]
fn an_update_makes_better_tokens_likelier_and_worse_ones_less_likely() {
    let ppo = PpoConfig { minibatches: 1, epochs: 1, learning_rate: 1e-4, ..PPO };
    let (setting, rollout) = experience(&shapes()[0], &ppo);
    let (after, _) = update(&setting, &rollout, &ppo).unwrap();
    let gain = |model: &Network| -> f64 {
        let now = outputs(model, &rollout.rows, LOGPROBS);
        now.iter().zip(rollout.advantages.concat()).map(|(l, a)| l * a).sum()
    };
    assert!(gain(&after.policy.model) > gain(&setting.policy));
    let error = |value: &Network| -> f64 {
        let now = outputs(value, &rollout.rows, Readout::Values);
        now.iter().zip(rollout.returns.concat()).map(|(v, r)| (v - r).powi(2)).sum()
    };
    assert!(error(&after.value.model) < error(&setting.value));
}

#[test]
fn the_same_update_twice_gives_the_same_bytes() {
    let (setting, rollout) = experience(&shapes()[1], &PPO);
    let made = || contents(&update(&setting, &rollout, &PPO).unwrap().0);
    assert_eq!(made(), made());
}

#[test]
fn later_passes_go_through_the_rows_in_orders_of_their_own() {
    let (setting, rollout) = experience(&shapes()[1], &PPO);
    let at =
        |epochs, seed| contents(&update(&setting, &rollout, &PpoConfig { epochs, seed, ..PPO }).unwrap().0);
    assert_eq!(at(1, 3), at(1, 4), "the first pass has the order of the rollout");
    assert_ne!(at(2, 3), at(2, 4), "the second has one that the seed draws");
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_and_changes_no_weight() {
    let (setting, rollout) = experience(&shapes()[0], &PPO);
    let mut learners = setting.learners();
    let before = contents(&learners);
    let mut bad = setting.experience(&PPO);
    bad.returns[2][0] = f64::NAN;
    let said = update::update(&mut learners, &bad, &PPO, None).err().unwrap();
    assert!(said.contains("NaN") && said.contains("value model"), "{said}");
    assert_eq!(contents(&learners), before);
    let mut bad = rollout;
    bad.advantages[1][0] = f64::INFINITY;
    let said = update::update(&mut learners, &bad, &PPO, None).err().unwrap();
    assert!(said.contains("the loss is") && !said.contains("value model"), "{said}");
    assert_eq!(contents(&learners), before);
}

#[test]
fn pretraining_text_that_is_mixed_in_is_learnt_and_without_weight_changes_nothing() {
    let ppo = PpoConfig { epochs: 8, minibatches: 1, micro_batch: 8, ..PPO };
    let (setting, rollout) = experience(&shapes()[0], &ppo);
    let tokens: Vec<u32> = (0..200u32).map(|i| i % 7).collect();
    let text = || Windows::new(token_store(&tokens), 6).unwrap();
    let after = |ptx_coef: f64| {
        let mut learners = setting.learners();
        let mix = Pretraining { ptx_coef, text: text(), rows: 4 };
        let stats = update::update(&mut learners, &rollout, &ppo, Some(&mix)).unwrap();
        (learners, stats)
    };
    let loss = |trainer: &Trainer| {
        let rows: Vec<TokenRow> = (0..7).map(|i| text().row(i).unwrap()).collect();
        let (sum, count) = lm_loss(&trainer.model, &rows, 8).unwrap();
        sum / count as f64
    };
    let (with, stats) = after(5.0);
    let (without, _) = update(&setting, &rollout, &ppo).unwrap();
    let (with, bare) = (loss(&with.policy), loss(&without.policy));
    assert!(with < bare - 0.01, "{with} {bare}");
    assert!(stats.pretraining_loss > 0.0);
    assert_eq!(contents(&after(0.0).0), contents(&without));
}
