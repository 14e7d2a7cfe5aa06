//! The KV cache of generation.
//!
//! Purpose: keeps each layer's keys and values, so that a new token costs one position.
//! Invariant: with a cache the logits equal those of the full forward pass.
//! Must not know: sampling.

use burn::tensor::Tensor;

/// Keys and values of all layers.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    /// One entry a layer.
    pub layers: Vec<LayerCache>,
}

impl Cache {
    /// An empty cache with room for `capacity` positions.
    pub fn new(layers: usize, capacity: usize) -> Self {
        Self { layers: vec![LayerCache { capacity, ..LayerCache::default() }; layers] }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |l| l.len)
    }

    /// Whether nothing is held yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Keys and values of one layer, in buffers of full length so that a step copies one position.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
    len: usize,
    capacity: usize,
}

impl LayerCache {
    /// Takes the keys and values `[batch, kv_heads, new, head]` of new positions; returns those of
    /// all positions so far.
    pub fn extend(&mut self, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let new = keys.dims()[2];
        let len = self.len + new;
        let k = put(self.keys.take(), keys, self.len, self.capacity);
        let v = put(self.values.take(), values, self.len, self.capacity);
        self.len = len;
        let held = (k.clone().narrow(2, 0, len), v.clone().narrow(2, 0, len));
        self.keys = Some(k);
        self.values = Some(v);
        held
    }
}

fn put(buffer: Option<Tensor<4>>, new: Tensor<4>, at: usize, capacity: usize) -> Tensor<4> {
    let [batch, heads, count, head] = new.dims();
    let buffer =
        buffer.unwrap_or_else(|| Tensor::zeros([batch, heads, capacity.max(count), head], &new.device()));
    buffer.slice_assign([0..batch, 0..heads, at..at + count, 0..head], new)
}
