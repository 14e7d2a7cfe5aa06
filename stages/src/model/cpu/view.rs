//! The parameters of a decoder by their part in it.
//!
//! Purpose: slices of the one run of numbers, as the kernels take them.
//! Invariant: a view is read-only.
//! Must not know: how they came about.

use std::ops::Range;
use std::sync::Mutex;

use super::{Layout, ModelConfig};
use crate::kernels::cpu::attention::Heads;
use crate::kernels::cpu::linear::Linear;
use crate::kernels::cpu::norm::Norm;
use crate::kernels::cpu::rope::Rope;
use crate::model::layout::LinearAt;

/// Memory that one forward pass leaves to the next.
pub type Spare = Mutex<Vec<Vec<f32>>>;

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

    /// A linear map.
    pub fn linear(&self, place: &LinearAt) -> Linear<&[f32]> {
        Linear { weight: self.at(&place.weight), bias: self.option(&place.bias), columns: place.columns }
    }
}
