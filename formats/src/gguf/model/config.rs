//! A decoder in the fields of Hugging Face's `config.json`.
//!
//! Purpose: what transformers reads, in both directions.
//! Invariant: a setting that changes what the model computes and that llama.cpp cannot follow is an error that names it.
//! Must not know: GGUF's keys, tokenizers.

use serde_json::{Map, Value, json};

use super::decoder::{Architecture, Decoder};
use super::rope::{Llama3, Scaling, Yarn};
use crate::gguf::GgufError;
use crate::gguf::error::quoted;
use crate::gguf::fields::{Fields, shown};

/// The name of the document in messages.
const CONFIG: &str = "config.json";
const MISTRAL: &str = "mistral";

/// The document of a decoder, without token ids.
pub(in crate::gguf) fn write(decoder: &Decoder) -> Map<String, Value> {
    let config = match decoder.architecture {
        Architecture::Gpt2 => json!({
            "n_layer": decoder.layers,
            "n_embd": decoder.width,
            "n_inner": decoder.inner,
            "n_head": decoder.heads,
            "n_positions": decoder.context,
            "n_ctx": decoder.context,
            "layer_norm_epsilon": decoder.eps,
            "activation_function": "gelu_new",
        }),
        _ => json!({
            "num_hidden_layers": decoder.layers,
            "hidden_size": decoder.width,
            "intermediate_size": decoder.inner,
            "num_attention_heads": decoder.heads,
            "num_key_value_heads": decoder.kv_heads,
            "head_dim": decoder.head_size,
            "max_position_embeddings": decoder.context,
            "rms_norm_eps": decoder.eps,
            "rope_theta": decoder.theta,
            "rope_scaling": scaling(&decoder.scaling),
            "hidden_act": "silu",
        }),
    };
    let mut config = match config {
        Value::Object(config) => config,
        _ => Map::new(),
    };
    match decoder.architecture {
        Architecture::Llama => {
            config.insert("attention_bias".into(), decoder.attention_bias.into());
            config.insert("mlp_bias".into(), decoder.mlp_bias.into());
        }
        Architecture::Qwen3 => {
            config.insert("attention_bias".into(), decoder.attention_bias.into());
        }
        Architecture::Qwen2 | Architecture::Gpt2 => {}
    }
    if matches!(decoder.architecture, Architecture::Qwen2 | Architecture::Qwen3) {
        config.insert("use_sliding_window".into(), false.into());
    }
    config.insert("architectures".into(), json!([decoder.architecture.class()]));
    config.insert("model_type".into(), decoder.architecture.name().into());
    config.insert("vocab_size".into(), decoder.vocab.into());
    config.insert("tie_word_embeddings".into(), decoder.tied.into());
    config
}

fn scaling(scaling: &Scaling) -> Value {
    match scaling {
        Scaling::None => Value::Null,
        Scaling::Linear(factor) => json!({ "rope_type": "linear", "factor": factor }),
        Scaling::Yarn(yarn) => {
            let mut map = json!({
                "rope_type": "yarn",
                "factor": yarn.factor,
                "original_max_position_embeddings": yarn.original_context,
            });
            for (name, value) in [
                ("attention_factor", yarn.attention_factor),
                ("beta_fast", yarn.beta_fast),
                ("beta_slow", yarn.beta_slow),
            ] {
                if let Some(value) = value {
                    map[name] = value.into();
                }
            }
            map
        }
        Scaling::Llama3(llama3) => json!({
            "rope_type": "llama3",
            "factor": llama3.factor,
            "low_freq_factor": llama3.low_frequency_factor,
            "high_freq_factor": llama3.high_frequency_factor,
            "original_max_position_embeddings": llama3.original_context,
        }),
    }
}

/// Reads a document.
pub(in crate::gguf) fn read(config: &Value) -> Result<Decoder, GgufError> {
    let fields = Fields::of(CONFIG, config)?;
    let decoder = match architecture(&fields)? {
        Architecture::Gpt2 => read_gpt2(&fields)?,
        architecture => read_llama(&fields, architecture)?,
    };
    decoder.check().map_err(|what| GgufError::whole(format!("{CONFIG}: {what}")))?;
    Ok(decoder)
}

fn architecture(fields: &Fields<'_>) -> Result<Architecture, GgufError> {
    let name = fields.text("model_type")?.ok_or_else(|| fields.refuse("model_type", "it is missing"))?;
    // llama.cpp has no architecture of its own for Mistral.
    let name = if name == MISTRAL { "llama" } else { name };
    Architecture::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
        let names = Architecture::names();
        fields.refuse("model_type", format!("this one is not written as GGUF; there are: mistral, {names}"))
    })
}

/// Refuses every field of `settings` that has another value than the one llama.cpp computes with.
fn refuse_others(fields: &Fields<'_>, settings: &[(&str, &[Value])]) -> Result<(), GgufError> {
    for (name, known) in settings {
        if let Some(value) = fields.get(name).filter(|value| !known.contains(value)) {
            let what = format!("llama.cpp does not compute with {}, only with {}", shown(value), known[0]);
            return Err(fields.refuse(name, what));
        }
    }
    Ok(())
}

fn read_gpt2(fields: &Fields<'_>) -> Result<Decoder, GgufError> {
    refuse_others(
        fields,
        &[
            ("activation_function", &[json!("gelu_new"), json!("gelu_pytorch_tanh"), json!("gelu_fast")]),
            ("scale_attn_weights", &[json!(true)]),
            ("scale_attn_by_inverse_layer_idx", &[json!(false)]),
            ("add_cross_attention", &[json!(false)]),
        ],
    )?;
    let width = fields.needed_size(&["n_embd", "hidden_size"])?;
    let heads = fields.needed_size(&["n_head", "num_attention_heads"])?;
    Ok(Decoder {
        architecture: Architecture::Gpt2,
        layers: fields.needed_size(&["n_layer", "num_hidden_layers"])?,
        width,
        inner: fields.size("n_inner")?.unwrap_or(width.saturating_mul(4)),
        heads,
        kv_heads: heads,
        head_size: width / heads.max(1),
        context: fields.needed_size(&["n_positions", "n_ctx", "max_position_embeddings"])?,
        vocab: fields.needed_size(&["vocab_size"])?,
        eps: fields.float("layer_norm_epsilon")?.unwrap_or(1e-5),
        theta: 10_000.0,
        scaling: Scaling::None,
        tied: fields.boolean("tie_word_embeddings")?.unwrap_or(true),
        attention_bias: false,
        mlp_bias: false,
    })
}

fn read_llama(fields: &Fields<'_>, architecture: Architecture) -> Result<Decoder, GgufError> {
    refuse_others(
        fields,
        &[
            ("hidden_act", &[json!("silu"), json!("swish")]),
            ("use_sliding_window", &[json!(false)]),
            ("partial_rotary_factor", &[json!(1.0), json!(1)]),
        ],
    )?;
    let width = fields.needed_size(&["hidden_size"])?;
    let heads = fields.needed_size(&["num_attention_heads"])?;
    let context = fields.needed_size(&["max_position_embeddings"])?;
    refuse_windows(fields, architecture, context)?;
    let head_size = match fields.size("head_dim")? {
        Some(size) => size,
        // The class of Qwen3 has a default of its own.
        None if architecture == Architecture::Qwen3 => 128,
        None => width / heads.max(1),
    };
    let bias = |name: &str| fields.boolean(name).map(|value| value.unwrap_or(false));
    let (theta, scaling) = read_rope(fields)?;
    Ok(Decoder {
        architecture,
        layers: fields.needed_size(&["num_hidden_layers"])?,
        width,
        inner: fields.needed_size(&["intermediate_size"])?,
        heads,
        kv_heads: read_kv_heads(fields, architecture, heads)?,
        head_size,
        context,
        vocab: fields.needed_size(&["vocab_size"])?,
        eps: fields.float("rms_norm_eps")?.unwrap_or(1e-6),
        theta,
        scaling,
        tied: fields.boolean("tie_word_embeddings")?.unwrap_or(false),
        attention_bias: architecture != Architecture::Qwen2 && bias("attention_bias")?,
        mlp_bias: architecture == Architecture::Llama && bias("mlp_bias")?,
    })
}

/// The heads of keys and values. Where the field is absent, the classes of Mistral and Qwen have defaults of their own,
/// which are not guessed.
fn read_kv_heads(fields: &Fields<'_>, architecture: Architecture, heads: usize) -> Result<usize, GgufError> {
    let name = "num_key_value_heads";
    let is_llama = architecture == Architecture::Llama && fields.text("model_type")? != Some(MISTRAL);
    match fields.size(name)? {
        Some(kv_heads) => Ok(kv_heads),
        None if is_llama || fields.has(name) => Ok(heads),
        None => Err(fields.refuse(name, "it is missing")),
    }
}

/// Refuses attention that does not see all tokens before.
fn refuse_windows(fields: &Fields<'_>, architecture: Architecture, context: usize) -> Result<(), GgufError> {
    let name = "sliding_window";
    // The class of Mistral has a window where the field is absent, but none where it is `null`.
    let is_absent = fields.text("model_type")? == Some(MISTRAL) && !fields.has(name);
    let window = if is_absent { Some(4096) } else { fields.size(name)? };
    // Qwen has the field beside `use_sliding_window`, which counts.
    if architecture == Architecture::Llama && window.is_some_and(|window| window < context) {
        let what = format!(
            "llama.cpp attends to all tokens with this architecture; that is the same up to `max_position_embeddings` of at \
             most this window, and it is {context}"
        );
        return Err(fields.refuse(name, what));
    }
    match fields.list("layer_types")? {
        Some(list) if list.iter().any(|kind| kind != "full_attention") => {
            Err(fields.refuse("layer_types", "llama.cpp has only `full_attention` with this architecture"))
        }
        _ => Ok(()),
    }
}

/// The base and the scaling of RoPE: `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` before.
fn read_rope(fields: &Fields<'_>) -> Result<(f64, Scaling), GgufError> {
    let found = match fields.object("rope_parameters")? {
        Some(found) => Some(found),
        None => fields.object("rope_scaling")?,
    };
    let outer = fields.float("rope_theta")?;
    let Some(found) = found else { return Ok((outer.unwrap_or(10_000.0), Scaling::None)) };
    let theta = found.float("rope_theta")?.or(outer).unwrap_or(10_000.0);
    let kind = match found.text("rope_type")? {
        Some(kind) => Some(kind),
        None => found.text("type")?,
    };
    let needed = |name: &str| {
        found.float(name).and_then(|value| value.ok_or_else(|| found.refuse(name, "it is missing")))
    };
    let original = || found.needed_size(&["original_max_position_embeddings"]);
    refuse_others(&found, &[("partial_rotary_factor", &[json!(1.0), json!(1)])])?;
    let scaling = match kind.unwrap_or("default") {
        "default" => Scaling::None,
        "linear" => Scaling::Linear(needed("factor")?),
        "yarn" => Scaling::Yarn(Yarn {
            factor: needed("factor")?,
            original_context: original()?,
            attention_factor: found.float("attention_factor")?,
            beta_fast: found.float("beta_fast")?,
            beta_slow: found.float("beta_slow")?,
        }),
        "llama3" => Scaling::Llama3(Llama3 {
            factor: needed("factor")?,
            low_frequency_factor: needed("low_freq_factor")?,
            high_frequency_factor: needed("high_freq_factor")?,
            original_context: original()?,
        }),
        kind => {
            return Err(found
                .refuse("rope_type", format!("llama.cpp has no `{}` with this architecture", quoted(kind))));
        }
    };
    refuse_unknown(&found, kind.unwrap_or("default"))?;
    Ok((theta, scaling))
}

/// Refuses a field of RoPE that was not read: it would be lost.
fn refuse_unknown(found: &Fields<'_>, kind: &str) -> Result<(), GgufError> {
    let common = ["rope_theta", "rope_type", "type", "partial_rotary_factor"];
    let own: &[&str] = match kind {
        "linear" => &["factor", "original_max_position_embeddings"],
        "yarn" => {
            &["factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"]
        }
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        _ => &[],
    };
    match found.names().find(|name| !common.contains(name) && !own.contains(name)) {
        Some(name) => Err(found.refuse(name, "GGUF cannot say this of RoPE")),
        None => Ok(()),
    }
}
