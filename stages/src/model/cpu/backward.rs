//! The gradients of the layers and of the embeddings.
//!
//! Purpose: from the gradient of the residual stream after the last layer back to that of every parameter.
//! Invariant: gradients of parameters are added in the order of the shards (`turns`).
//! Must not know: what the outputs were.

use std::ops::Range;

use super::forward::{self, Places};
use super::tape::{Layer, Tape};
use super::turns::Turns;
use super::view::{MapAt, View};
use super::{Batch, qk_norm};
use crate::kernels::cpu::linear::{self, Linear};
use crate::kernels::cpu::{activation, attention, norm};
use crate::model::layout::{LinearAt, NormAt};

/// The parts of the gradients that the layers add to, in the order of their places.
pub fn parts(view: &View) -> Vec<Range<usize>> {
    match view.adapter {
        Some(adapter) => adapter.layout.layers.iter().flatten().map(|half| half.region.clone()).collect(),
        None => view.layout.layers.iter().flatten().map(|half| half.region.clone()).collect(),
    }
}

/// Whose turn it is, this worker's number, and the number of the first part that it adds to.
#[derive(Clone, Copy)]
pub struct Sink<'a> {
    /// Hands out the parts.
    pub turns: &'a Turns<'a>,
    /// The shard.
    pub worker: usize,
    /// The first part.
    pub first: usize,
}

impl Sink<'_> {
    /// Lets `add` add to a part, counted from the first, in this worker's turn.
    pub fn add(&self, part: usize, add: impl FnOnce(&mut [f32])) {
        self.turns.take(self.first + part, self.worker, add);
    }
}

/// Gradients between the operations, each `[tokens, ..]`; one layer after the other uses them.
struct Scratch {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    heads: Vec<f32>,
    up: Vec<f32>,
    activated: Vec<f32>,
}

impl Scratch {
    fn new(view: &View, tokens: usize) -> Self {
        let (c, room) = (view.config, |width: usize| vec![0.0; tokens * width]);
        Self {
            normed: room(c.hidden_size),
            qkv: room(c.qkv_width()),
            heads: room(c.attention_width()),
            up: room(view.layout.layers[0][1].first.columns),
            activated: room(c.intermediate_size),
        }
    }
}

/// Goes back through the layers: `d_x`, the gradient of the residual stream `[tokens, hidden_size]`, becomes that of the
/// embeddings.
pub fn layers(view: &View, tape: &mut Tape, d_x: &mut [f32], sink: Sink) {
    let Tape { batch, memory, .. } = tape;
    let places = Places::new(batch);
    let scratch = &mut Scratch::new(view, batch.input_ids.len());
    for index in (0..view.config.layers).rev() {
        let kept = memory.recall(index, |kept| forward::layer(view, index, kept, &places));
        let [attention, feed_forward] = &view.layout.layers[index];
        feed_forward_inputs(view, index, &kept, scratch, d_x);
        sink.add(2 * index + 1, |grads| {
            let maps = [(&*kept.middle_normed, &*scratch.up), (&*kept.activated, &*d_x)];
            if let Some(mut region) = Region::of(view, [index, 1], maps, grads) {
                region.norm(view, &feed_forward.norm, kept.middle, &mut scratch.normed, d_x);
            }
        });
        if view.adapter.is_some() {
            frozen_norm(view, &feed_forward.norm, kept.middle, &mut scratch.normed, d_x);
        }
        let d_norms = attention_inputs(view, index, &kept, scratch, d_x, &places);
        sink.add(2 * index, |grads| {
            let maps = [(&*kept.normed, &*scratch.qkv), (&*kept.heads, &*d_x)];
            let Some(mut region) = Region::of(view, [index, 0], maps, grads) else { return };
            let norms = attention.qk_norm.iter().flatten().zip(d_norms.iter().flatten());
            norms.for_each(|(place, grad)| linear::add(region.at(place), grad));
            region.norm(view, &attention.norm, kept.x, &mut scratch.normed, d_x);
        });
        if view.adapter.is_some() {
            frozen_norm(view, &attention.norm, kept.x, &mut scratch.normed, d_x);
        }
    }
}

/// Adds to `d_x` the gradient of what goes into a norm whose parameters are frozen.
pub fn frozen_norm(view: &View, place: &NormAt, x: &[f32], d_out: &mut [f32], d_x: &mut [f32]) {
    norm::backward(view.norm(), x, view.at(&place.weight), d_out, d_x);
}

/// The gradients within the feed-forward part, down to `scratch.normed`.
fn feed_forward_inputs(view: &View, index: usize, kept: &Layer, scratch: &mut Scratch, d_x: &[f32]) {
    let map = |is_last| MapAt { layer: index, half: 1, is_last };
    let (function, inner) = (view.config.activation, view.config.intermediate_size);
    view.backward_input(map(true), d_x, &mut scratch.activated);
    if view.config.is_gated() {
        activation::backward_gated(function, kept.up, inner, &scratch.activated, &mut scratch.up);
    } else {
        activation::backward(function, kept.up, &mut scratch.activated);
        std::mem::swap(&mut scratch.up, &mut scratch.activated);
    }
    view.backward_input(map(false), &scratch.up, &mut scratch.normed);
}

/// The gradients within attention, down to `scratch.normed`; gives those of the norms of queries and keys.
fn attention_inputs(
    view: &View,
    index: usize,
    kept: &Layer,
    scratch: &mut Scratch,
    d_x: &[f32],
    places: &Places,
) -> Option<[Vec<f32>; 2]> {
    let (half, heads) = (&view.layout.layers[index][0], view.heads(index));
    let map = |is_last| MapAt { layer: index, half: 0, is_last };
    view.backward_input(map(true), d_x, &mut scratch.heads);
    attention::backward(
        kept.qkv,
        kept.heads,
        kept.logsumexp,
        &scratch.heads,
        &places.sequences,
        heads,
        &mut scratch.qkv,
    );
    if let Some(rope) = view.rope {
        let turned = heads.heads + heads.kv_heads;
        rope.turn(&mut scratch.qkv, half.first.columns, turned, places.positions, true);
    }
    let d_norms = qk_norm::backward(view, half, &mut scratch.qkv, kept.before_norms);
    view.backward_input(map(false), &scratch.qkv, &mut scratch.normed);
    d_norms
}

/// The gradients of a region's parameters.
pub struct Region<'a> {
    /// The gradients, which begin at `start` of all.
    pub grads: &'a mut [f32],
    /// See `grads`.
    pub start: usize,
}

impl<'a> Region<'a> {
    /// The region of half a layer, after the gradients of its first and last map were added, given what goes into each and
    /// the gradient of what comes out; none where the layer is frozen, and the gradients are those of an adapter.
    fn of(
        view: &View,
        [layer, half]: [usize; 2],
        maps: [(&[f32], &[f32]); 2],
        grads: &'a mut [f32],
    ) -> Option<Self> {
        let place = &view.layout.layers[layer][half];
        let [first, last] = maps;
        let Some(adapter) = view.adapter else {
            let mut region = Region { grads, start: place.region.start };
            region.linear(&place.last, last.0, last.1);
            region.linear(&place.first, first.0, first.1);
            return Some(region);
        };
        let start = adapter.layout.layers[layer][half].region.start;
        for (is_last, (x, d_out), map) in [(true, last, &place.last), (false, first, &place.first)] {
            if let Some(changes) = view.changes(MapAt { layer, half, is_last }) {
                changes.backward_weight(x, d_out, map.columns, grads, start);
            }
        }
        None
    }

    fn at(&mut self, place: &Range<usize>) -> &mut [f32] {
        &mut self.grads[place.start - self.start..place.end - self.start]
    }

    /// Adds those of a linear map of `x`.
    pub fn linear(&mut self, place: &LinearAt, x: &[f32], d_out: &[f32]) {
        // The bias stands behind its weight.
        let end = place.bias.as_ref().map_or(place.weight.end, |bias| bias.end);
        let (weight, bias) = self.at(&(place.weight.start..end)).split_at_mut(place.weight.len());
        let bias = place.bias.is_some().then_some(bias);
        linear::backward_weight(&mut Linear { weight, bias, columns: place.columns }, x, d_out);
    }

    /// Adds those of a norm of `x`, and to `d_x` the gradient of `x`; what `d_out` holds afterwards is of no use.
    pub fn norm(&mut self, view: &View, place: &NormAt, x: &[f32], d_out: &mut [f32], d_x: &mut [f32]) {
        if let Some(bias) = &place.bias {
            linear::add_rows(self.at(bias), d_out);
        }
        norm::backward(view.norm(), x, view.at(&place.weight), d_out, d_x);
        linear::add_rows(self.at(&place.weight), d_out);
    }
}

/// Adds the gradients of the embeddings, of which `d_x` is that of each token, unless they are frozen.
pub fn embeddings(view: &View, batch: &Batch, d_x: &[f32], grads: &mut [f32]) {
    if view.adapter.is_some() {
        return;
    }
    let (layout, d) = (view.layout, view.config.hidden_size);
    let tokens = batch.input_ids.iter().zip(&batch.position_ids);
    for (d_x, (&id, &position)) in d_x.chunks_exact(d).zip(tokens) {
        let tables =
            [Some((&layout.token_embedding, id)), layout.position_embedding.as_ref().map(|t| (t, position))];
        for (table, row) in tables.into_iter().flatten() {
            linear::add(&mut grads[table.clone()][row as usize * d..][..d], d_x);
        }
    }
}
