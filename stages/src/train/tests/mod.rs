//! Tests of the parts of a training step, and of the loop around them.

mod checkpoint;
mod gradients;
mod optimizer;
mod resume;
mod token_loss;

use crate::kernels::flat::Flat;
use crate::model::Network;
use crate::testing::wide;
use crate::train::Trainer;
use crate::train::state::{Reader, Saved};

/// Numbers of the host or of another device, in f64.
fn values(flat: &Flat) -> Vec<f64> {
    wide(&flat.values())
}

/// The bits of all parameters of a model.
fn bits(model: &Network) -> Vec<u32> {
    model.weights().values().iter().map(|x| x.to_bits()).collect()
}

/// What a training consists of: the bits of its tensors, and its counters.
fn contents(trainer: &Trainer) -> (Vec<(String, Vec<u32>)>, String) {
    let mut saved = Saved::default();
    trainer.save("model", &mut saved);
    let tensors = saved.tensors.iter().map(|(name, values)| {
        let bits = values.iter().map(|x| x.to_bits()).collect();
        (name.clone(), bits)
    });
    (tensors.collect(), serde_json::to_string(&saved.counters).unwrap())
}

/// A saved state as if it had been read from a file.
fn read_back(saved: Saved) -> Reader {
    let tensors = saved.tensors.into_iter().map(|(name, values)| (name, values.into_owned()));
    Reader { tensors: tensors.collect(), counters: saved.counters }
}
