//! The shape of a decoder.
//!
//! Purpose: `ModelConfig` is the complete, checked shape that stands beside the weights: the GPT-2 family, and the LLaMA
//! family with what Mistral, Qwen2 and Qwen3 change about it.
//! Invariant: a checked shape fits together, is within what a machine could hold, and is one that its family has.
//! Must not know: files, tensors.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rope::Rope;

/// By whose names and rules the files of a decoder are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Learned positions, LayerNorm, plain feed-forward part (Radford 2019).
    Gpt2,
    /// RoPE, RMSNorm, gated feed-forward part, grouped-query attention (Touvron 2023).
    Llama,
    /// LLaMA with a sliding window (Jiang 2023).
    Mistral,
    /// LLaMA with biases of queries, keys and values (Yang 2024).
    Qwen2,
    /// LLaMA with norms of queries and keys (Yang 2025).
    Qwen3,
}

/// An activation function of the feed-forward part, by its name in Hugging Face configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Activation {
    /// `x Phi(x)`, with the normal distribution function.
    #[serde(rename = "gelu")]
    Gelu,
    /// GELU in its tanh form, as GPT-2 has it.
    #[serde(rename = "gelu_new")]
    GeluNew,
    /// `max(x, 0)`.
    #[serde(rename = "relu")]
    Relu,
    /// `x sigmoid(x)`.
    #[serde(rename = "silu")]
    Silu,
}

/// Which parts of a decoder have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// The maps to queries, keys and values.
    pub qkv: bool,
    /// The map from the heads back to the residual stream.
    pub out: bool,
    /// The maps of the feed-forward part.
    pub feed_forward: bool,
    /// LayerNorms; an RMSNorm has none.
    pub norms: bool,
}

impl Biases {
    /// Biases everywhere, or nowhere, as far as the family has them.
    pub fn all(family: Family, has: bool) -> Self {
        Self { qkv: has, out: has, feed_forward: has, norms: has && family == Family::Gpt2 }
    }
}

/// Layers whose queries see only so many keys, their own included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Keys that a query sees.
    pub size: usize,
    /// For each layer, whether it has the window.
    pub layers: Vec<bool>,
}

/// What may be added to a variance: as f32, too, it is above 0.
pub(super) const NORM_EPS: RangeInclusive<f64> = 1e-30..=1.0;
/// Numbers that the tables of RoPE may have: 256 MiB.
const MOST_ANGLES: usize = 1 << 26;

/// The complete shape of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub family: Family,
    /// Rows of the token embedding (V); a tokenizer may have fewer tokens.
    pub vocab: usize,
    /// Layers (L).
    pub layers: usize,
    /// Width of the residual stream (d).
    pub hidden_size: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values; fewer than `heads` in grouped-query attention.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Hidden width of the feed-forward part (f).
    pub intermediate_size: usize,
    /// The longest context in tokens (T).
    pub max_position_embeddings: usize,
    /// The activation of the feed-forward part.
    pub activation: Activation,
    /// Which parts have biases.
    pub biases: Biases,
    /// Whether each head's queries and keys go through an RMSNorm before RoPE.
    pub qk_norm: bool,
    /// Whether the output head is the transposed embedding.
    pub tied: bool,
    /// Added to the variance by the norms.
    pub norm_eps: f64,
    /// The angles of RoPE; unused by GPT-2.
    pub rope: Rope,
    /// Layers with a sliding window.
    pub window: Option<SlidingWindow>,
}

/// Why a shape is impossible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("model shape: {0}")]
pub struct ShapeError(pub String);

impl ModelConfig {
    /// The joint width of all heads of queries.
    pub fn attention_width(&self) -> usize {
        self.head_dim * self.heads
    }

    /// The joint width of the keys (or values) of all kv heads.
    pub fn kv_width(&self) -> usize {
        self.head_dim * self.kv_heads
    }

    /// The joint width of queries, keys and values.
    pub fn qkv_width(&self) -> usize {
        self.attention_width() + 2 * self.kv_width()
    }

    /// Whether the feed-forward part is gated.
    pub fn is_gated(&self) -> bool {
        self.has_rope()
    }

    /// Whether positions are angles of RoPE; else they are learned.
    pub fn has_rope(&self) -> bool {
        self.family != Family::Gpt2
    }

    /// The keys that a query of a layer sees, its own included; none means all before it.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        let window = self.window.as_ref()?;
        window.layers.get(layer).copied().unwrap_or(false).then_some(window.size)
    }

    /// Checks that the parts fit together and are within what a machine could hold.
    ///
    /// # Errors
    /// With the part that does not fit.
    pub fn check(&self) -> Result<(), ShapeError> {
        self.check_sizes()
            .and_then(|()| self.check_heads())
            .and_then(|()| self.check_family())
            .map_err(ShapeError)
    }

    fn check_sizes(&self) -> Result<(), String> {
        let bounds = [
            ("vocab", self.vocab, 1 << 20),
            ("layers", self.layers, 1 << 10),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("heads", self.heads, 1 << 10),
            ("kv_heads", self.kv_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 12),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 20),
        ];
        for (name, value, most) in bounds {
            if value == 0 || value > most {
                return Err(format!("{name} is {value}; it must lie between 1 and {most}"));
            }
        }
        if !NORM_EPS.contains(&self.norm_eps) {
            return Err(format!("norm_eps is {:?}; it must lie between 1e-30 and 1", self.norm_eps));
        }
        Ok(())
    }

    fn check_heads(&self) -> Result<(), String> {
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("heads {} is no multiple of kv_heads {}", self.heads, self.kv_heads));
        }
        if let Some(window) = &self.window {
            if window.size == 0 {
                return Err("the sliding window is 0; a query sees at least its own key".to_owned());
            }
            if window.layers.len() != self.layers {
                let said = window.layers.len();
                return Err(format!("{said} layers are said to slide or not, and there are {}", self.layers));
            }
        }
        if !self.has_rope() {
            return Ok(());
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("RoPE needs an even head size, not {}", self.head_dim));
        }
        self.rope.check()?;
        // The tables of RoPE are made before anything is computed.
        let angles = self.head_dim * self.max_position_embeddings;
        if angles > MOST_ANGLES {
            return Err(format!(
                "RoPE with max_position_embeddings {} and heads of {} needs {angles} numbers, more than {MOST_ANGLES}",
                self.max_position_embeddings, self.head_dim
            ));
        }
        Ok(())
    }

    /// What a family cannot have, and so could not be written.
    fn check_family(&self) -> Result<(), String> {
        let b = self.biases;
        if self.family == Family::Gpt2 {
            if self.kv_heads != self.heads {
                return Err("the GPT-2 family has as many kv heads as heads".to_owned());
            }
            if self.head_dim * self.heads != self.hidden_size {
                return Err(format!(
                    "hidden_size {} is no multiple of heads {}",
                    self.hidden_size, self.heads
                ));
            }
            if self.qk_norm || self.window.is_some() {
                return Err("the GPT-2 family has no norms of queries and keys, and no window".to_owned());
            }
            return match b == Biases::all(self.family, b.qkv) {
                true => Ok(()),
                false => Err("the GPT-2 family has biases everywhere or nowhere".to_owned()),
            };
        }
        let (attention, feed_forward) = ((b.qkv, b.out), b.feed_forward);
        let biases_fit = match self.family {
            Family::Llama => attention.0 == attention.1,
            Family::Qwen3 => attention.0 == attention.1 && !feed_forward,
            Family::Qwen2 => attention == (true, false) && !feed_forward,
            _ => attention == (false, false) && !feed_forward,
        };
        if !biases_fit || b.norms {
            return Err(format!("{:?} has no such biases", self.family));
        }
        if self.qk_norm != (self.family == Family::Qwen3) {
            return Err(format!("{:?} is not the family with norms of queries and keys", self.family));
        }
        if self.window.is_some() && self.family == Family::Llama {
            return Err("the LLaMA family has no sliding window".to_owned());
        }
        Ok(())
    }

    /// The number of parameters.
    ///
    /// GPT-2 with biases, a tied head and f = 4d: `Vd + Td + L(12d^2 + 13d) + 2d`. LLaMA with heads of d in all:
    /// `2Vd (Vd if tied) + L(2d^2 + 2 d d_kv + 3 d f + 2d) + d`.
    pub fn parameters(&self) -> u64 {
        let [v, t, l, d, f, a, qkv, head] = [
            self.vocab,
            self.max_position_embeddings,
            self.layers,
            self.hidden_size,
            self.intermediate_size,
            self.attention_width(),
            self.qkv_width(),
            self.head_dim,
        ]
        .map(|x| x as u64);
        let when = |is: bool, count: u64| if is { count } else { 0 };
        let up = if self.is_gated() { 2 * f } else { f };
        let norm = d + when(self.biases.norms, d);
        let biases =
            when(self.biases.qkv, qkv) + when(self.biases.out, d) + when(self.biases.feed_forward, up + d);
        let layer = d * qkv + a * d + d * up + f * d + 2 * norm + biases + when(self.qk_norm, 2 * head);
        v * d + when(!self.has_rope(), t * d) + l * layer + norm + when(!self.tied, v * d)
    }

    /// Parameters that take part in matrix multiplications for each token (all but the position
    /// and, where the head is not tied to it, the token embedding).
    pub fn matmul_parameters(&self) -> u64 {
        let positions = if self.has_rope() { 0 } else { self.max_position_embeddings };
        let tokens = if self.tied { 0 } else { self.vocab };
        self.parameters() - ((positions + tokens) * self.hidden_size) as u64
    }

    /// Floating-point operations of one token's training step: `6 N_matmul + 12 L d T`, d that of all heads.
    pub fn training_flops_per_token(&self, time: usize) -> u64 {
        6 * self.matmul_parameters() + 12 * (self.layers * self.attention_width() * time) as u64
    }
}
