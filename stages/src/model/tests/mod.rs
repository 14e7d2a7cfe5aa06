//! Tests of the decoder: what it computes, and how it is kept on disk.
//!
//! Purpose: `adapter` holds adapters to merged models, `twin` the kernels of the CPU to burn's operations, `device` those to themselves, `equivalence` what must
//! not change a result; `generation` samples; `shape` is about parameters, `folder` and `hostile` about files.
//! Invariant: models are lively, so that no mistake hides behind a parameter that does nothing.

mod adapter;
mod device;
mod equivalence;
mod folder;
mod generation;
mod hostile;
mod shape;
mod twin;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{ModelConfig, Network, Readout, TokenRow};
use crate::kernels::flat::Flat;
use crate::testing::{relative, tokens, wide};

/// Everything that a model can be asked.
const READOUTS: [Readout; 4] = [
    Readout::LogProbs { temperature: 1.0 },
    Readout::LogProbs { temperature: 0.7 },
    Readout::Values,
    Readout::Scores,
];

/// Ragged rows of tokens of a model.
fn ragged(config: &ModelConfig) -> Vec<Vec<u32>> {
    [1, 9, 4, 13, 13].iter().map(|&n| tokens("ragged", n, config.vocab)).collect()
}

/// The same model in burn's operations, in f64.
fn exact_twin(model: &Network) -> Network {
    moved_twin(model, 0.0, &[])
}

/// As [`exact_twin`], with `by` times a direction added to the parameters.
fn moved_twin(model: &Network, by: f64, direction: &[f64]) -> Network {
    let mut values = wide(&model.weights().values());
    values.iter_mut().zip(direction).for_each(|(x, d)| *x += by * d);
    let data = TensorData::new(values, [model.weights().len()]);
    let mut twin = model.clone().decomposed(&Device::flex());
    let tensor = Tensor::from_data(data, (&Device::flex(), DType::F64));
    *twin.trained_mut() = Flat::Device(Box::new(tensor));
    twin
}

/// Logits after each token of one row, from the full forward pass.
fn full_logits(model: &Network, row: &[u32]) -> Vec<Vec<f64>> {
    // The last token of a row is only a target.
    let row = TokenRow::new([row, &[0]].concat(), 1);
    let (_, logits) = model.logprobs_and_logits(&[row], 1.0);
    logits.chunks(model.config().vocab).map(wide).collect()
}

/// Holds the gradient of each parameter to another: the norm of the difference against the norm.
#[track_caller]
fn assert_gradient(model: &Network, got: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert!(wanted.iter().any(|&x| x != 0.0), "{what}");
    assert!(relative(got, wanted) <= tolerance, "{what}: off by {}", relative(got, wanted));
    for entry in model.layout().entries() {
        let [got, wanted] = [got, wanted].map(|grads| &grads[entry.range.clone()]);
        if wanted.iter().all(|&x| x == 0.0) {
            assert!(got.iter().all(|&x| x == 0.0), "{what}: {}", entry.name);
        } else {
            let off = relative(got, wanted);
            assert!(off <= 2.0 * tolerance, "{what}: {} is off by {off}", entry.name);
        }
    }
}
