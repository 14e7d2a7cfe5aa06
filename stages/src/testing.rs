//! What the tests of the models and of training share.
//!
//! Purpose: small shapes of both families, models whose every parameter matters, comparisons.
//! Invariant: everything drawn is keyed, so a test that fails once fails always.
//! Must not know: what is tested.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{DType, Device, Tensor};
use kiln::protocol::StageRequest;

use crate::bpe::{Tokenizer, TrainOptions};
use crate::context::Context;
use crate::model::io::{NamedTensors, named_tensors, with_tensors};
use crate::model::{Decoder, Family, ModelConfig};
use crate::rng::{keyed, normal};
use crate::train::TokenRow;

/// The device that stages compute on without a GPU.
pub fn cpu() -> Device {
    crate::device::resolve("cpu").unwrap()
}

/// Small shapes: GPT-2, LLaMA tied and with as many kv heads as heads, LLaMA with its own head and
/// grouped queries.
pub fn shapes() -> [ModelConfig; 3] {
    let gpt2 = ModelConfig {
        family: Family::Gpt2,
        vocab: 37,
        layers: 2,
        width: 24,
        heads: 3,
        kv_heads: 3,
        ffn: 40,
        context: 48,
        tied: true,
        norm_eps: 1e-5,
        rope_theta: 1e4,
    };
    let llama = ModelConfig { family: Family::Llama, ..gpt2.clone() };
    let grouped = ModelConfig { width: 32, heads: 4, kv_heads: 2, tied: false, ..llama.clone() };
    [gpt2, llama, grouped]
}

/// A stage's surroundings with nothing but a folder for checkpoints.
pub fn context(checkpoint: &Path, stop: &Arc<AtomicBool>) -> Context {
    let request = StageRequest {
        kind: "test".to_owned(),
        params: serde_json::Value::Null,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        checkpoint: checkpoint.to_owned(),
        threads: 1,
        device: "cpu".to_owned(),
    };
    Context::new(&request, cpu(), Arc::clone(stop))
}

/// A tokenizer that knows a few words.
pub fn tokenizer() -> Tokenizer {
    let options = TrainOptions { vocab_size: 290, min_count: 1, ..TrainOptions::default() };
    Tokenizer::train(["the sun rose over the hill and the birds sang"], &options).unwrap().tokenizer
}

/// Standard normal draws.
pub fn numbers(what: &str, n: usize) -> Vec<f64> {
    let mut rng = keyed(7, what, n as u64, 0);
    (0..n).map(|_| normal(&mut rng)).collect()
}

/// Token ids below `vocab`.
pub fn tokens(what: &str, n: usize, vocab: usize) -> Vec<u32> {
    numbers(what, n).iter().map(|x| (x.abs() * 1e6) as u32 % vocab as u32).collect()
}

/// Rows of the given lengths, whose targets begin in their middle.
pub fn rows(what: &str, lengths: &[usize], vocab: usize) -> Vec<TokenRow> {
    let row = |(i, &n): (usize, &usize)| TokenRow {
        ids: tokens(&format!("{what} {i}"), n, vocab),
        from: (n / 2).max(1),
    };
    lengths.iter().enumerate().map(row).collect()
}

/// A decoder whose parameters are all drawn, biases and norms too, and large enough that attention
/// picks and nothing is lost in rounding. What initialisation leaves out hides no mistake here.
pub fn lively(config: &ModelConfig, seed: u64, device: &Device) -> Decoder {
    let fresh = Decoder::new(config, seed, device);
    let drawn = NamedTensors::from_iter(named_tensors(&fresh).into_iter().map(|(name, data)| {
        let shape = data.shape().as_slice().to_vec();
        let draws = numbers(&format!("{seed} {name}"), shape.iter().product());
        let values: Vec<f32> = match shape.as_slice() {
            [_] if name.ends_with("weight") => draws.iter().map(|x| (1.0 + 0.2 * x) as f32).collect(),
            [_] => draws.iter().map(|x| (0.2 * x) as f32).collect(),
            _ if name.contains("embedding") => draws.iter().map(|x| (0.5 * x) as f32).collect(),
            [rows, _] => draws.iter().map(|x| (x / (*rows as f64).sqrt()) as f32).collect(),
            _ => unreachable!("{shape:?}"),
        };
        (name, burn::tensor::TensorData::new(values, shape))
    }));
    with_tensors(fresh, drawn).unwrap()
}

/// A tensor's values in f64.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().iter::<f64>().collect()
}

/// Holds two lists of numbers to each other: no difference above `tolerance` times the largest of
/// `wanted` (or 1, if that is larger).
#[track_caller]
pub fn assert_close(got: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let scale = wanted.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}: {a} is not {b} at {i} (scale {scale})");
    }
}

/// `|a - b| / |b|` in the Euclidean norm.
pub fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut b.iter().copied())
}
