//! What of a `config.json` llama.cpp can follow.
//!
//! Purpose: the configurations that are written as GGUF: those of [`hugging_face`] without what llama.cpp does not compute.
//! Invariant: a setting that changes what the model computes and that llama.cpp cannot follow is an error that names it; so
//! is a number that is not usable any more as the f32 that GGUF stores.
//! Must not know: GGUF's keys, tokenizers.

use serde_json::Value;

use super::rope::{divisors, from_divisors};
use crate::gguf::GgufError;
use crate::gguf::value::decimal;
use crate::model::{Activation, Described, Family, Head, ModelConfig, Rope, Scaling, Yarn, hugging_face};

/// The name of the document in messages.
const CONFIG: &str = "config.json";
/// As many layers as llama.cpp takes.
pub(super) const MOST_LAYERS: usize = 512;

/// Reads a document.
pub(in crate::gguf) fn read(config: &Value) -> Result<ModelConfig, GgufError> {
    let whole = |what: String| GgufError::whole(format!("{CONFIG}: {what}"));
    if config.is_null() {
        return Err(whole("it is missing; the folder of a model has one".into()));
    }
    let Described { config, head } = hugging_face::read(config).map_err(|error| whole(error.to_string()))?;
    if head != Head::Vocabulary {
        return Err(refuse("architectures", "llama.cpp does not know models with a score for a head"));
    }
    follow(&config)?;
    follow_rope(&config)?;
    let stored = as_stored(&config)?;
    stored.check().map_err(|error| whole(format!("rounded to the 32 bits that GGUF has: {error}")))?;
    Ok(config)
}

fn refuse(field: &str, what: impl Into<String>) -> GgufError {
    GgufError::field(CONFIG, field, what)
}

fn follow(config: &ModelConfig) -> Result<(), GgufError> {
    let (layers, activation, known) = match config.family {
        Family::Gpt2 => ("n_layer", "activation_function", (Activation::GeluNew, "gelu_new")),
        _ => ("num_hidden_layers", "hidden_act", (Activation::Silu, "silu")),
    };
    if config.layers > MOST_LAYERS {
        return Err(refuse(layers, format!("it is {}, not from 1 to {MOST_LAYERS}", config.layers)));
    }
    if config.activation != known.0 {
        return Err(refuse(activation, format!("llama.cpp computes with `{}` alone", known.1)));
    }
    let context = config.max_position_embeddings;
    let windows = (0..config.layers).filter_map(|layer| config.window_of(layer));
    if let Some(window) = windows.min().filter(|&window| window < context) {
        let what = format!(
            "llama.cpp attends to all tokens with this architecture; that is the same up to `max_position_embeddings` of at \
             most this window, {window}, and it is {context}"
        );
        return Err(refuse("sliding_window", what));
    }
    if !has_usual_heads(config) {
        return Err(refuse(
            "head_dim",
            "llama.cpp has only `hidden_size` by `num_attention_heads` for qwen2",
        ));
    }
    Ok(())
}

/// Whether the size of the heads is one that the architecture has: Qwen2's is always the width by the heads.
pub(super) fn has_usual_heads(config: &ModelConfig) -> bool {
    config.family != Family::Qwen2 || config.attention_width() == config.hidden_size
}

fn follow_rope(config: &ModelConfig) -> Result<(), GgufError> {
    match config.rope.scaling {
        Scaling::Default | Scaling::Linear { .. } => Ok(()),
        Scaling::Dynamic { .. } => {
            Err(refuse("rope_scaling", "llama.cpp has no `dynamic` with this architecture"))
        }
        Scaling::Llama3 { .. } if matches!(config.family, Family::Llama | Family::Mistral) => Ok(()),
        Scaling::Llama3 { .. } => {
            Err(refuse("rope_scaling", "llama.cpp has `llama3` with the architecture llama alone"))
        }
        Scaling::Yarn(yarn) if !yarn.truncate => Err(refuse("truncate", "GGUF cannot say this of RoPE")),
        Scaling::Yarn(yarn) if yarn.mscale.is_some() => {
            Err(refuse("mscale", "GGUF cannot say this of RoPE; say the `attention_factor`"))
        }
        // The checked shape bounds it.
        Scaling::Yarn(yarn) if yarn.original < 1.0 || yarn.original.fract() != 0.0 => {
            let what = format!("it is {:?}, and GGUF has only whole numbers here", yarn.original);
            Err(refuse("original_max_position_embeddings", what))
        }
        Scaling::Yarn(_) => Ok(()),
    }
}

/// What a reader of the file will find.
fn as_stored(config: &ModelConfig) -> Result<ModelConfig, GgufError> {
    let round = |number: f64| decimal(number as f32);
    let theta = round(config.rope.theta);
    let rope = match config.rope.scaling {
        Scaling::Linear { factor } => Rope { theta, scaling: Scaling::Linear { factor: round(factor) } },
        Scaling::Yarn(yarn) => {
            let yarn = Yarn {
                factor: round(yarn.factor),
                attention_factor: yarn.attention_factor.map(round),
                beta_fast: round(yarn.beta_fast),
                beta_slow: round(yarn.beta_slow),
                ..yarn
            };
            Rope { theta, scaling: Scaling::Yarn(yarn) }
        }
        scaling => match divisors(&config.rope, config.head_dim) {
            None => Rope { theta, scaling },
            Some(divisors) => from_divisors(&divisors, theta, config.head_dim).ok_or_else(|| {
                let what = "GGUF stores what `llama3` divides the frequencies by, and these numbers cannot be found again \
                            from that; the published ones have a `low_freq_factor` of 1 and a `high_freq_factor` of 4";
                refuse("rope_scaling", what)
            })?,
        },
    };
    Ok(ModelConfig { norm_eps: round(config.norm_eps), rope, ..config.clone() })
}
