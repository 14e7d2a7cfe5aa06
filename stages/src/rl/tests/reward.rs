//! The reward model: where it reads, how it begins, what it learns from.

use burn::tensor::{Tensor, TensorData};

use crate::model::io::named_tensors;
use crate::model::{ModelConfig, Rows};
use crate::rl::pairs::{loss, pairs};
use crate::rl::scorer::Scorer;
use crate::testing::{assert_close, cpu, host, lively, numbers, rows, shapes, tokens};
use crate::train::Grads;

#[test]
fn a_score_ignores_everything_after_the_last_real_token() {
    for config in shapes() {
        let scorer = Scorer::new(lively(&config, 1, &cpu()), 1);
        let row = rows("score", &[9], config.vocab).remove(0);
        let wanted = host(scorer.scores(std::slice::from_ref(&row)));
        for more in 1..4 {
            let longer = [row.ids.as_slice(), &tokens(&format!("after {more}"), 5, config.vocab)].concat();
            let hidden = scorer.decoder().hidden(Rows::right(&[&longer], 0, &cpu()), None);
            assert_close(&host(scorer.read(hidden, &|_| vec![8])), &wanted, 1e-5, "with text after it");
        }
        // A row whose real tokens look like padding is read at its own end all the same.
        let mut zeros = row.clone();
        zeros.ids[6..].fill(0);
        let shorter = crate::train::TokenRow { ids: zeros.ids[..8].to_vec(), from: zeros.from };
        let scores = host(scorer.scores(&[zeros, shorter]));
        assert!((scores[0] - scores[1]).abs() > 1e-4, "{:?}: the index comes from the length", config.family);
    }
}

#[test]
fn a_fresh_head_is_drawn_with_deviation_1_over_root_of_d_plus_1_and_has_no_bias() {
    let config = ModelConfig { width: 2048, heads: 2, kv_heads: 2, layers: 1, ffn: 8, ..shapes()[1].clone() };
    let scorer = Scorer::new(crate::model::Decoder::new(&config, 0, &cpu()), 3);
    let tensors = named_tensors(&scorer);
    let weights: Vec<f64> = tensors["weight"].iter::<f64>().collect();
    let deviation = (weights.iter().map(|w| w * w).sum::<f64>() / 2048.0).sqrt();
    assert!((deviation * 2049f64.sqrt() - 1.0).abs() < 0.05, "{deviation}");
    assert_eq!(tensors["bias"].iter::<f64>().collect::<Vec<_>>(), [0.0]);
}

#[test]
fn a_shift_of_the_bias_shifts_every_score() {
    let config = &shapes()[0];
    let scorer = Scorer::new(lively(config, 2, &cpu()), 2);
    let rows = rows("shift", &[4, 9, 2], config.vocab);
    let wanted: Vec<f64> = host(scorer.scores(&rows)).iter().map(|s| s - 1.25).collect();
    assert_close(&host(scorer.shifted(-1.25).scores(&rows)), &wanted, 1e-6, "shifted");
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

#[test]
fn padding_never_enters_the_gradient_of_the_ranking_loss() {
    // Two prompts in one batch, whose rows are of other lengths, and each by itself.
    for config in shapes() {
        let scorer = Scorer::new(lively(&config, 3, &cpu().autodiff()), 3);
        let rows = rows("pairs", &[14, 3, 5, 7], config.vocab);
        let gradient = |rows: &[crate::train::TokenRow], prompts: usize| {
            let firsts = (0..rows.len()).step_by(2);
            let all: Vec<_> = firsts.flat_map(|first| pairs(&[1, 2], first)).collect();
            let mut grads = loss(scorer.scores(rows), &all, prompts).backward();
            Grads::take(&scorer, &mut grads)
        };
        let names: Vec<(String, usize)> =
            named_tensors(&scorer).into_iter().map(|(k, d)| (k, d.shape().num_dims())).collect();
        let mut together = gradient(&rows, 2);
        let mut apart = gradient(&rows[..2], 2);
        apart.add(gradient(&rows[2..], 2));
        for (name, rank) in names {
            let take = |grads: &mut Grads| match rank {
                1 => grads.remove::<1>(&name).map(host),
                _ => grads.remove::<2>(&name).map(host),
            };
            match (take(&mut together), take(&mut apart)) {
                (Some(a), Some(b)) => assert_close(&a, &b, 1e-5, &format!("{:?}, {name}", config.family)),
                // The output head of the language model has no part in a score.
                (a, b) => assert!(a.is_none() && b.is_none() && name == "decoder.head", "{name}"),
            }
        }
    }
}
