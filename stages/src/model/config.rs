//! The shape of a decoder.
//!
//! Purpose: `ModelParams` is what a pipeline writes, `ModelConfig` the complete, checked shape
//! that stands beside the weights.
//! Invariant: heads times head size is the width; kv heads divide heads.
//! Must not know: tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::presets::{Preset, preset};
use crate::kernels::cpu::Activation;

/// Which of the two families a decoder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Learned positions, LayerNorm, plain feed-forward part (Radford 2019).
    Gpt2,
    /// RoPE, RMSNorm, gated feed-forward part, grouped-query attention (Touvron 2023).
    Llama,
}

/// The shape of a model as a pipeline asks for it: a preset, and what differs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-other-names" = {
    "width": "hidden_size", "n_embd": "hidden_size", "d_model": "hidden_size", "dim": "hidden_size", "ffn": "intermediate_size",
    "context": "max_position_embeddings", "block_size": "max_position_embeddings", "n_layer": "layers",
    "num_hidden_layers": "layers", "n_head": "heads", "num_attention_heads": "heads", "num_key_value_heads": "kv_heads",
    "hidden_act": "activation", "tie_word_embeddings": "tied"
}))]
pub struct ModelParams {
    /// The shape to start from.
    pub preset: Preset,
    /// Layers, when other than the preset's.
    #[schemars(range(min = 1))]
    pub layers: Option<usize>,
    /// Width of the residual stream (d), when other than the preset's.
    #[schemars(range(min = 1))]
    pub hidden_size: Option<usize>,
    /// Attention heads, when other than the preset's.
    #[schemars(range(min = 1))]
    pub heads: Option<usize>,
    /// Heads of keys and values, when other than the preset's.
    #[schemars(range(min = 1))]
    pub kv_heads: Option<usize>,
    /// Hidden width of the feed-forward part, when other than the preset's.
    #[schemars(range(min = 1))]
    pub intermediate_size: Option<usize>,
    /// The longest context in tokens, when other than the preset's.
    #[schemars(range(min = 1))]
    pub max_position_embeddings: Option<usize>,
    /// The activation of the feed-forward part, when other than the preset's.
    pub activation: Option<Activation>,
    /// Whether linear maps and LayerNorms have biases, when other than the preset's.
    pub bias: Option<bool>,
    /// Whether the output head is the transposed embedding, when other than the preset's.
    pub tied: Option<bool>,
}

impl Default for ModelParams {
    fn default() -> Self {
        Self {
            preset: Preset::Tiny,
            layers: None,
            hidden_size: None,
            heads: None,
            kv_heads: None,
            intermediate_size: None,
            max_position_embeddings: None,
            activation: None,
            bias: None,
            tied: None,
        }
    }
}

/// Numbers that the tables of RoPE may have: 256 MiB.
const MOST_ANGLES: usize = 1 << 26;

/// The complete shape of a decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The family.
    pub family: Family,
    /// Tokens of the vocabulary (V).
    pub vocab: usize,
    /// Layers (L).
    pub layers: usize,
    /// Width of the residual stream (d).
    pub hidden_size: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values; fewer than `heads` in grouped-query attention.
    pub kv_heads: usize,
    /// Hidden width of the feed-forward part (f).
    pub intermediate_size: usize,
    /// The longest context in tokens (T).
    pub max_position_embeddings: usize,
    /// The activation of the feed-forward part.
    pub activation: Activation,
    /// Whether linear maps and LayerNorms have biases.
    pub bias: bool,
    /// Whether the output head is the transposed embedding.
    pub tied: bool,
    /// Added to the variance by the norms.
    pub norm_eps: f64,
    /// The base of RoPE's wavelengths; unused by GPT-2.
    pub rope_theta: f64,
}

/// Why a shape is impossible.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("model shape: {0}")]
pub struct ShapeError(String);

impl ModelParams {
    /// The complete shape for a vocabulary.
    ///
    /// # Errors
    /// When the parts do not fit together.
    pub fn config(&self, vocab: usize) -> Result<ModelConfig, ShapeError> {
        let base = preset(self.preset);
        let hidden_size = self.hidden_size.unwrap_or(base.hidden_size);
        let heads = self.heads.unwrap_or(base.heads);
        // A preset's ratio of both widths holds when only the one changes.
        let intermediate_size = base.intermediate_size * hidden_size / base.hidden_size;
        let config = ModelConfig {
            vocab,
            layers: self.layers.unwrap_or(base.layers),
            hidden_size,
            heads,
            kv_heads: self.kv_heads.unwrap_or(if self.heads.is_some() { heads } else { base.kv_heads }),
            intermediate_size: self.intermediate_size.unwrap_or(intermediate_size),
            max_position_embeddings: self.max_position_embeddings.unwrap_or(base.max_position_embeddings),
            activation: self.activation.unwrap_or(base.activation),
            bias: self.bias.unwrap_or(base.bias),
            tied: self.tied.unwrap_or(base.tied),
            ..base
        };
        config.check()?;
        Ok(config)
    }
}

impl ModelConfig {
    /// The size of a head.
    pub fn head(&self) -> usize {
        self.hidden_size / self.heads
    }

    /// The joint width of the keys (or values) of all kv heads.
    pub fn kv_width(&self) -> usize {
        self.head() * self.kv_heads
    }

    /// Whether the feed-forward part is gated.
    pub fn is_gated(&self) -> bool {
        self.family == Family::Llama
    }

    /// Checks that the parts fit together and are within what a machine could hold.
    ///
    /// # Errors
    /// With the part that does not fit.
    pub fn check(&self) -> Result<(), ShapeError> {
        let fail = |text: String| Err(ShapeError(text));
        let bounds = [
            ("vocab", self.vocab, 1 << 20),
            ("layers", self.layers, 1 << 10),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("heads", self.heads, 1 << 10),
            ("kv_heads", self.kv_heads, 1 << 10),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 20),
        ];
        for (name, value, most) in bounds {
            if value == 0 || value > most {
                return fail(format!("{name} is {value}; it must lie between 1 and {most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.heads) {
            return fail(format!("hidden_size {} is no multiple of heads {}", self.hidden_size, self.heads));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return fail(format!("heads {} is no multiple of kv_heads {}", self.heads, self.kv_heads));
        }
        if self.family == Family::Gpt2 && self.kv_heads != self.heads {
            return fail("the GPT-2 family has as many kv heads as heads".to_owned());
        }
        // Comparisons that are false for NaN too.
        if !(self.norm_eps >= 1e-30 && self.norm_eps <= 1.0) {
            return fail(format!("norm_eps is {}; it must lie between 1e-30 and 1", self.norm_eps));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
            return fail(format!("rope_theta is {}; it must lie between 1 and 1e12", self.rope_theta));
        }
        if self.family == Family::Llama && !self.head().is_multiple_of(2) {
            return fail(format!("RoPE needs an even head size, not {}", self.head()));
        }
        // The tables of RoPE are made before anything is computed.
        let angles = self.head() * self.max_position_embeddings;
        if self.family == Family::Llama && angles > MOST_ANGLES {
            return fail(format!(
                "RoPE with max_position_embeddings {} and heads of {} needs {angles} numbers, more than {MOST_ANGLES}",
                self.max_position_embeddings,
                self.head()
            ));
        }
        Ok(())
    }

    /// The number of parameters.
    ///
    /// GPT-2 with biases, a tied head and f = 4d: `Vd + Td + L(12d^2 + 13d) + 2d`. LLaMA:
    /// `2Vd (Vd if tied) + L(2d^2 + 2 d d_kv + 3 d f + 2d) + d`.
    pub fn parameters(&self) -> u64 {
        let [v, t, l, d, f, dkv] = [
            self.vocab,
            self.max_position_embeddings,
            self.layers,
            self.hidden_size,
            self.intermediate_size,
            self.kv_width(),
        ]
        .map(|x| x as u64);
        let up = if self.is_gated() { 2 * f } else { f };
        let norm = if self.bias && self.family == Family::Gpt2 { 2 * d } else { d };
        let biases = if self.bias { (d + 2 * dkv) + d + up + d } else { 0 };
        let positions = if self.family == Family::Gpt2 { t * d } else { 0 };
        let head = if self.tied { 0 } else { v * d };
        let layer = 2 * d * d + 2 * d * dkv + d * up + f * d + 2 * norm + biases;
        v * d + positions + l * layer + norm + head
    }

    /// Parameters that take part in matrix multiplications for each token (all but the position
    /// and, where the head is not tied to it, the token embedding).
    pub fn matmul_parameters(&self) -> u64 {
        let positions = if self.family == Family::Gpt2 { self.max_position_embeddings } else { 0 };
        let tokens = if self.tied { 0 } else { self.vocab };
        self.parameters() - ((positions + tokens) * self.hidden_size) as u64
    }

    /// Floating-point operations of one token's training step: `6 N_matmul + 12 L d T`.
    pub fn training_flops_per_token(&self, time: usize) -> u64 {
        6 * self.matmul_parameters() + 12 * (self.layers * self.hidden_size * time) as u64
    }
}
