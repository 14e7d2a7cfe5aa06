//! The parts of a decoder: linear map, norm, attention, feed-forward, block.
//!
//! Purpose: each part's parameters and its forward pass.
//! Invariant: residual projections start with the deviation `0.02 / sqrt(2 L)`, everything else
//! that is random with 0.02 (Radford 2019); parameters are drawn in the order of construction.
//! Must not know: tokens, losses.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::cache::LayerCache;
use super::config::{Family, ModelConfig};
use crate::kernels;
use crate::rng::normal;

/// The deviation of most weights at the start.
pub const INIT_STD: f64 = 0.02;

/// A parameter of normal draws; the draws are made on the host, so every backend starts alike.
pub fn normal_param<const D: usize>(
    shape: [usize; D],
    std: f64,
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Param<Tensor<D>> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| (normal(rng) * std) as f32).collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

fn constant_param(width: usize, value: f32, device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(vec![value; width], [width]), device))
}

/// `x W + b`; weight `[in, out]`, bias `[out]`.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Draws the weight; a bias starts at 0.
    pub fn new(
        [rows, columns]: [usize; 2],
        bias: bool,
        std: f64,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Self {
        Self {
            weight: normal_param([rows, columns], std, rng, device),
            bias: bias.then(|| constant_param(columns, 0.0, device)),
        }
    }

    /// Shapes: `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        burn::tensor::module::linear(x, self.weight.val(), self.bias.as_ref().map(|b| b.val()))
    }
}

/// LayerNorm (with a bias) or RMSNorm (without).
#[derive(Module, Debug)]
pub struct Norm {
    weight: Param<Tensor<1>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    eps: f64,
}

impl Norm {
    /// Starts as the plain norm: weight 1, bias 0.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        Self {
            weight: constant_param(config.width, 1.0, device),
            bias: (config.family == Family::Gpt2).then(|| constant_param(config.width, 0.0, device)),
            eps: config.norm_eps,
        }
    }

    /// Shapes: `[batch, time, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.bias {
            Some(bias) => kernels::layer_norm(x, self.weight.val(), bias.val(), self.eps),
            None => kernels::rms_norm(x, self.weight.val(), self.eps),
        }
    }
}

/// Cosines and sines of RoPE for the positions at hand: each `[batch or 1, 1, time, head]`.
#[derive(Debug, Clone)]
pub struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// For positions `[batch][time]` (or one row for all); angles `p theta^(-2i/head)` (Su 2021),
    /// first half and second half of a head rotated together as LLaMA's published weights expect.
    pub fn new(positions: &[Vec<usize>], head: usize, theta: f64, device: &Device) -> Self {
        let (rows, time) = (positions.len(), positions.first().map_or(0, Vec::len));
        let half = head / 2;
        let frequencies: Vec<f64> = (0..half).map(|i| theta.powf(-2.0 * i as f64 / head as f64)).collect();
        let angles: Vec<f64> = positions
            .iter()
            .flatten()
            .flat_map(|&p| frequencies.iter().chain(&frequencies).map(move |f| p as f64 * f))
            .collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a) as f32).collect();
            Tensor::from_data(TensorData::new(values, [rows, 1, time, head]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let head = x.dims()[3];
        let first = x.clone().narrow(3, 0, head / 2);
        let second = x.clone().narrow(3, head / 2, head / 2);
        let turned = Tensor::cat(vec![second.neg(), first], 3);
        x * self.cos.clone() + turned * self.sin.clone()
    }
}

/// What all blocks of one forward pass share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Added to the attention scores `[batch, 1, tq, tk]`; none means causal.
    pub mask: Option<Tensor<4>>,
    /// RoPE, in the LLaMA family.
    pub rotation: Option<Rotation>,
}

/// Self-attention; queries, keys and values come from one linear map.
#[derive(Module, Debug)]
pub struct Attention {
    qkv: Linear,
    out: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
}

impl Attention {
    fn new(config: &ModelConfig, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let bias = config.family == Family::Gpt2;
        let d = config.width;
        Self {
            qkv: Linear::new([d, d + 2 * config.kv_width()], bias, INIT_STD, rng, device),
            out: Linear::new([d, d], bias, residual_std(config), rng, device),
            heads: config.heads,
            kv_heads: config.kv_heads,
        }
    }

    fn forward(&self, x: Tensor<3>, shared: &Shared, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let [batch, time, width] = x.dims();
        let head = width / self.heads;
        let split = |t: Tensor<3>, heads: usize| t.reshape([batch, time, heads, head]).swap_dims(1, 2);
        let qkv = self.qkv.forward(x);
        let kv_width = self.kv_heads * head;
        let mut q = split(qkv.clone().narrow(2, 0, width), self.heads);
        let mut k = split(qkv.clone().narrow(2, width, kv_width), self.kv_heads);
        let mut v = split(qkv.narrow(2, width + kv_width, kv_width), self.kv_heads);
        if let Some(rotation) = &shared.rotation {
            q = rotation.apply(q);
            k = rotation.apply(k);
        }
        if let Some(cache) = cache {
            (k, v) = cache.extend(k, v);
        }
        let groups = self.heads / self.kv_heads;
        let out = kernels::attention(
            q,
            repeat_heads(k, groups),
            repeat_heads(v, groups),
            shared.mask.clone(),
            shared.mask.is_none(),
        );
        self.out.forward(out.swap_dims(1, 2).reshape([batch, time, width]))
    }
}

/// Each kv head serves a group of query heads (Ainslie 2023).
fn repeat_heads(x: Tensor<4>, groups: usize) -> Tensor<4> {
    if groups == 1 {
        return x;
    }
    let [batch, heads, time, head] = x.dims();
    x.unsqueeze_dim::<5>(2).expand([batch, heads, groups, time, head]).reshape([
        batch,
        heads * groups,
        time,
        head,
    ])
}

/// The feed-forward part: GELU (GPT-2, tanh form) or SwiGLU (LLaMA, gate and up in one map).
#[derive(Module, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
    #[module(skip)]
    gated: bool,
}

impl FeedForward {
    fn new(config: &ModelConfig, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let gated = config.family == Family::Llama;
        let hidden = if gated { 2 * config.ffn } else { config.ffn };
        Self {
            up: Linear::new([config.width, hidden], !gated, INIT_STD, rng, device),
            down: Linear::new([config.ffn, config.width], !gated, residual_std(config), rng, device),
            gated,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.up.forward(x);
        let hidden = if self.gated {
            let f = hidden.dims()[2] / 2;
            silu(hidden.clone().narrow(2, 0, f)) * hidden.narrow(2, f, f)
        } else {
            kernels::gelu(hidden)
        };
        self.down.forward(hidden)
    }
}

fn residual_std(config: &ModelConfig) -> f64 {
    INIT_STD / (2.0 * config.layers as f64).sqrt()
}

/// One layer: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
pub struct Block {
    attention_norm: Norm,
    attention: Attention,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
}

impl Block {
    /// A fresh layer.
    pub fn new(config: &ModelConfig, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        Self {
            attention_norm: Norm::new(config, device),
            attention: Attention::new(config, rng, device),
            feed_forward_norm: Norm::new(config, device),
            feed_forward: FeedForward::new(config, rng, device),
        }
    }

    /// Shapes: `[batch, time, width]` to the same.
    pub fn forward(&self, x: Tensor<3>, shared: &Shared, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let x = x.clone() + self.attention.forward(self.attention_norm.forward(x), shared, cache);
        x.clone() + self.feed_forward.forward(self.feed_forward_norm.forward(x))
    }
}
