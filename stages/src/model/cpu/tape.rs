//! What a forward pass keeps for the gradients.
//!
//! Purpose: one run of memory for what the layers compute, cut by token counts, so that steps of any size use the same
//! memory again.
//! Invariant: everything is written before it is read, so what an earlier step left is never seen.
//! Must not know: what is computed.

use super::{Batch, Readout, View};
use crate::kernels::cpu::memory;
use crate::model::ModelConfig;

/// What one layer computes, each `[tokens, ..]`.
pub struct Layer<'a> {
    /// The residual stream before the layer, `hidden_size`.
    pub x: &'a mut [f32],
    /// `x` after the norm.
    pub normed: &'a mut [f32],
    /// Queries, keys and values.
    pub qkv: &'a mut [f32],
    /// Queries and keys before their norms, `attention_width + kv_width`, in models that have these.
    pub before_norms: &'a mut [f32],
    /// The heads' outputs, `attention_width`.
    pub heads: &'a mut [f32],
    /// The logarithm of the sums of attention, `heads`.
    pub logsumexp: &'a mut [f32],
    /// The residual stream between the halves.
    pub middle: &'a mut [f32],
    /// `middle` after the norm.
    pub middle_normed: &'a mut [f32],
    /// Before the activation.
    pub up: &'a mut [f32],
    /// After it.
    pub activated: &'a mut [f32],
    /// The residual stream after the layer: where the next one reads it, if each layer has memory of its own.
    pub after: &'a mut [f32],
}

/// Which layers keep what they computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None: there will be no gradients.
    Nothing,
    /// Their input alone; the rest is computed again.
    Inputs,
    /// All.
    Everything,
}

/// Numbers that a token has in a layer, field by field, and in the residual stream.
fn widths(c: &ModelConfig) -> [usize; 11] {
    let d = c.hidden_size;
    let up = if c.is_gated() { 2 * c.intermediate_size } else { c.intermediate_size };
    let (queries, before) = (c.attention_width(), c.attention_width() + c.kv_width());
    let before = if c.qk_norm { before } else { 0 };
    [d, d, c.qkv_width(), before, queries, c.heads, d, d, up, c.intermediate_size, d]
}

/// Numbers that a forward pass keeps of a token.
pub fn per_token(c: &ModelConfig, keep: Keep) -> usize {
    let layer: usize = widths(c)[..10].iter().sum();
    match keep {
        Keep::Nothing => layer + c.hidden_size,
        Keep::Inputs => layer + c.hidden_size + c.layers * c.hidden_size,
        Keep::Everything => layer * c.layers + c.hidden_size,
    }
}

/// Whether the logits of the whole vocabulary are kept for the gradients, instead of being computed again: where they are few
/// beside what the layers keep.
pub fn keeps_logits(c: &ModelConfig, keep: Keep) -> bool {
    keep == Keep::Everything && 2 * c.vocab <= per_token(c, keep)
}

/// The memory of a forward pass.
pub struct Memory {
    values: Vec<f32>,
    tokens: usize,
    /// See [`widths`].
    widths: [usize; 11],
    layers: usize,
    keep: Keep,
}

impl Memory {
    fn new(view: &View, tokens: usize, keep: Keep, mut values: Vec<f32>) -> Self {
        let (c, widths) = (view.config, widths(view.config));
        let size = per_token(c, keep) * tokens;
        if values.len() < size {
            // Before the new memory is asked for.
            drop(values);
            values = memory::zeros(size);
        }
        Self { values, tokens, widths, layers: c.layers, keep }
    }

    fn size(&self) -> usize {
        self.tokens * self.widths[..10].iter().sum::<usize>()
    }

    /// The memory of a layer, ready for its forward pass.
    pub fn enter(&mut self, layer: usize) -> Layer<'_> {
        let stream = self.tokens * self.widths[10];
        let size = self.size();
        if self.keep != Keep::Everything && layer > 0 {
            self.values.copy_within(size..size + stream, 0);
        }
        if self.keep == Keep::Inputs {
            self.values.copy_within(0..stream, size + stream + layer * stream);
        }
        self.layer(layer)
    }

    /// The memory of a layer, ready for its gradients; `again` computes it again where it was not kept.
    pub fn recall(&mut self, layer: usize, again: impl FnOnce(&mut Layer)) -> Layer<'_> {
        let (stream, size) = (self.tokens * self.widths[10], self.size());
        if self.keep == Keep::Inputs {
            let kept = size + stream + layer * stream;
            self.values.copy_within(kept..kept + stream, 0);
            again(&mut self.layer(layer));
        }
        self.layer(layer)
    }

    fn layer(&mut self, layer: usize) -> Layer<'_> {
        let start = if self.keep == Keep::Everything { layer * self.size() } else { 0 };
        let mut rest = &mut self.values[start..];
        let parts = self.widths.map(|width| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(self.tokens * width);
            rest = others;
            part
        });
        let [x, normed, qkv, before_norms, heads, logsumexp, middle, middle_normed, up, activated, after] =
            parts;
        Layer { x, normed, qkv, before_norms, heads, logsumexp, middle, middle_normed, up, activated, after }
    }

    /// The residual stream after the last layer.
    pub fn stream(&mut self) -> &[f32] {
        self.layer(self.layers - 1).after
    }
}

/// A shard's forward pass.
pub struct Tape {
    /// What was read.
    pub batch: Batch,
    /// What was asked.
    pub readout: Readout,
    /// What the layers computed.
    pub memory: Memory,
    /// What the last norm and the head computed.
    pub last: Last,
}

/// What stands behind the outputs, at the places that are read.
#[derive(Default)]
pub struct Last {
    /// Those places.
    pub read: Vec<usize>,
    /// The residual stream, `[n, hidden_size]`.
    pub stream: Vec<f32>,
    /// The same after the last norm.
    pub normed: Vec<f32>,
    /// The logits, block after block of the vocabulary, each `[n, tokens of the block]`; of the last block alone unless
    /// `keeps_logits`.
    pub logits: Vec<f32>,
    /// Whether there is room for the logits of all blocks.
    pub keeps_logits: bool,
    /// The logarithm of the sums of the softmax, `[n]`.
    pub logsumexp: Vec<f32>,
}

impl Tape {
    /// Room for a batch.
    pub fn new(view: &View, batch: Batch, readout: Readout, keep: Keep) -> Self {
        let spare = view.spare.lock().ok().and_then(|mut spare| spare.pop());
        let [values, logits] = spare.unwrap_or_default();
        let memory = Memory::new(view, batch.input_ids.len(), keep, values);
        let keeps_logits = keeps_logits(view.config, keep);
        let last = Last { read: batch.read(), logits, keeps_logits, ..Last::default() };
        Self { batch, readout, memory, last }
    }

    /// How many outputs there are.
    pub fn outputs(&self) -> usize {
        self.last.read.len()
    }

    /// Leaves the memory to the next forward pass.
    pub fn give_back(self, view: &View) {
        if let Ok(mut spare) = view.spare.lock() {
            spare.push([self.memory.values, self.last.logits]);
        }
    }
}
