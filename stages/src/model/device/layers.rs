//! The parts of a decoder: linear map, norm, attention, feed-forward part.
//!
//! Purpose: each part's forward pass, by the names of its parameters.
//! Invariant: the shapes are those of the layout.
//! Must not know: tokens, losses.

use burn::tensor::activation::{gelu, relu, silu};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::cache::LayerCache;
use super::decoder::Decoder;
use crate::kernels;
use crate::kernels::cpu::{Activation, rope};
use crate::model::network::Dtype;

/// Cosines and sines of RoPE for the positions at hand: each `[batch or 1, 1, time, head]`.
#[derive(Debug, Clone)]
pub struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// For positions `[batch][time]` (or one row for all) and frequencies `[head / 2]` (Su 2021), the first half and the
    /// second half of a head turned together; cosines and sines are scaled.
    pub fn new(positions: &[Vec<usize>], (frequencies, scale): (Vec<f32>, f32), device: &Device) -> Self {
        let (rows, time) = (positions.len(), positions.first().map_or(0, Vec::len));
        let head = 2 * frequencies.len();
        let angles: Vec<f64> = positions
            .iter()
            .flatten()
            .flat_map(|&p| frequencies.iter().chain(&frequencies).map(move |&f| rope::angle(p, f)))
            .collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f64> = angles.iter().map(|&a| f(a) * f64::from(scale)).collect();
            Tensor::from_data(TensorData::new(values, [rows, 1, time, head]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let head = x.dims()[3];
        let first = x.clone().narrow(3, 0, head / 2);
        let second = x.clone().narrow(3, head / 2, head / 2);
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        let (cos, sin) = (self.cos.clone().cast(x.dtype()), self.sin.clone().cast(x.dtype()));
        x * cos + turned * sin
    }
}

/// What all layers of one forward pass share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Added to the attention scores `[batch, 1, tq, tk]`; none means causal.
    pub mask: Option<Tensor<4>>,
    /// As the mask, in layers with a sliding window; none means as the mask.
    pub window: Option<Tensor<4>>,
    /// RoPE, where positions are not learned.
    pub rotation: Option<Rotation>,
}

impl Decoder<'_> {
    /// `x W + b`. Shapes: `[.., in]` to `[.., out]`. Products are taken in the type of the weights, all else in that of x.
    fn linear(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = (self.matrix(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        if self.dtype == Dtype::Float32 {
            return burn::tensor::module::linear(x, weight, bias);
        }
        let dtype = x.dtype();
        let [x, weight] = [x, weight.unsqueeze()].map(|t| t.cast(DType::BF16));
        let out = x.matmul(weight).cast(dtype);
        bias.map_or(out.clone(), |bias| out + bias.unsqueeze())
    }

    /// LayerNorm or RMSNorm, `[batch, time, hidden_size]`.
    pub(super) fn norm(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let weight =
            self.vector(&format!("{name}.weight")).unwrap_or_else(|| unreachable!("every norm has a weight"));
        let bias = self.vector(&format!("{name}.bias"));
        let eps = self.config.norm_eps;
        if self.config.has_rope() {
            return kernels::rms_norm(x, weight, eps);
        }
        let bias = bias.unwrap_or_else(|| weight.zeros_like());
        kernels::layer_norm(x, weight, bias, eps)
    }

    /// One layer: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
    pub(super) fn layer(
        &self,
        index: usize,
        x: Tensor<3>,
        shared: &Shared,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let name = |part: &str| format!("blocks.{index}.{part}");
        let normed = self.norm(&name("attention_norm"), x.clone());
        let x = x + self.attention(index, normed, shared, cache);
        let normed = self.norm(&name("feed_forward_norm"), x.clone());
        x + self.feed_forward(&name("feed_forward"), normed)
    }

    /// Self-attention; queries, keys and values come from one linear map.
    fn attention(
        &self,
        index: usize,
        x: Tensor<3>,
        shared: &Shared,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let name = format!("blocks.{index}.attention");
        let (head, width, kv_width) =
            (self.config.head_dim, self.config.attention_width(), self.config.kv_width());
        let split = |t: Tensor<3>| {
            let heads = t.dims()[2] / head;
            t.reshape([batch, time, heads, head]).swap_dims(1, 2)
        };
        let qkv = self.linear(&format!("{name}.qkv"), x);
        let mut q = split(qkv.clone().narrow(2, 0, width));
        let mut k = split(qkv.clone().narrow(2, width, kv_width));
        let mut v = split(qkv.narrow(2, width + kv_width, kv_width));
        if self.config.qk_norm {
            q = self.head_norm(&format!("{name}.q_norm"), q);
            k = self.head_norm(&format!("{name}.k_norm"), k);
        }
        if let Some(rotation) = &shared.rotation {
            q = rotation.apply(q);
            k = rotation.apply(k);
        }
        if let Some(cache) = cache {
            (k, v) = cache.extend(k, v);
        }
        let groups = self.config.heads / self.config.kv_heads;
        let (k, v) = (repeat_heads(k, groups), repeat_heads(v, groups));
        let dtype = q.dtype();
        let [q, k, v] = match self.dtype {
            Dtype::Float32 => [q, k, v],
            Dtype::Bfloat16 => [q, k, v].map(|x| x.cast(DType::BF16)),
        };
        let window = self.config.window_of(index).and(shared.window.clone());
        let mask = window.or_else(|| shared.mask.clone());
        let is_causal = mask.is_none();
        let out = kernels::attention(q, k, v, mask, is_causal).cast(dtype);
        self.linear(&format!("{name}.out"), out.swap_dims(1, 2).reshape([batch, time, width]))
    }

    /// RMSNorm of each head, `[batch, heads, time, head]`.
    fn head_norm(&self, name: &str, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, time, head] = x.dims();
        self.norm(name, x.reshape([batch * heads, time, head])).reshape([batch, heads, time, head])
    }

    fn feed_forward(&self, name: &str, x: Tensor<3>) -> Tensor<3> {
        let up = self.linear(&format!("{name}.up"), x);
        let hidden = if self.config.is_gated() {
            let inner = self.config.intermediate_size;
            self.activation(up.clone().narrow(2, 0, inner)) * up.narrow(2, inner, inner)
        } else {
            self.activation(up)
        };
        self.linear(&format!("{name}.down"), hidden)
    }

    fn activation(&self, x: Tensor<3>) -> Tensor<3> {
        match self.config.activation {
            Activation::Gelu => gelu(x),
            Activation::GeluNew => kernels::gelu(x),
            Activation::Relu => relu(x),
            Activation::Silu => silu(x),
        }
    }
}

/// Each kv head serves a group of query heads (Ainslie 2023).
fn repeat_heads(x: Tensor<4>, groups: usize) -> Tensor<4> {
    if groups == 1 {
        return x;
    }
    let [batch, heads, time, head] = x.dims();
    let repeated = x.unsqueeze_dim::<5>(2).expand([batch, heads, groups, time, head]);
    repeated.reshape([batch, heads * groups, time, head])
}
