//! Generation on the CPU: one token after another, with a KV cache a sequence.
//!
//! Purpose: the logits after each new token.
//! Invariant: a sequence's logits depend on that sequence alone, bit by bit, whatever it is fed with and however many
//! threads there are: every product adds over its inner index in one order.
//! Must not know: sampling.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::view::MapAt;
use super::{View, qk_norm};
use crate::kernels::cpu::forms::{Form, Source};
use crate::kernels::cpu::panels::Panels;
use crate::kernels::cpu::{activation, attention, linear, norm};
use crate::model::config::ModelConfig;
use crate::model::layout::NormAt;

/// A decoder whose matrices are laid out for reading them row by row of the input.
pub struct Packed<'a> {
    view: View<'a>,
    /// The maps of the layers, by [`number`], and then the head.
    matrices: Panels,
}

/// The number of a layer's map among the matrices.
fn number(at: MapAt) -> usize {
    4 * at.layer + 2 * at.half + usize::from(at.is_last)
}

/// All maps of the layers, in the order of their numbers.
fn maps(layers: usize) -> impl Iterator<Item = MapAt> {
    (0..4 * layers).map(|i| MapAt { layer: i / 4, half: i / 2 % 2, is_last: i % 2 == 1 })
}

impl<'a> Packed<'a> {
    /// Lays the matrices out.
    pub fn new(view: View<'a>) -> Self {
        let maps: Vec<MapAt> = maps(view.config.layers).collect();
        let head = Source {
            values: view.at(&view.layout.head),
            shape: [view.config.hidden_size, view.config.vocab],
            is_transposed: true,
        };
        let room = |&at: &MapAt| {
            let source = source(&view, at, view.at(&view.map(at).weight));
            // What an adapter changed fits no narrow form.
            (source.shape, if is_changed(&view, at) { Form::Full } else { Form::of(&source) })
        };
        let rooms: Vec<_> = maps.iter().map(room).chain([(head.shape, Form::of(&head))]).collect();
        let matrices = Panels::new(&rooms, |i, slot| match maps.get(i) {
            Some(&at) => slot.fill(&source(&view, at, &merged(&view, at))),
            None => slot.fill(&head),
        });
        Self { view, matrices }
    }

    /// The forms of the matrices.
    #[cfg(test)]
    pub fn forms(&self) -> impl Iterator<Item = Form> {
        self.matrices.forms()
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.view.config
    }

    /// Empty caches for so many sequences; `shares` says that the threads share the work of each.
    pub fn session(&'a self, sequences: usize, shares: bool) -> Session<'a> {
        let layers = || vec![[Vec::new(), Vec::new()]; self.view.config.layers];
        Session { packed: self, caches: (0..sequences).map(|_| layers()).collect(), shares }
    }
}

/// The weight of a map.
fn source<'a>(view: &View, at: MapAt, values: &'a [f32]) -> Source<'a> {
    let columns = view.map(at).columns;
    Source { values, shape: [values.len() / columns, columns], is_transposed: false }
}

/// Whether an adapter changes a map.
fn is_changed(view: &View, at: MapAt) -> bool {
    view.changes(at).is_some_and(|changes| !changes.parts.is_empty())
}

/// The weight of a map with the changes of an adapter.
fn merged<'a>(view: &'a View, at: MapAt) -> Cow<'a, [f32]> {
    let place = view.map(at);
    let weight = view.at(&place.weight);
    match (view.changes(at), view.adapter) {
        // A change that is not there costs nothing.
        (Some(changes), Some(adapter)) if is_changed(view, at) => {
            let mut merged = weight.to_vec();
            adapter.layout.merge(changes.parts, adapter.weights, &mut merged, place.columns);
            Cow::Owned(merged)
        }
        _ => Cow::Borrowed(weight),
    }
}

/// Sequences that are being generated.
pub struct Session<'a> {
    packed: &'a Packed<'a>,
    /// Keys and values of each layer of each sequence, `[length, kv_width]`.
    caches: Vec<Vec<[Vec<f32>; 2]>>,
    shares: bool,
}

/// The new tokens of a step.
struct Step {
    ids: Vec<u32>,
    positions: Vec<u32>,
    /// The sequence of each token.
    owners: Vec<usize>,
    /// The last token of each sequence.
    last: Vec<usize>,
}

impl Session<'_> {
    /// The logits after the new tokens of some sequences, `[sequences, vocab]`.
    pub fn feed(&mut self, fed: &[(usize, Vec<u32>)]) -> Vec<f32> {
        let view = &self.packed.view;
        let step = self.step(fed);
        let d = view.config.hidden_size;
        let mut x = vec![0.0; step.ids.len() * d];
        super::forward::embed(view, &step.ids, &step.positions, &mut x);
        for layer in 0..view.config.layers {
            self.attend(layer, &step, &mut x);
            self.feed_forward(layer, &mut x);
        }
        let last: Vec<f32> = step.last.iter().flat_map(|&t| &x[t * d..(t + 1) * d]).copied().collect();
        let normed = self.normed(&view.layout.norm, &last);
        let mut logits = vec![0.0; step.last.len() * view.config.vocab];
        let head = 4 * view.config.layers;
        self.packed.matrices.product(head, &normed, &mut logits, false, self.shares);
        logits
    }

    fn step(&self, fed: &[(usize, Vec<u32>)]) -> Step {
        let mut step = Step { ids: Vec::new(), positions: Vec::new(), owners: Vec::new(), last: Vec::new() };
        for (sequence, tokens) in fed {
            let before = self.caches[*sequence][0][0].len() / self.packed.view.config.kv_width();
            step.ids.extend(tokens);
            step.positions.extend((before..before + tokens.len()).map(|p| p as u32));
            step.owners.extend(std::iter::repeat_n(*sequence, tokens.len()));
            step.last.push(step.ids.len() - 1);
        }
        step
    }

    fn normed(&self, place: &NormAt, x: &[f32]) -> Vec<f32> {
        let (view, mut out) = (&self.packed.view, vec![0.0; x.len()]);
        norm::forward(view.norm(), x, view.at(&place.weight), view.option(&place.bias), &mut out);
        out
    }

    /// `out = x W + b`, or `out += x W + b`.
    fn linear(&self, at: MapAt, x: &[f32], out: &mut [f32], adds: bool) {
        let Packed { view, matrices } = self.packed;
        let place = view.map(at);
        if let Some(bias) = view.option(&place.bias) {
            if adds { linear::add_to_rows(out, bias) } else { linear::fill_rows(out, bias) }
        }
        matrices.product(number(at), x, out, adds || place.bias.is_some(), self.shares);
    }

    fn attend(&mut self, layer: usize, step: &Step, x: &mut [f32]) {
        let packed = self.packed;
        let (view, place) = (&packed.view, &packed.view.layout.layers[layer][0]);
        let map = |is_last| MapAt { layer, half: 0, is_last };
        let (heads, d, stride) = (view.heads(layer), view.config.attention_width(), place.first.columns);
        let mut qkv = vec![0.0; step.ids.len() * stride];
        self.linear(map(false), &self.normed(&place.norm, x), &mut qkv, false);
        let kv = view.config.kv_width();
        qk_norm::forward(view, place, &mut qkv, &mut vec![0.0; step.ids.len() * (d + kv)]);
        if let Some(rope) = view.rope {
            rope.turn(&mut qkv, stride, heads.heads + heads.kv_heads, &step.positions, false);
        }
        for (row, &owner) in qkv.chunks_exact(stride).zip(&step.owners) {
            let [keys, values] = &mut self.caches[owner][layer];
            keys.extend_from_slice(&row[d..d + kv]);
            values.extend_from_slice(&row[d + kv..]);
        }
        let mut out = vec![0.0; step.ids.len() * d];
        let caches = &self.caches;
        let one = |(i, out): (usize, &mut [f32])| {
            let (t, head) = (i / heads.kv_heads, i % heads.kv_heads);
            let [keys, values] = &caches[step.owners[t]][layer];
            let length = step.positions[t] as usize + 1;
            let first = heads.window.map_or(0, |window| length.saturating_sub(window));
            let seen: Range<usize> = first * kv..length * kv;
            let query = &qkv[t * stride..t * stride + d];
            attention::decode(query, &keys[seen.clone()], &values[seen], heads, head, out);
        };
        let group = d / heads.kv_heads;
        match self.shares {
            true => out.par_chunks_exact_mut(group).enumerate().for_each(one),
            false => out.chunks_exact_mut(group).enumerate().for_each(one),
        }
        self.linear(map(true), &out, x, true);
    }

    fn feed_forward(&self, layer: usize, x: &mut [f32]) {
        let view = &self.packed.view;
        let place = &view.layout.layers[layer][1];
        let map = |is_last| MapAt { layer, half: 1, is_last };
        let tokens = x.len() / view.config.hidden_size;
        let (function, inner) = (view.config.activation, view.config.intermediate_size);
        let mut up = vec![0.0; tokens * place.first.columns];
        self.linear(map(false), &self.normed(&place.norm, x), &mut up, false);
        let mut activated = vec![0.0; tokens * inner];
        match view.config.is_gated() {
            true => activation::forward_gated(function, &up, inner, &mut activated),
            false => activation::forward(function, &up, &mut activated),
        }
        self.linear(map(true), &activated, x, true);
    }
}
