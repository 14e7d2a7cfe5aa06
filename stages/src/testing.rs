//! What the tests of the models and of training share.
//!
//! Purpose: small shapes of both families, models whose every parameter matters, comparisons.
//! Invariant: everything drawn is keyed, so a test that fails once fails always.
//! Must not know: what is tested.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};
use kiln::protocol::StageRequest;
use kiln_formats::bpe::{self, TrainOptions};
use kiln_formats::model::{Biases, Rope, Scaling, SlidingWindow};
use kiln_formats::tokenizer::Tokenizer;

use crate::context::Context;
use crate::data::{DataError, TokenStore};
use crate::kernels::cpu::Activation;
use crate::kernels::flat::Flat;
use crate::kernels::workers;
use crate::model::layout::{Entry, Layout};
use crate::model::{Family, ModelConfig, Network, Readout, TokenRow};
use crate::rng::{keyed, normal};

/// The device that stages compute on without a GPU. Tests run beside each other, so libtorch takes one thread.
pub fn cpu() -> Device {
    #[cfg(feature = "tch")]
    crate::kernels::libtorch::set_threads(1);
    crate::device::resolve("cpu").unwrap()
}

/// Small shapes: GPT-2, LLaMA tied and with as many kv heads as heads, LLaMA with its own head and
/// grouped queries.
pub fn shapes() -> [ModelConfig; 3] {
    let gpt2 = ModelConfig {
        family: Family::Gpt2,
        vocab: 37,
        layers: 2,
        hidden_size: 24,
        heads: 3,
        kv_heads: 3,
        head_dim: 8,
        intermediate_size: 40,
        max_position_embeddings: 48,
        activation: Activation::GeluNew,
        biases: Biases::all(Family::Gpt2, true),
        qk_norm: false,
        tied: true,
        norm_eps: 1e-5,
        rope: Rope::new(1e4),
        window: None,
    };
    let llama = ModelConfig {
        family: Family::Llama,
        activation: Activation::Silu,
        biases: Biases::all(Family::Llama, false),
        ..gpt2.clone()
    };
    let grouped = ModelConfig { hidden_size: 32, heads: 4, kv_heads: 2, tied: false, ..llama.clone() };
    [gpt2, llama, grouped]
}

/// Those of [`shapes`], and what else a configuration may ask for: no biases and `relu`, the exact `gelu`, a vocabulary
/// that the head goes through in two blocks, LLaMA with biases and one kv head, and LLaMA's [`relatives`].
pub fn all_shapes() -> Vec<ModelConfig> {
    let [gpt2, llama, grouped] = shapes();
    let plain = ModelConfig {
        biases: Biases::all(Family::Gpt2, false),
        tied: false,
        activation: Activation::Relu,
        ..gpt2.clone()
    };
    let exact = ModelConfig { activation: Activation::Gelu, ..gpt2.clone() };
    let wide = ModelConfig { vocab: 4099, layers: 1, ..grouped.clone() };
    let biased = ModelConfig {
        biases: Biases::all(Family::Llama, true),
        activation: Activation::GeluNew,
        kv_heads: 1,
        ..grouped.clone()
    };
    let [mistral, qwen2, qwen3] = relatives(&grouped);
    vec![gpt2, llama, grouped, plain, exact, wide, biased, mistral, qwen2, qwen3]
}

/// LLaMA's relatives: a sliding window in all layers and small heads; biases of queries, keys and values, scaled RoPE, a window
/// in one layer; norms of queries and keys, large heads.
fn relatives(llama: &ModelConfig) -> [ModelConfig; 3] {
    let window = |size, layers: &[bool]| Some(SlidingWindow { size, layers: layers.to_vec() });
    let mistral = ModelConfig {
        family: Family::Mistral,
        head_dim: 6,
        window: window(5, &[true, true]),
        ..llama.clone()
    };
    let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 16.0 };
    let qwen2 = ModelConfig {
        family: Family::Qwen2,
        biases: Biases { qkv: true, ..llama.biases },
        rope: Rope { theta: 1e4, scaling },
        window: window(3, &[false, true]),
        ..llama.clone()
    };
    let qwen3 = ModelConfig { family: Family::Qwen3, head_dim: 20, qk_norm: true, ..llama.clone() };
    [mistral, qwen2, qwen3]
}

/// Tokens in a file.
pub fn token_store(ids: &[u32]) -> TokenStore {
    TokenStore::new::<DataError>(&std::env::temp_dir(), 1 << 20, |push| push(ids)).unwrap()
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
        memory: 0,
    };
    Context::new(&request, cpu(), Arc::clone(stop))
}

/// A tokenizer that knows a few words.
pub fn tokenizer() -> Tokenizer {
    let options = TrainOptions { vocab_size: 290, min_count: 1, ..TrainOptions::default() };
    let texts = ["the sun rose over the hill and the birds sang"];
    bpe::Tokenizer::train(texts, &options).unwrap().tokenizer.into()
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
    let row =
        |(i, &n): (usize, &usize)| TokenRow::new(tokens(&format!("{what} {i}"), n, vocab), (n / 2).max(1));
    lengths.iter().enumerate().map(row).collect()
}

/// A decoder whose parameters are all drawn, biases and norms too, and large enough that attention
/// picks and nothing is lost in rounding. What initialisation leaves out hides no mistake here.
pub fn lively(config: &ModelConfig, seed: u64, device: &Device) -> Network {
    Network::new(config, false, lively_weights(config, false, seed), device)
}

/// As [`lively`], with the head that is asked.
pub fn lively_for(readout: Readout, config: &ModelConfig, seed: u64) -> Network {
    match readout {
        Readout::LogProbs { .. } => lively(config, seed, &cpu()),
        Readout::Values | Readout::Scores => lively_scorer(config, seed, &cpu()),
    }
}

/// As [`lively`], with a scalar head.
pub fn lively_scorer(config: &ModelConfig, seed: u64, device: &Device) -> Network {
    Network::new(config, true, lively_weights(config, true, seed), device)
}

fn lively_weights(config: &ModelConfig, has_value_head: bool, seed: u64) -> Vec<f32> {
    let layout = Layout::new(config, has_value_head);
    let draw = |entry: &Entry| {
        let (centre, deviation) = match entry.shape[..] {
            [_] if entry.name.ends_with("weight") => (1.0, 0.2),
            [_] => (0.0, 0.2),
            _ if entry.name.contains("embedding") => (0.0, 0.5),
            [_, columns] if entry.name == "head" => (0.0, 1.0 / (columns as f64).sqrt()),
            [rows, _] => (0.0, 1.0 / (rows as f64).sqrt()),
            _ => unreachable!("{entry:?}"),
        };
        let draws = numbers(&format!("{seed} {}", entry.name), entry.range.len());
        draws.into_iter().map(move |x| (centre + deviation * x) as f32)
    };
    layout.entries().iter().flat_map(draw).collect()
}

/// The values of one parameter of a model.
pub fn parameter(model: &Network, name: &str) -> Vec<f32> {
    let range = model.layout().entry(name).unwrap().range.clone();
    model.weights().values()[range].to_vec()
}

/// The model with one parameter changed.
pub fn changed(model: Network, name: &str, change: impl FnOnce(&mut [f32])) -> Network {
    let range = model.layout().entry(name).unwrap().range.clone();
    let mut weights = model.weights().values().into_owned();
    change(&mut weights[range]);
    model.with_weights(weights)
}

/// Runs something with so many threads for shards; nothing else that calls this runs meanwhile.
pub fn with_threads<R>(threads: usize, run: impl FnOnce() -> R) -> R {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            workers::set_threads(self.0);
        }
    }
    let _before = Restore(workers::threads());
    workers::set_threads(threads);
    run()
}

/// Numbers in f64.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Numbers in f32.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

/// The outputs of a model and the gradient of their drawn weighting, in the order of its layout.
pub fn outputs_and_gradient(model: &Network, rows: &[TokenRow], readout: Readout) -> [Vec<f64>; 2] {
    let (outputs, tape) = model.forward(rows, readout);
    let d_outputs = numbers("d_outputs", outputs.dims()[0]);
    let d_outputs = TensorData::new(d_outputs, outputs.dims());
    let d_outputs = Tensor::from_data(d_outputs, (&outputs.device(), outputs.dtype()));
    let mut grads = model.trained().zeros_like();
    model.backward(tape, d_outputs, &mut grads);
    let grads = match grads {
        Flat::Host(grads) => wide(&grads),
        Flat::Device(grads) => host(*grads),
    };
    [host(outputs), grads]
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
