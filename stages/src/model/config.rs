//! The shape of a model as a pipeline asks for it.
//!
//! Purpose: `ModelParams` is what a pipeline writes; it gives a `ModelConfig`, the complete, checked shape that stands
//! beside the weights.
//! Invariant: what a pipeline does not say is the preset's.
//! Must not know: tensors, files.

use kiln_formats::model::Biases;
pub use kiln_formats::model::{Activation, Family, ModelConfig, ShapeError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::presets::{Preset, preset};

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
    /// Numbers of a head, when other than the hidden size divided by the heads.
    #[schemars(range(min = 1))]
    pub head_dim: Option<usize>,
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
            head_dim: None,
            intermediate_size: None,
            max_position_embeddings: None,
            activation: None,
            bias: None,
            tied: None,
        }
    }
}

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
        if self.head_dim.is_none() && !hidden_size.is_multiple_of(heads.max(1)) {
            return Err(ShapeError(format!("hidden_size {hidden_size} is no multiple of heads {heads}")));
        }
        let config = ModelConfig {
            vocab,
            layers: self.layers.unwrap_or(base.layers),
            hidden_size,
            heads,
            kv_heads: self.kv_heads.unwrap_or(if self.heads.is_some() { heads } else { base.kv_heads }),
            head_dim: self.head_dim.unwrap_or(hidden_size / heads.max(1)),
            intermediate_size: self.intermediate_size.unwrap_or(intermediate_size),
            max_position_embeddings: self.max_position_embeddings.unwrap_or(base.max_position_embeddings),
            activation: self.activation.unwrap_or(base.activation),
            biases: self.bias.map_or(base.biases, |has| Biases::all(base.family, has)),
            tied: self.tied.unwrap_or(base.tied),
            ..base
        };
        config.check()?;
        Ok(config)
    }
}
