//! The forward pass through the layers.
//!
//! Purpose: the residual stream of a shard, from the embeddings to the last layer.
//! Invariant: each sequence attends to itself alone.
//! Must not know: what is read in the end.

use std::ops::Range;

use super::tape::{Layer, Tape};
use super::view::{MapAt, View};
use super::{Batch, qk_norm};
use crate::kernels::cpu::{activation, attention, linear, norm};

/// What the layers read beside the residual stream.
pub struct Places<'a> {
    /// The place of each sequence.
    pub sequences: Vec<Range<usize>>,
    /// `[tokens]`.
    pub positions: &'a [u32],
}

impl<'a> Places<'a> {
    /// Those of a batch.
    pub fn new(batch: &'a Batch) -> Self {
        Self { sequences: batch.sequences(), positions: &batch.position_ids }
    }
}

/// Fills the tape, up to the residual stream after the last layer at the places that are read.
pub fn layers(view: &View, tape: &mut Tape) {
    let Tape { batch, memory, last, .. } = tape;
    let (places, d) = (Places::new(batch), view.config.hidden_size);
    embed(view, &batch.input_ids, &batch.position_ids, memory.enter(0).x);
    for index in 0..view.config.layers {
        layer(view, index, &mut memory.enter(index), &places);
    }
    let stream = memory.stream();
    last.stream = last.read.iter().flat_map(|&t| &stream[t * d..(t + 1) * d]).copied().collect();
}

/// The residual stream of tokens before the first layer, `[tokens, hidden_size]`.
pub fn embed(view: &View, ids: &[u32], positions: &[u32], x: &mut [f32]) {
    let (layout, d) = (view.layout, view.config.hidden_size);
    let row = |table: &Range<usize>, i: u32| &view.at(table)[i as usize * d..][..d];
    for (x, (&id, &position)) in x.chunks_exact_mut(d).zip(ids.iter().zip(positions)) {
        x.copy_from_slice(row(&layout.token_embedding, id));
        if let Some(table) = &layout.position_embedding {
            linear::add(x, row(table, position));
        }
    }
}

/// One layer: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
pub fn layer(view: &View, index: usize, kept: &mut Layer, places: &Places) {
    let [attention, feed_forward] = &view.layout.layers[index];
    let (norm, heads) = (view.norm(), view.heads(index));
    norm::forward(
        norm,
        kept.x,
        view.at(&attention.norm.weight),
        view.option(&attention.norm.bias),
        kept.normed,
    );
    let map = |half, is_last| MapAt { layer: index, half, is_last };
    view.forward(map(0, false), kept.normed, kept.qkv, false);
    qk_norm::forward(view, attention, kept.qkv, kept.before_norms);
    if let Some(rope) = view.rope {
        rope.turn(kept.qkv, attention.first.columns, heads.heads + heads.kv_heads, places.positions, false);
    }
    attention::forward(kept.qkv, &places.sequences, heads, kept.heads, kept.logsumexp);
    kept.middle.copy_from_slice(kept.x);
    view.forward(map(0, true), kept.heads, kept.middle, true);

    let (weight, bias) = (view.at(&feed_forward.norm.weight), view.option(&feed_forward.norm.bias));
    norm::forward(norm, kept.middle, weight, bias, kept.middle_normed);
    view.forward(map(1, false), kept.middle_normed, kept.up, false);
    let (function, inner) = (view.config.activation, view.config.intermediate_size);
    match view.config.is_gated() {
        true => activation::forward_gated(function, kept.up, inner, kept.activated),
        false => activation::forward(function, kept.up, kept.activated),
    }
    kept.after.copy_from_slice(kept.middle);
    view.forward(map(1, true), kept.activated, kept.after, true);
}
