//! The decoder: token ids in, hidden states, logits and outputs out.
//!
//! Purpose: the forward pass of both families, with padding on either side and a KV cache; its gradients.
//! Invariant: what a real token computes does not depend on padding or on what it was batched with (beyond rounding).
//! Must not know: how ids come about, what the outputs are for.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::cache::Cache;
use super::layers::{Rotation, Shared};
use crate::kernels;
use crate::kernels::flat::Flat;
use crate::model::batch::{Readout, TokenRow};
use crate::model::config::ModelConfig;
use crate::model::layout::{Entry, Layout};
use crate::model::lora::{AdapterLayout, LowRank};
use crate::model::network::Dtype;

/// What hides a score: large enough to vanish in a softmax, finite so that a row of padding alone
/// gives no NaN.
const HIDDEN: f32 = -1e30;

/// A parameter: a matrix or a vector.
#[derive(Clone)]
enum Leaf {
    Matrix(Tensor<2>),
    Vector(Tensor<1>),
}

/// Parameters and their places.
#[derive(Clone, Copy)]
pub struct Parameters<'a> {
    /// The places.
    pub layout: &'a Layout,
    /// The parameters.
    pub weights: &'a Flat,
}

/// A decoder whose parameters are slices of one tensor.
pub struct Decoder<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) dtype: Dtype,
    leaves: BTreeMap<&'a str, Leaf>,
    /// What is trained, in the order of its places.
    trained: Vec<(Leaf, usize)>,
    device: Device,
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

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|v| v as i64).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

impl<'a> Decoder<'a> {
    /// The decoder of these parameters, with or without gradients.
    ///
    /// With an adapter its parameters have the gradients: each map that it changes is the sum of the map and the change.
    pub fn new(
        config: &'a ModelConfig,
        Parameters { layout, weights }: Parameters<'a>,
        adapter: Option<(&'a AdapterLayout, &'a Flat)>,
        dtype: Dtype,
        learns: bool,
    ) -> Self {
        let Flat::Device(weights) = weights else { unreachable!("these parameters are on the host") };
        let device = if learns { weights.device().autodiff() } else { weights.device() };
        let own = learns.then_some(adapter.is_none());
        let leaves = leaves(layout.entries(), weights, own);
        let mut this =
            Self { config, dtype, leaves: leaves.into_iter().collect(), trained: Vec::new(), device };
        let entries = adapter.map_or(layout.entries(), |(layout, _)| layout.entries());
        if let Some((layout, Flat::Device(weights))) = adapter {
            this.leaves.extend(self::leaves(layout.entries(), weights, learns.then_some(true)));
        }
        let trained =
            entries.iter().filter_map(|e| Some((this.leaves.get(e.name.as_str())?.clone(), e.range.len())));
        this.trained = trained.collect();
        if let Some((adapter, _)) = adapter {
            this.change(layout, adapter);
        }
        this
    }

    /// Makes the changes of an adapter to the maps of the layers.
    fn change(&mut self, layout: &'a Layout, adapter: &AdapterLayout) {
        let named =
            |range: &std::ops::Range<usize>| layout.entries().iter().find(|entry| entry.range == *range);
        for (halves, changes) in layout.layers.iter().zip(&adapter.layers) {
            for (half, changes) in halves.iter().zip(changes) {
                for (map, parts) in [(&half.first, &changes.first), (&half.last, &changes.last)] {
                    if let (Some(entry), false) = (named(&map.weight), parts.is_empty()) {
                        let changed = self.changed(&entry.name, map.columns, parts, adapter);
                        self.leaves.insert(entry.name.as_str(), Leaf::Matrix(changed));
                    }
                }
            }
        }
    }

    /// A map `[in, columns]` with its changes.
    fn changed(&self, name: &str, columns: usize, parts: &[LowRank], adapter: &AdapterLayout) -> Tensor<2> {
        let matrix = self.matrix(name);
        let (rows, mut at, mut pieces) = (matrix.dims()[0], 0, Vec::new());
        let by_place = |range: &std::ops::Range<usize>| {
            let entry = adapter.entries().iter().find(|entry| entry.range == *range);
            entry.map_or_else(
                || unreachable!("the adapter has its own parts"),
                |entry| self.matrix(&entry.name),
            )
        };
        let zeros = |width| Tensor::zeros([rows, width], (&self.device, matrix.dtype()));
        for part in parts {
            if part.columns.start > at {
                pieces.push(zeros(part.columns.start - at));
            }
            let (a, b) = (by_place(&part.a), by_place(&part.b));
            pieces.push(a.transpose().matmul(b.transpose()) * adapter.scale);
            at = part.columns.end;
        }
        if columns > at {
            pieces.push(zeros(columns - at));
        }
        matrix + Tensor::cat(pieces, 1)
    }

    pub(super) fn matrix(&self, name: &str) -> Tensor<2> {
        match self.leaves.get(name) {
            Some(Leaf::Matrix(tensor)) => tensor.clone(),
            _ => unreachable!("the layout has a matrix `{name}`"),
        }
    }

    pub(super) fn vector(&self, name: &str) -> Option<Tensor<1>> {
        match self.leaves.get(name) {
            Some(Leaf::Vector(tensor)) => Some(tensor.clone()),
            _ => None,
        }
    }

    /// The device that it computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What is asked of rows, in order: `[sum of outputs]`.
    pub fn outputs(&self, rows: &[TokenRow], readout: Readout) -> Tensor<1> {
        match readout {
            Readout::LogProbs { temperature } => {
                let (logits, targets) = self.target_logits(rows);
                let logits = if temperature == 1.0 { logits } else { logits / temperature };
                kernels::token_logprobs(logits, targets)
            }
            Readout::Values => self.values(rows, true, &TokenRow::states),
            Readout::Scores => self.values(rows, false, &|row| vec![row.ids.len() - 1]),
        }
    }

    /// The logits that predict each target of rows, `[n, vocab]`, and the targets, `[n]`.
    pub fn target_logits(&self, rows: &[TokenRow]) -> (Tensor<2>, Tensor<1, Int>) {
        // The last token of a row predicts nothing that is asked for.
        let inputs: Vec<&[u32]> = rows.iter().map(|r| &r.ids[..r.ids.len().saturating_sub(1)]).collect();
        let hidden = self.hidden(Rows::right(&inputs, 0, &self.device), None);
        let picked = self.picked(hidden, rows, &TokenRow::states);
        let targets = rows.iter().flat_map(|row| row.places().map(|place| row.ids[place] as usize));
        (self.logits(picked), indices(targets, &self.device))
    }

    fn values(
        &self,
        rows: &[TokenRow],
        learns_bias: bool,
        read: &dyn Fn(&TokenRow) -> Vec<usize>,
    ) -> Tensor<1> {
        let ids: Vec<&[u32]> = rows.iter().map(|r| r.ids.as_slice()).collect();
        let hidden = self.hidden(Rows::right(&ids, 0, &self.device), None);
        let picked = self.picked(hidden, rows, read);
        let n = picked.dims()[0];
        let out = picked.matmul(self.matrix("value_head.weight")).reshape([n]);
        // As on the CPU, the bias learns from values alone.
        let bias = self.vector("value_head.bias");
        bias.map_or(out.clone(), |bias| out + if learns_bias { bias } else { bias.detach() })
    }

    /// The hidden states at places of each row, `[n, hidden_size]`, of `[batch, time, hidden_size]` padded on the right.
    fn picked(
        &self,
        hidden: Tensor<3>,
        rows: &[TokenRow],
        read: &dyn Fn(&TokenRow) -> Vec<usize>,
    ) -> Tensor<2> {
        let [batch, time, width] = hidden.dims();
        let places =
            rows.iter().enumerate().flat_map(|(i, row)| read(row).into_iter().map(move |t| i * time + t));
        hidden.reshape([batch * time, width]).select(0, indices(places, &self.device))
    }

    /// The hidden states after the last norm, `[batch, time, hidden_size]`.
    ///
    /// With a cache the rows continue those given before; `left` is still what stood before the first of them.
    pub fn hidden(&self, rows: Rows, cache: Option<&mut Cache>) -> Tensor<3> {
        let Rows { ids, left } = rows;
        let [batch, time] = ids.dims();
        let start = cache.as_ref().map_or(0, |c| c.len());
        let positions = positions(left.as_deref(), start, time);
        let mask = |window| self.mask(left.as_deref(), [batch, start, time], window);
        let window = self.config.window.as_ref().map(|window| window.size);
        let shared = Shared {
            mask: mask(None),
            window: window.and_then(|size| mask(Some(size))),
            rotation: self.config.has_rope().then(|| {
                Rotation::new(&positions, self.config.rope.frequencies(self.config.head_dim), &self.device)
            }),
        };
        let mut x = burn::tensor::module::embedding(self.matrix("token_embedding"), ids);
        if !self.config.has_rope() {
            let rows = positions.len();
            // In generation a row that has ended goes on with its batch, beyond the last position; nothing reads it there.
            let last = if cache.is_some() { self.config.max_position_embeddings - 1 } else { usize::MAX };
            let positions = positions.into_iter().flatten().map(|p| p.min(last));
            let at = indices(positions, &self.device).reshape([rows, time]);
            x = x + burn::tensor::module::embedding(self.matrix("position_embedding"), at);
        }
        let mut layers = cache.map(|cache| cache.layers.iter_mut());
        for index in 0..self.config.layers {
            x = self.layer(index, x, &shared, layers.as_mut().and_then(Iterator::next));
        }
        self.norm("norm", x)
    }

    /// Logits of hidden states: `[n, hidden_size]` to `[n, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let head = if self.config.tied { "token_embedding" } else { "head" };
        hidden.matmul(self.matrix(head).transpose())
    }

    /// The mask to add to the scores, or none where plain causal attention is right; a query sees at most `window` keys.
    fn mask(
        &self,
        left: Option<&[usize]>,
        [batch, start, time]: [usize; 3],
        window: Option<usize>,
    ) -> Option<Tensor<4>> {
        let padded = left.is_some_and(|l| l.iter().any(|&n| n > 0));
        let (keys, window) = (start + time, window.unwrap_or(usize::MAX));
        if start == 0 && !padded && window >= keys {
            return None;
        }
        let mut mask = vec![0.0f32; batch * time * keys];
        for (row, queries) in mask.chunks_exact_mut(time * keys).enumerate() {
            let pads = left.map_or(0, |l| l[row]);
            for (q, scores) in queries.chunks_exact_mut(keys).enumerate() {
                for (k, score) in scores.iter_mut().enumerate() {
                    if k < pads || k > start + q || start + q - k >= window {
                        *score = HIDDEN;
                    }
                }
            }
        }
        Some(Tensor::from_data(TensorData::new(mask, [batch, 1, time, keys]), &self.device))
    }
}

/// Parameters by name; in a graph with `Some`, and there with gradients with `Some(true)`.
fn leaves<'a>(entries: &'a [Entry], weights: &Tensor<1>, learns: Option<bool>) -> Vec<(&'a str, Leaf)> {
    let leaf_of = |entry: &'a Entry| {
        let slice = weights.clone().slice(entry.range.clone());
        let leaf = match entry.shape[..] {
            [rows, columns] => Leaf::Matrix(leaf(slice.reshape([rows, columns]), learns)),
            _ => Leaf::Vector(leaf(slice, learns)),
        };
        (entry.name.as_str(), leaf)
    };
    entries.iter().map(leaf_of).collect()
}

fn leaf<const D: usize>(tensor: Tensor<D>, learns: Option<bool>) -> Tensor<D> {
    match learns {
        None => tensor,
        Some(false) => Tensor::from_inner(tensor),
        Some(true) => Tensor::from_inner(tensor).require_grad(),
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

/// Parameters and outputs that are still part of a graph.
pub struct Tape {
    leaves: Vec<(Leaf, usize)>,
    outputs: Tensor<1>,
}

impl Tape {
    /// The outputs of a decoder with gradients.
    pub fn new(decoder: Decoder, outputs: Tensor<1>) -> Self {
        Self { leaves: decoder.trained, outputs }
    }

    /// The gradients of all parameters that are trained, in the order of their places, given those of the outputs.
    pub fn backward(self, d_outputs: Tensor<1>) -> Tensor<1> {
        let (device, dtype) = (d_outputs.device(), d_outputs.dtype());
        let gradients = (self.outputs * Tensor::from_inner(d_outputs)).sum().backward();
        let parts = self.leaves.into_iter().map(|(leaf, length)| {
            let found = match leaf {
                Leaf::Matrix(leaf) => leaf.grad(&gradients).map(|grad| grad.reshape([length])),
                Leaf::Vector(leaf) => leaf.grad(&gradients),
            };
            found.unwrap_or_else(|| Tensor::zeros([length], (&device, dtype)))
        });
        Tensor::cat(parts.collect(), 0)
    }
}
