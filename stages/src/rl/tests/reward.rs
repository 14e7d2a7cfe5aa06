//! The reward model: where it reads, how it begins, what it learns from.

use burn::tensor::{Tensor, TensorData};

use super::{bits, outputs};
use crate::model::{ModelConfig, Network, Readout, TokenRow};
use crate::rl::RewardModel;
use crate::rl::pairs::{loss, pairs};
use crate::testing::{assert_close, cpu, host, lively, numbers, parameter, rows, shapes, tokens, wide};

/// A lively decoder with a fresh head.
fn scorer(config: &ModelConfig, seed: u64) -> Network {
    lively(config, seed, &cpu()).with_value_head(seed)
}

#[test]
fn a_score_ignores_everything_after_the_last_real_token() {
    for config in shapes() {
        let host = scorer(&config, 1);
        let row = rows("score", &[9], config.vocab).remove(0);
        // Elsewhere than on the host a longer row beside it means padding after it.
        for model in [host.clone(), host.decomposed(&cpu())] {
            let score = |rows: &[TokenRow]| outputs(&model, rows, Readout::Scores);
            let wanted = score(std::slice::from_ref(&row));
            for more in 1..4 {
                let after = tokens(&format!("after {more}"), 5, config.vocab);
                let ids = [row.ids.as_slice(), &after].concat();
                let longer = TokenRow::new(ids, row.from);
                let beside = score(&[row.clone(), longer.clone()]);
                assert_close(&beside[..1], &wanted, 1e-5, "with a longer row beside it");
                // The value of a text is its score: what comes after it changes nothing.
                let values = outputs(&model, &[TokenRow { from: 1, ..longer }], Readout::Values);
                assert_close(&values[8..9], &wanted, 1e-5, "with text after it");
            }
            // A row whose real tokens look like padding is read at its own end all the same.
            let mut zeros = row.clone();
            zeros.ids[6..].fill(0);
            let shorter = TokenRow::new(zeros.ids[..8].to_vec(), zeros.from);
            let scores = score(&[zeros, shorter]);
            let family = config.family;
            assert!((scores[0] - scores[1]).abs() > 1e-4, "{family:?}: the index comes from the length");
        }
    }
}

#[test]
fn a_fresh_head_is_drawn_with_deviation_1_over_root_of_d_plus_1_and_has_no_bias() {
    let config = ModelConfig {
        hidden_size: 2048,
        heads: 2,
        kv_heads: 2,
        layers: 1,
        intermediate_size: 8,
        ..shapes()[1].clone()
    };
    let model = Network::drawn(&config, 0, &cpu()).with_value_head(3);
    let weights = wide(&parameter(&model, "value_head.weight"));
    assert_eq!(weights.len(), 2048);
    let deviation = (weights.iter().map(|w| w * w).sum::<f64>() / 2048.0).sqrt();
    assert!((deviation * 2049f64.sqrt() - 1.0).abs() < 0.05, "{deviation}");
    assert_eq!(parameter(&model, "value_head.bias"), [0.0]);
}

#[test]
fn a_head_leaves_the_decoder_as_it_was() {
    for config in shapes() {
        let decoder = lively(&config, 5, &cpu());
        let model = decoder.with_value_head(5);
        for entry in decoder.layout().entries().iter().filter(|entry| entry.name != "head") {
            let [was, is] = [&decoder, &model].map(|model| bits(&parameter(model, &entry.name)));
            assert_eq!(was, is, "{}", entry.name);
        }
        let head = if config.tied { 0 } else { config.vocab * config.hidden_size };
        assert_eq!(model.weights().len(), decoder.weights().len() - head + config.hidden_size + 1);
    }
}

#[test]
fn a_gain_and_an_offset_change_every_score_as_they_say() {
    for config in shapes() {
        let model = RewardModel(scorer(&config, 2)).rescaled(1.0, 0.75);
        let rows = rows("shift", &[4, 9, 2], config.vocab);
        let scores = |model: &RewardModel| wide(&model.score_all(&rows).unwrap());
        for (gain, offset) in [(1.0, -1.25), (0.3, 0.0), (2.0, 0.5), (0.0, 1.0)] {
            let wanted: Vec<f64> = scores(&model).iter().map(|s| s * gain + offset).collect();
            assert_close(&scores(&model.clone().rescaled(gain, offset)), &wanted, 1e-6, "rescaled");
        }
    }
}

#[test]
fn a_score_that_is_not_finite_is_an_error() {
    let config = &shapes()[0];
    let model = crate::testing::changed(scorer(config, 2), "value_head.bias", |bias| bias[0] = f32::NAN);
    let said = RewardModel(model).score_all(&rows("bad", &[4], config.vocab)).unwrap_err().to_string();
    assert!(said.contains("not finite"), "{said}");
}

/// `-1/C(K,2) * sum over i better than j of log sigmoid(r_i - r_j)`, the mean over prompts.
fn loss_by_hand(scores: &[f64], rankings: &[&[u32]]) -> f64 {
    let mut first = 0;
    let mut total = 0.0;
    for ranks in rankings {
        let (k, r) = (ranks.len(), &scores[first..]);
        let mut sum = 0.0;
        for i in 0..k {
            for j in 0..k {
                if ranks[i] < ranks[j] {
                    sum += (1.0 + (r[j] - r[i]).exp()).ln();
                }
            }
        }
        total += sum * 2.0 / (k * (k - 1)) as f64;
        first += k;
    }
    total / rankings.len() as f64
}

#[test]
fn the_loss_of_prompts_with_ties_and_different_k_is_as_defined() {
    let rankings: [&[u32]; 4] = [&[2, 1], &[1, 2, 2, 4], &[3, 3, 3], &[5, 4, 3, 2, 1]];
    let n = rankings.iter().map(|r| r.len()).sum();
    let values: Vec<f64> = numbers("scores", n).iter().map(|x| x * 3.0).collect();
    let mut all = Vec::new();
    let mut first = 0;
    for ranks in rankings {
        all.extend(pairs(ranks, first));
        first += ranks.len();
    }
    let single: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    let scores = Tensor::<1>::from_data(TensorData::new(single, [n]), &cpu().autodiff()).require_grad();
    let objective = loss(scores.clone(), &all, rankings.len());
    assert!((objective.clone().into_scalar::<f64>() - loss_by_hand(&values, &rankings)).abs() < 1e-5);
    let got = host(scores.grad(&objective.backward()).unwrap());
    let wanted: Vec<f64> = (0..n)
        .map(|i| {
            let at = |by: f64| {
                let mut moved = values.clone();
                moved[i] += by;
                loss_by_hand(&moved, &rankings)
            };
            (at(1e-6) - at(-1e-6)) / 2e-6
        })
        .collect();
    assert_close(&got, &wanted, 1e-5, "gradient");
    assert!(
        wanted[6..9].iter().all(|g| g.abs() < 1e-9),
        "a prompt whose completions all tie teaches nothing"
    );
}

#[test]
fn scores_far_apart_give_a_finite_loss() {
    let scores = Tensor::<1>::from_floats([-1e4, 1e4], &cpu());
    let got = loss(scores, &pairs(&[1, 2], 0), 1).into_scalar::<f64>();
    assert!((got - 2e4).abs() < 1.0, "{got}");
}
