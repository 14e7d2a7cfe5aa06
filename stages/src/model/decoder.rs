//! The decoder: token ids in, hidden states and logits out.
//!
//! Purpose: the forward pass of both families, with padding on either side and a KV cache.
//! Invariant: what a real token computes does not depend on padding or on what it was batched with
//! (beyond rounding).
//! Must not know: how ids come about, what the logits are for.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::cache::Cache;
use super::config::{Family, ModelConfig};
use super::layers::{Block, INIT_STD, Norm, Rotation, Shared, normal_param};
use crate::rng::keyed;

/// What hides a score: large enough to vanish in a softmax, finite so that a row of padding alone
/// gives no NaN.
const HIDDEN: f32 = -1e30;

/// A decoder of the GPT-2 or LLaMA family.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab, width]`.
    token_embedding: Param<Tensor<2>>,
    /// `[context, width]`, in the GPT-2 family.
    position_embedding: Option<Param<Tensor<2>>>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `[vocab, width]`, unless tied.
    head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: ModelConfig,
}

/// Rows of token ids, brought to one length with padding.
#[derive(Debug, Clone)]
pub struct Rows {
    /// `[batch, time]`.
    pub ids: Tensor<2, Int>,
    /// Rows padded on the left: how many pads stand before each row; none means padding (if any)
    /// is on the right, where causal attention hides it.
    pub left: Option<Vec<usize>>,
}

impl Rows {
    /// Rows of any lengths, padded on the right.
    pub fn right<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: &Device) -> Self {
        Self { ids: padded(rows, pad, device, false), left: None }
    }

    /// Rows of any lengths, padded on the left.
    pub fn left<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: &Device) -> Self {
        let longest = rows.iter().map(|r| r.as_ref().len()).max().unwrap_or(0);
        let left = rows.iter().map(|r| longest - r.as_ref().len()).collect();
        Self { ids: padded(rows, pad, device, true), left: Some(left) }
    }
}

fn padded<R: AsRef<[u32]>>(rows: &[R], pad: u32, device: &Device, left: bool) -> Tensor<2, Int> {
    let longest = rows.iter().map(|r| r.as_ref().len()).max().unwrap_or(0);
    let mut ids = vec![i64::from(pad); rows.len() * longest];
    for (i, row) in rows.iter().enumerate() {
        let row = row.as_ref();
        let start = i * longest + if left { longest - row.len() } else { 0 };
        for (slot, &id) in ids[start..].iter_mut().zip(row) {
            *slot = i64::from(id);
        }
    }
    Tensor::from_data(TensorData::new(ids, [rows.len(), longest]), device)
}

impl Decoder {
    /// A fresh decoder; its weights depend on the seed alone.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let rng = &mut keyed(seed, "init", 0, 0);
        let d = config.width;
        Self {
            token_embedding: normal_param([config.vocab, d], INIT_STD, rng, device),
            position_embedding: (config.family == Family::Gpt2)
                .then(|| normal_param([config.context, d], INIT_STD, rng, device)),
            blocks: (0..config.layers).map(|_| Block::new(config, rng, device)).collect(),
            norm: Norm::new(config, device),
            head: (!config.tied).then(|| normal_param([config.vocab, d], INIT_STD, rng, device)),
            config: config.clone(),
        }
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device its weights are on.
    pub fn device(&self) -> Device {
        self.token_embedding.val().device()
    }

    /// The hidden states after the last norm, `[batch, time, width]`.
    ///
    /// With a cache the rows continue those given before; `left` then still speaks of the start.
    pub fn hidden(&self, rows: Rows, cache: Option<&mut Cache>) -> Tensor<3> {
        let Rows { ids, left } = rows;
        let [batch, time] = ids.dims();
        let start = cache.as_ref().map_or(0, |c| c.len());
        let device = self.device();
        let positions = positions(left.as_deref(), start, time);
        let shared = Shared {
            mask: self.mask(left.as_deref(), batch, start, time, &device),
            rotation: (self.config.family == Family::Llama)
                .then(|| Rotation::new(&positions, self.config.head(), self.config.rope_theta, &device)),
        };
        let mut x = burn::tensor::module::embedding(self.token_embedding.val(), ids);
        if let Some(table) = &self.position_embedding {
            let rows = positions.len();
            let flat: Vec<i64> = positions.iter().flatten().map(|&p| p as i64).collect();
            let at = Tensor::<2, Int>::from_data(TensorData::new(flat, [rows, time]), &device);
            x = x + burn::tensor::module::embedding(table.val(), at);
        }
        match cache {
            Some(cache) => {
                for (block, layer) in self.blocks.iter().zip(&mut cache.layers) {
                    x = block.forward(x, &shared, Some(layer));
                }
            }
            None => {
                for block in &self.blocks {
                    x = block.forward(x, &shared, None);
                }
            }
        }
        self.norm.forward(x)
    }

    /// Logits of hidden states: `[n, width]` to `[n, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let head = self.head.as_ref().unwrap_or(&self.token_embedding);
        hidden.matmul(head.val().transpose())
    }

    /// The mask to add to the scores, or none where plain causal attention is right.
    fn mask(
        &self,
        left: Option<&[usize]>,
        batch: usize,
        start: usize,
        time: usize,
        device: &Device,
    ) -> Option<Tensor<4>> {
        let padded = left.is_some_and(|l| l.iter().any(|&n| n > 0));
        if start == 0 && !padded {
            return None;
        }
        let keys = start + time;
        let mut mask = vec![0.0f32; batch * time * keys];
        for (row, queries) in mask.chunks_exact_mut(time * keys).enumerate() {
            let pads = left.map_or(0, |l| l[row]);
            for (q, scores) in queries.chunks_exact_mut(keys).enumerate() {
                for (k, score) in scores.iter_mut().enumerate() {
                    if k < pads || k > start + q {
                        *score = HIDDEN;
                    }
                }
            }
        }
        Some(Tensor::from_data(TensorData::new(mask, [batch, 1, time, keys]), device))
    }
}

/// The position of each token: how many real tokens stand before it in its row. One row serves all
/// where no row is padded on the left.
fn positions(left: Option<&[usize]>, start: usize, time: usize) -> Vec<Vec<usize>> {
    let row = |pads: usize| (start..start + time).map(|i| i.saturating_sub(pads)).collect();
    match left {
        Some(left) if left.iter().any(|&n| n > 0) => left.iter().map(|&n| row(n)).collect(),
        _ => vec![row(0)],
    }
}
