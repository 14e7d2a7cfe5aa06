//! What must not depend on how rows are cut into minibatches, micro-batches and shards.

use super::{PPO, REWARDS, Setting, bits};
use crate::model::{Execution, Network, Readout, TokenRow};
use crate::rl::pairs::{loss, pairs};
use crate::rl::rollout::{RewardConfig, Rollout, by_row};
use crate::rl::update::{Learners, PpoConfig, add_losses, update};
use crate::testing::{assert_close, cpu, lively, relative, rows, shapes, wide};
use crate::train::{OptimizerParams, Trainer};

/// Learners that have moved away from the rollout far enough that some tokens are clipped.
fn moved(setting: &Setting, rollout: &Rollout) -> Learners {
    let mut learners = setting.learners();
    let config = PpoConfig { epochs: 6, learning_rate: 0.01, value_learning_rate: 0.02, ..PPO };
    update(&mut learners, rollout, &config, None).unwrap();
    learners
}

/// The gradients of both losses over a minibatch, and the losses.
fn gradients(learners: &Learners, rollout: &Rollout, micro_batch: usize) -> [(Vec<f64>, f64); 2] {
    let mut learners = learners.clone();
    let order = [3, 1, 7, 0, 5, 2, 6, 4];
    let seen = add_losses(&mut learners, rollout, &order, &PpoConfig { micro_batch, ..PPO }).unwrap();
    let Learners { policy, value } = &learners;
    [(policy, seen.policy_loss), (value, seen.value_loss)]
        .map(|(trainer, loss)| (wide(&trainer.grads().values()), loss))
}

#[test]
fn gradients_are_the_same_however_a_minibatch_is_cut() {
    for config in shapes() {
        let setting = Setting::new(&config);
        let rollout = setting.experience(&PPO);
        let learners = moved(&setting, &rollout);
        let whole = gradients(&learners, &rollout, 8);
        for micro_batch in [1, 2, 3] {
            let parts = gradients(&learners, &rollout, micro_batch);
            for ((part, whole), what) in parts.iter().zip(&whole).zip(["policy", "value"]) {
                assert!((part.1 - whole.1).abs() < 1e-5, "{what} loss: {} {}", part.1, whole.1);
                let off = relative(&part.0, &whole.0);
                assert!(off < 1e-6, "{:?}, micro batch {micro_batch}: {what} off by {off}", config.family);
            }
        }
    }
}

#[test]
fn gradients_are_the_same_in_any_number_of_shards() {
    for config in shapes() {
        let setting = Setting::new(&config);
        let rollout = setting.experience(&PPO);
        let learners = moved(&setting, &rollout);
        let at = |execution: Execution| {
            let mut learners = learners.clone();
            for trainer in [&mut learners.policy, &mut learners.value] {
                trainer.model = trainer.model.clone().executed(execution);
            }
            gradients(&learners, &rollout, 8)
        };
        let whole = at(Execution { shards: 1, recompute: false, ..Execution::default() });
        for shards in [2, 3, 8] {
            for recompute in [false, true] {
                let cut = at(Execution { shards, recompute, ..Execution::default() });
                for ((cut, whole), what) in cut.iter().zip(&whole).zip(["policy", "value"]) {
                    let off = relative(&cut.0, &whole.0);
                    assert!(off < 1e-6, "{:?}, {shards} shards: {what} off by {off}", config.family);
                }
            }
        }
    }
}

/// The gradient of the ranking loss of prompts, all their completions in one batch.
fn ranking_gradient(model: &Network, rows: &[TokenRow], rankings: &[&[u32]]) -> Vec<f64> {
    let (mut all, mut first) = (Vec::new(), 0);
    for ranks in rankings {
        all.extend(pairs(ranks, first));
        first += ranks.len();
    }
    assert_eq!(first, rows.len());
    let mut trainer = Trainer::new(model.clone(), &OptimizerParams::default());
    trainer.add(rows, Readout::Scores, |scores| loss(scores, &all, rankings.len())).unwrap();
    wide(&trainer.grads().values())
}

#[test]
fn the_gradient_of_the_ranking_loss_is_the_same_in_any_number_of_shards() {
    for config in shapes() {
        let model = lively(&config, 3, &cpu()).with_value_head(3);
        let rows = rows("ranked", &[14, 3, 5, 7, 30, 2, 9, 21, 4], config.vocab);
        let rankings: [&[u32]; 3] = [&[2, 1], &[1, 2, 2, 4], &[3, 1, 2]];
        let at = |shards, recompute| {
            ranking_gradient(
                &model.clone().executed(Execution { shards, recompute, ..Execution::default() }),
                &rows,
                &rankings,
            )
        };
        let whole = at(1, false);
        for shards in [1, 2, 3, 9, 64] {
            for recompute in [false, true] {
                let off = relative(&at(shards, recompute), &whole);
                assert!(off < 1e-6, "{:?}, {shards} shards, {recompute}: off by {off}", config.family);
            }
        }
    }
}

#[test]
fn what_a_prompt_is_batched_with_never_enters_the_gradient_of_the_ranking_loss() {
    // Two prompts in one batch, whose rows are of other lengths, and each by itself.
    for config in shapes() {
        let host = lively(&config, 3, &cpu()).with_value_head(3);
        let rows = rows("pairs", &[14, 3, 5, 7], config.vocab);
        for model in [host.clone(), host.decomposed(&cpu())] {
            let together = ranking_gradient(&model, &rows, &[&[1, 2], &[1, 2]]);
            let [first, second] =
                [&rows[..2], &rows[2..]].map(|rows| ranking_gradient(&model, rows, &[&[1, 2]]));
            // The mean over two prompts.
            let apart: Vec<f64> = first.iter().zip(&second).map(|(a, b)| (a + b) / 2.0).collect();
            let off = relative(&together, &apart);
            assert!(off < 1e-6, "{:?}: off by {off}", config.family);
            for entry in model.layout().entries() {
                let [together, apart] = [&together, &apart].map(|grads| &grads[entry.range.clone()]);
                assert_close(together, apart, 1e-5, &format!("{:?}, {}", config.family, entry.name));
                // The output head of the language model has no part in a score.
                assert!(entry.name != "head" || together.iter().all(|g| *g == 0.0));
            }
        }
    }
}

#[test]
fn the_first_forward_pass_of_training_gives_the_log_probabilities_of_the_rollout_bit_for_bit() {
    for config in shapes() {
        for execution in [(1, false), (2, false), (3, true)].map(|(shards, recompute)| Execution {
            shards,
            recompute,
            ..Execution::default()
        }) {
            let mut setting = Setting::new(&config);
            setting.policy = setting.policy.executed(execution);
            for temperature in [0.7, 1.0] {
                for (minibatches, micro_batch) in [(1, 8), (1, 3), (2, 4), (2, 3), (3, 2), (8, 1)] {
                    let ppo = PpoConfig { minibatches, micro_batch, temperature, ..PPO };
                    let made = setting.experience(&ppo);
                    assert_first_pass(&setting, &made, &ppo);
                }
            }
        }
    }
}

/// Goes through the first pass of an update, without steps, as training does.
#[track_caller]
fn assert_first_pass(setting: &Setting, made: &Rollout, ppo: &PpoConfig) {
    let readout = Readout::LogProbs { temperature: ppo.temperature as f32 };
    let order: Vec<usize> = (0..made.rows.len()).collect();
    let mut seen = 0;
    for minibatch in order.chunks(made.rows.len().div_ceil(ppo.minibatches)) {
        for part in minibatch.chunks(ppo.micro_batch) {
            let rows = &made.rows[part[0]..part[0] + part.len()];
            let (logprobs, _tape) = setting.policy.forward(rows, readout);
            let logprobs: Vec<f32> = logprobs.into_data().iter::<f32>().collect();
            for (got, stored) in by_row(&logprobs, rows).iter().zip(&made.logprobs[part[0]..]) {
                assert_eq!(bits(got), bits(stored), "{ppo:?}");
                seen += 1;
            }
        }
        let ratios = add_losses(&mut setting.learners(), made, minibatch, ppo).unwrap().ratios;
        assert!(ratios.iter().all(|ratio| *ratio == 1.0), "{ppo:?}");
    }
    assert_eq!(seen, made.rows.len());
}

#[test]
fn how_many_rows_go_through_a_model_at_once_changes_nothing_in_a_rollout() {
    let setting = Setting::new(&shapes()[2]);
    let whole = setting.rollout(1.0, &RewardConfig { batches: [8, 8], ..REWARDS });
    for batches in [[8, 1], [8, 3], [3, 3], [2, 1]] {
        let cut = setting.rollout(1.0, &RewardConfig { batches, ..REWARDS });
        assert_eq!(cut.completions, whole.completions);
        assert!(relative(&cut.advantages.concat(), &whole.advantages.concat()) < 1e-4);
        assert!(relative(&cut.returns.concat(), &whole.returns.concat()) < 1e-4);
    }
}
