//! The shape of a decoder.
//!
//! Purpose: `ModelParams` is what a pipeline writes, `ModelConfig` the complete, checked shape
//! that stands beside the weights.
//! Invariant: heads times head size is the width; kv heads divide heads.
//! Must not know: tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::presets::{Preset, preset};

/// Which of the two families a decoder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Learned positions, LayerNorm, GELU, biases, tied head (Radford 2019).
    Gpt2,
    /// RoPE, RMSNorm, SwiGLU, grouped-query attention, no biases (Touvron 2023).
    Llama,
}

/// The shape of a model as a pipeline asks for it: a preset, and what differs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelParams {
    /// The shape to start from.
    pub preset: Preset,
    /// Layers, when other than the preset's.
    #[schemars(range(min = 1))]
    pub layers: Option<usize>,
    /// Width (d), when other than the preset's.
    #[schemars(range(min = 1))]
    pub width: Option<usize>,
    /// Attention heads, when other than the preset's.
    #[schemars(range(min = 1))]
    pub heads: Option<usize>,
    /// Heads of keys and values, when other than the preset's.
    #[schemars(range(min = 1))]
    pub kv_heads: Option<usize>,
    /// Hidden width of the feed-forward part, when other than the preset's.
    #[schemars(range(min = 1))]
    pub ffn: Option<usize>,
    /// Context length in tokens, when other than the preset's.
    #[schemars(range(min = 1))]
    pub context: Option<usize>,
}

impl Default for ModelParams {
    fn default() -> Self {
        Self {
            preset: Preset::Tiny,
            layers: None,
            width: None,
            heads: None,
            kv_heads: None,
            ffn: None,
            context: None,
        }
    }
}

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
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values; fewer than `heads` in grouped-query attention.
    pub kv_heads: usize,
    /// Hidden width of the feed-forward part (f).
    pub ffn: usize,
    /// The longest context in tokens (T).
    pub context: usize,
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
        let width = self.width.unwrap_or(base.width);
        let heads = self.heads.unwrap_or(base.heads);
        let same_width = width == base.width;
        let config = ModelConfig {
            vocab,
            layers: self.layers.unwrap_or(base.layers),
            width,
            heads,
            kv_heads: self.kv_heads.unwrap_or(if self.heads.is_some() { heads } else { base.kv_heads }),
            // A preset's ratio of hidden width to width holds when only the width changes.
            ffn: self.ffn.unwrap_or(if same_width { base.ffn } else { base.ffn * width / base.width }),
            context: self.context.unwrap_or(base.context),
            ..base
        };
        config.check()?;
        Ok(config)
    }
}

impl ModelConfig {
    /// The size of a head.
    pub fn head(&self) -> usize {
        self.width / self.heads
    }

    /// The joint width of the keys (or values) of all kv heads.
    pub fn kv_width(&self) -> usize {
        self.head() * self.kv_heads
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
            ("width", self.width, 1 << 16),
            ("heads", self.heads, 1 << 10),
            ("kv_heads", self.kv_heads, 1 << 10),
            ("ffn", self.ffn, 1 << 18),
            ("context", self.context, 1 << 20),
        ];
        for (name, value, most) in bounds {
            if value == 0 || value > most {
                return fail(format!("{name} is {value}; it must lie between 1 and {most}"));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return fail(format!("width {} is no multiple of heads {}", self.width, self.heads));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return fail(format!("heads {} is no multiple of kv_heads {}", self.heads, self.kv_heads));
        }
        if self.family == Family::Gpt2 && (self.kv_heads != self.heads || !self.tied) {
            return fail("the GPT-2 family has as many kv heads as heads, and a tied head".to_owned());
        }
        // Comparisons that are false for NaN too.
        if !(self.norm_eps > 0.0 && self.norm_eps <= 1.0) {
            return fail(format!("norm_eps is {}; it must lie between 0 and 1", self.norm_eps));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
            return fail(format!("rope_theta is {}; it must lie between 1 and 1e12", self.rope_theta));
        }
        if self.family == Family::Llama && !self.head().is_multiple_of(2) {
            return fail(format!("RoPE needs an even head size, not {}", self.head()));
        }
        Ok(())
    }

    /// The number of parameters.
    ///
    /// GPT-2: `Vd + Td + L(12d^2 + 13d) + 2d` (for f = 4d). LLaMA:
    /// `2Vd (Vd if tied) + L(2d^2 + 2 d d_kv + 3 d f + 2d) + d`.
    pub fn parameters(&self) -> u64 {
        let [v, t, l, d, f, dkv] =
            [self.vocab, self.context, self.layers, self.width, self.ffn, self.kv_width()].map(|x| x as u64);
        match self.family {
            Family::Gpt2 => v * d + t * d + l * (4 * d * d + 2 * d * f + 9 * d + f) + 2 * d,
            Family::Llama => {
                let embeddings = if self.tied { v * d } else { 2 * v * d };
                embeddings + l * (2 * d * d + 2 * d * dkv + 3 * d * f + 2 * d) + d
            }
        }
    }

    /// Parameters that take part in matrix multiplications for each token (all but the position
    /// and, where the head is not tied to it, the token embedding).
    pub fn matmul_parameters(&self) -> u64 {
        let lookup = match (self.family, self.tied) {
            (Family::Gpt2, _) => self.context,
            (Family::Llama, true) => 0,
            (Family::Llama, false) => self.vocab,
        };
        self.parameters() - (lookup * self.width) as u64
    }

    /// Floating-point operations of one token's training step: `6 N_matmul + 12 L d T`.
    pub fn training_flops_per_token(&self, time: usize) -> u64 {
        6 * self.matmul_parameters() + 12 * (self.layers * self.width * time) as u64
    }
}
