//! The gradient of the token loss: by whatever way a batch goes through a model, and by differences.

use burn::tensor::{DType, Tensor, TensorData};

use super::values;
use crate::kernels::flat::Flat;
use crate::model::{Execution, Network, Readout, TokenRow};
use crate::rng::{keyed, normal};
use crate::testing::{assert_close, cpu, lively, relative, rows, shapes};
use crate::train::lm::LOGPROBS;
use crate::train::{OptimizerParams, Trainer, add_lm_loss};

fn trainer(model: &Network) -> Trainer {
    Trainer::new(model.clone(), &OptimizerParams::default())
}

/// The gradient of the mean loss, and the loss.
fn gradient(model: &Network, rows: &[TokenRow], micro: usize) -> (Vec<f64>, f64) {
    let mut trainer = trainer(model);
    let loss = add_lm_loss(&mut trainer, rows, micro, 1.0).unwrap();
    (values(trainer.grads()), loss)
}

/// Holds a gradient to another: as a whole, and parameter by parameter.
#[track_caller]
fn assert_same(model: &Network, got: &[f64], wanted: &[f64], what: &str) {
    let off = relative(got, wanted);
    assert!(off < 1e-6, "{:?}, {what}: off by {off}", model.config().family);
    for entry in model.layout().entries() {
        let off = relative(&got[entry.range.clone()], &wanted[entry.range.clone()]);
        assert!(off < 1e-4, "{:?}, {what}: {} is off by {off}", model.config().family, entry.name);
    }
}

/// 32 rows of SFT, of many lengths.
fn ragged(vocab: usize) -> Vec<TokenRow> {
    let lengths: Vec<usize> = (0..32).map(|i| 2 + i * 7 % 30).collect();
    rows("ragged", &lengths, vocab)
}

#[test]
fn one_micro_batch_of_32_ragged_rows_and_32_of_one_row_give_the_same_gradient() {
    for config in shapes() {
        let model = lively(&config, 1, &cpu());
        let rows = ragged(config.vocab);
        let (whole, loss) = gradient(&model, &rows, 32);
        for entry in model.layout().entries() {
            assert!(whole[entry.range.clone()].iter().any(|g| *g != 0.0), "{} has a gradient", entry.name);
        }
        for micro in [1, 5, 0] {
            let (cut, cut_loss) = gradient(&model, &rows, micro);
            assert!((cut_loss / loss - 1.0).abs() < 1e-5, "{cut_loss} {loss}");
            assert_same(&model, &cut, &whole, &format!("micro {micro}"));
        }
    }
}

#[test]
fn shards_and_layers_computed_again_give_the_same_gradient() {
    for config in shapes() {
        let model = lively(&config, 1, &cpu());
        let rows = ragged(config.vocab);
        let at = |shards, recompute| {
            gradient(
                &model.clone().executed(Execution { shards, recompute, ..Execution::default() }),
                &rows,
                32,
            )
            .0
        };
        let whole = at(1, false);
        for shards in [1, 2, 3, 7, 32, 100] {
            for recompute in [false, true] {
                assert_same(&model, &at(shards, recompute), &whole, &format!("{shards} {recompute}"));
            }
            assert_eq!(at(shards, true), at(shards, false), "what is computed again is the same");
        }
    }
}

#[test]
fn the_kernels_of_the_host_and_operations_of_burn_give_the_same_gradient() {
    for config in shapes() {
        let model = lively(&config, 10, &cpu());
        let rows = ragged(config.vocab);
        let (host, _) = gradient(&model, &rows, 32);
        let (burn, _) = gradient(&model.clone().decomposed(&cpu()), &rows, 32);
        let off = relative(&host, &burn);
        assert!(off < 1e-5, "{:?}: off by {off}", config.family);
    }
}

/// A drawn direction over all parameters.
fn direction(model: &Network) -> Vec<f64> {
    let draw = |name: &str, n: usize| {
        let mut rng = keyed(3, name, 0, 0);
        (0..n).map(|_| normal(&mut rng)).collect::<Vec<f64>>()
    };
    model.layout().entries().iter().flat_map(|e| draw(&e.name, e.range.len())).collect()
}

/// A model in f64, moved by so much along a direction.
fn moved(model: &Network, direction: &[f64], by: f64) -> Network {
    let weights: Vec<f64> = values(model.weights()).iter().zip(direction).map(|(x, d)| x + by * d).collect();
    let length = weights.len();
    let weights = TensorData::new(weights, [length]);
    let mut moved = model.clone().decomposed(&cpu());
    *moved.trained_mut() = Flat::Device(Box::new(Tensor::from_data(weights, (&cpu(), DType::F64))));
    moved
}

#[test]
fn the_gradient_is_that_of_finite_differences_in_f64() {
    let readout = Readout::LogProbs { temperature: 1.3 };
    for config in shapes() {
        let model = lively(&config, 8, &cpu());
        let rows = rows("differences", &[7, 12, 4], config.vocab);
        let direction = direction(&model);
        let slope = |model: &Network| -> f64 {
            let mut trainer = trainer(model);
            trainer.add(&rows, readout, |logprobs| logprobs.mean().neg()).unwrap();
            let Flat::Device(grads) = trainer.grads() else {
                return values(trainer.grads()).iter().zip(&direction).map(|(g, d)| g * d).sum();
            };
            let grads: Vec<f64> = grads.clone().into_data().iter::<f64>().collect();
            grads.iter().zip(&direction).map(|(g, d)| g * d).sum()
        };
        let at = |by: f64| -> f64 {
            let model = moved(&model, &direction, by);
            let logprobs = model.decoder().outputs(&rows, readout);
            logprobs.mean().neg().into_scalar()
        };
        let step = 1e-5;
        let measured = (at(step) - at(-step)) / (2.0 * step);
        // The direction is drawn over all parameters, so a wrong gradient anywhere shows.
        let wide = slope(&moved(&model, &direction, 0.0));
        assert!((wide / measured - 1.0).abs() < 1e-6, "{:?} in f64: {wide} {measured}", config.family);
        let host = slope(&model);
        assert!((host / measured - 1.0).abs() < 1e-5, "{:?} on the host: {host} {measured}", config.family);
    }
}

#[test]
fn the_norm_is_over_all_gradients_together_and_addition_adds() {
    let config = &shapes()[2];
    let model = lively(config, 9, &cpu());
    let rows = rows("norm", &[6, 11], config.vocab);
    let grads = |parts: &[&[TokenRow]]| {
        let mut trainer = trainer(&model);
        for part in parts {
            add_lm_loss(&mut trainer, part, 4, 1.0).unwrap();
        }
        let grads = values(trainer.grads());
        let norm = grads.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((trainer.grads().norm() / norm - 1.0).abs() < 1e-6);
        grads
    };
    let [both, first, second] = [&[&rows[..1], &rows[1..]][..], &[&rows[..1]], &[&rows[1..]]].map(grads);
    let sum: Vec<f64> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    assert_close(&both, &sum, 1e-6, "the sum");
    assert_eq!(trainer(&model).grads().norm(), 0.0);
}

#[test]
fn a_weight_scales_the_gradient_and_not_the_loss_that_is_told() {
    let config = &shapes()[1];
    let model = lively(config, 11, &cpu());
    let rows = rows("weight", &[6, 11, 4], config.vocab);
    let (whole, loss) = gradient(&model, &rows, 2);
    for coef in [0.25, 4.0] {
        let mut trainer = trainer(&model);
        let told = add_lm_loss(&mut trainer, &rows, 2, coef).unwrap();
        assert!((told / loss - 1.0).abs() < 1e-6, "{told} {loss}");
        let wanted: Vec<f64> = whole.iter().map(|g| g * coef).collect();
        assert!(relative(&values(trainer.grads()), &wanted) < 1e-6);
    }
}

#[test]
fn what_is_no_part_of_the_loss_gets_no_gradient() {
    let config = &shapes()[0];
    let model = lively(config, 12, &cpu());
    let rows = rows("constant", &[6, 4], config.vocab);
    let mut trainer = trainer(&model);
    let value = trainer.add(&rows, LOGPROBS, |logprobs| (logprobs.detach() * 0.0).sum() + 3.0).unwrap();
    assert_eq!((value, trainer.grads().norm()), (3.0, 0.0));
}
