//! The parameters of a decoder by their part in it.
//!
//! Purpose: slices of the one run of numbers, as the kernels take them.
//! Invariant: a view is read-only.
//! Must not know: how they came about.

use std::ops::Range;
use std::sync::Mutex;

use super::lora::Changes;
use super::{Layout, ModelConfig};
use crate::kernels::cpu::attention::Heads;
use crate::kernels::cpu::linear::{self, Linear};
use crate::kernels::cpu::norm::Norm;
use crate::kernels::cpu::rope::Rope;
use crate::model::layout::LinearAt;
use crate::model::lora::AdapterLayout;

/// Memory that one forward pass leaves to the next: of the layers, and of the logits.
pub type Spare = Mutex<Vec<[Vec<f32>; 2]>>;

/// What the passes over a decoder read.
pub struct View<'a> {
    /// Its shape.
    pub config: &'a ModelConfig,
    /// The places of its parameters.
    pub layout: &'a Layout,
    /// Its parameters.
    pub weights: &'a [f32],
    /// The tables of RoPE, where positions are not learned.
    pub rope: Option<&'a Rope>,
    /// Into how many shards a batch is cut.
    pub shards: usize,
    /// Memory to use again.
    pub spare: &'a Spare,
    /// What is trained instead of the decoder's parameters, if they are frozen.
    pub adapter: Option<AdapterView<'a>>,
}

/// An adapter.
#[derive(Clone, Copy)]
pub struct AdapterView<'a> {
    /// The places of its parameters.
    pub layout: &'a AdapterLayout,
    /// Its parameters.
    pub weights: &'a [f32],
}

/// A map of a layer.
#[derive(Clone, Copy)]
pub struct MapAt {
    /// The layer.
    pub layer: usize,
    /// 0 for attention, 1 for the feed-forward part.
    pub half: usize,
    /// Whether it is the last map of its half, not the first.
    pub is_last: bool,
}

impl View<'_> {
    /// The kind of the norms.
    pub fn norm(&self) -> Norm {
        let eps = self.config.norm_eps as f32;
        if self.config.has_rope() { Norm::Rms { eps } } else { Norm::Layer { eps } }
    }

    /// The shape of a layer's heads.
    pub fn heads(&self, layer: usize) -> Heads {
        let c = self.config;
        Heads { heads: c.heads, kv_heads: c.kv_heads, size: c.head_dim, window: c.window_of(layer) }
    }

    /// A parameter.
    pub fn at(&self, place: &Range<usize>) -> &[f32] {
        &self.weights[place.clone()]
    }

    /// A parameter that may be missing.
    pub fn option(&self, place: &Option<Range<usize>>) -> Option<&[f32]> {
        place.as_ref().map(|place| self.at(place))
    }

    /// The changes that an adapter makes to a map.
    pub fn changes(&self, at: MapAt) -> Option<Changes<'_>> {
        let AdapterView { layout, weights } = self.adapter?;
        let half = &layout.layers[at.layer][at.half];
        let parts = if at.is_last { &half.last } else { &half.first };
        Some(Changes { parts, weights, rank: layout.rank, scale: layout.scale })
    }

    /// A map of a layer, and where it stands.
    pub fn map(&self, at: MapAt) -> &LinearAt {
        let half = &self.layout.layers[at.layer][at.half];
        if at.is_last { &half.last } else { &half.first }
    }

    /// `out = x W + b`, or `out += x W + b`, of a layer's map with its changes.
    pub fn forward(&self, at: MapAt, x: &[f32], out: &mut [f32], adds: bool) {
        let place = self.map(at);
        linear::forward(&self.linear(place), x, out, adds);
        if let Some(changes) = self.changes(at) {
            changes.forward(x, out, place.columns);
        }
    }

    /// The gradient of what goes into a layer's map.
    pub fn backward_input(&self, at: MapAt, d_out: &[f32], d_x: &mut [f32]) {
        let place = self.map(at);
        linear::backward_input(&self.linear(place), d_out, d_x);
        if let Some(changes) = self.changes(at) {
            changes.backward_input(d_out, d_x, place.columns);
        }
    }

    /// The scalar head, wherever it stands.
    pub fn value_head(&self) -> Option<(&LinearAt, Linear<&[f32]>)> {
        let (place, weights) = match self.adapter {
            Some(adapter) => (adapter.layout.value_head.as_ref()?, adapter.weights),
            None => (self.layout.value_head.as_ref()?, self.weights),
        };
        let bias = place.bias.clone().map(|bias| &weights[bias]);
        let weight = &weights[place.weight.clone()];
        Some((place, Linear { weight, bias, columns: place.columns }))
    }

    /// A linear map.
    pub fn linear(&self, place: &LinearAt) -> Linear<&[f32]> {
        Linear { weight: self.at(&place.weight), bias: self.option(&place.bias), columns: place.columns }
    }
}
