//! `config.json` as Hugging Face `transformers` reads and writes it.
//!
//! Purpose: the shape of a GPT-2, LLaMA, Mistral, Qwen2 or Qwen3 model from its `config.json`, and back.
//! Invariant: a field that might change what the model computes and is not known here is refused by its name;
//! `read(write(x)) == x`.
//! Must not know: tensors, tokenizers.

use serde_json::{Map, Value, json};

use super::config::{Activation, Biases, Family, ModelConfig, NORM_EPS, ShapeError};
use super::fields::{Fields, shown};
use super::rope::Rope;
use super::scaling::{rope, write_scaling};
use super::window::{window, write_window};

/// What stands on top of the decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    /// A row of logits, one a token of the vocabulary.
    Vocabulary,
    /// One score: `...ForSequenceClassification` with one label.
    Score {
        /// Subtracted from the score by Kiln's stages (`reward_offset`); other programs do not know it.
        offset: f32,
    },
}

/// What a `config.json` says of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The decoder.
    pub config: ModelConfig,
    /// Its head.
    pub head: Head,
}

/// Why a `config.json` cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("it is no JSON object")]
    NotAnObject,
    #[error("{0}")]
    Field(String),
    #[error(
        "the field `{0}` is not known here, and may change what the model computes; a model with it cannot be used, \
         unless the field is known to mean nothing and is removed"
    )]
    Unknown(String),
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// Fields that change nothing of what a model computes here: names, ids, and numbers of training and of generation.
const HARMLESS: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "attn_pdrop",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "gradient_checkpointing",
    "n_ctx",
    "decoder_start_token_id",
    "encoder_no_repeat_ngram_size",
    "is_llama_config",
    "model_max_length",
    "neftune_noise_alpha",
    "num_labels",
];

/// Reads a `config.json`.
///
/// # Errors
/// With the field that is missing, of another type, impossible or unknown.
pub fn read(value: &Value) -> Result<Described, ConfigError> {
    let fields = Fields::new(value.as_object().ok_or(ConfigError::NotAnObject)?);
    let described = described(&fields).map_err(ConfigError::Field)?;
    described.config.check()?;
    let harmless =
        |name: &str| name.starts_with('_') || name.ends_with("_token_id") || HARMLESS.contains(&name);
    match fields.unknown(harmless) {
        Some(name) => Err(ConfigError::Unknown(shown(name))),
        None => Ok(described),
    }
}

fn described(fields: &Fields) -> Result<Described, String> {
    let kinds = "gpt2, llama, mistral, qwen2 and qwen3";
    let named =
        fields.text("model_type")?.ok_or_else(|| format!("`model_type` is missing; there are {kinds}"))?;
    let family = FAMILIES.iter().find(|(name, ..)| *name == named).map(|(_, family, _)| *family);
    let family = family
        .ok_or_else(|| format!("`model_type: {}` is not supported; there are {kinds}", shown(named)))?;
    for name in ["is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder", "is_decoder"] {
        // A decoder alone may say that it is one.
        if name != "is_decoder" { fields.must_be(name, false)? } else { fields.flag(name).map(|_| ())? }
    }
    let config = if family == Family::Gpt2 { gpt2(fields)? } else { llama(fields, family)? };
    Ok(Described { config, head: head(fields, family)? })
}

/// Each family with its name in `config.json` and the beginning of its classes' names.
const FAMILIES: [(&str, Family, &str); 5] = [
    ("gpt2", Family::Gpt2, "GPT2"),
    ("llama", Family::Llama, "Llama"),
    ("mistral", Family::Mistral, "Mistral"),
    ("qwen2", Family::Qwen2, "Qwen2"),
    ("qwen3", Family::Qwen3, "Qwen3"),
];

/// The family's name, and the beginning of its classes' names.
fn names(family: Family) -> (&'static str, &'static str) {
    let found = FAMILIES.iter().find(|(_, known, _)| *known == family);
    found.map_or(("", ""), |(name, _, class)| (name, class))
}

fn head(fields: &Fields, family: Family) -> Result<Head, String> {
    let class = names(family).1;
    let offset = fields.number("reward_offset")?;
    let Some(architectures) = fields.list("architectures")? else { return Ok(Head::Vocabulary) };
    let named: Vec<&str> = architectures.iter().filter_map(Value::as_str).collect();
    let (vocabulary, score) = (
        [format!("{class}LMHeadModel"), format!("{class}ForCausalLM"), format!("{class}Model")],
        format!("{class}ForSequenceClassification"),
    );
    match named[..] {
        [] => Ok(Head::Vocabulary),
        [name] if vocabulary.iter().any(|known| known == name) => Ok(Head::Vocabulary),
        [name] if name == score => match fields.object("id2label")?.map_or(2, Map::len) {
            1 => Ok(Head::Score { offset: offset.unwrap_or(0.0) as f32 }),
            labels => Err(format!("`{score}` has {labels} labels; a reward model has one (`id2label`)")),
        },
        _ => Err(format!(
            "`architectures: {}` is not supported; there are `{}` and `{score}`",
            shown(&named.join(", ")),
            vocabulary[usize::from(family != Family::Gpt2)]
        )),
    }
}

fn activation(fields: &Fields, name: &'static str, default: Activation) -> Result<Activation, String> {
    match fields.text(name)? {
        None => Ok(default),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluNew),
        Some("relu") => Ok(Activation::Relu),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some(other) => Err(format!(
            "`{name}: {}` is not supported; there are gelu, gelu_new, relu and silu",
            shown(other)
        )),
    }
}

fn eps(fields: &Fields, name: &'static str, default: f64) -> Result<f64, String> {
    match fields.number(name)?.unwrap_or(default) {
        eps if NORM_EPS.contains(&eps) => Ok(eps),
        eps => Err(format!("`{name}` is {eps:?}; it must lie between 1e-30 and 1")),
    }
}

fn gpt2(fields: &Fields) -> Result<ModelConfig, String> {
    fields.must_be("scale_attn_weights", true)?;
    fields.must_be("scale_attn_by_inverse_layer_idx", false)?;
    // `transformers` takes the names of other families, too.
    let hidden_size = fields.required_as(["n_embd", "hidden_size"])?;
    let heads = fields.required_as(["n_head", "num_attention_heads"])?;
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(format!("`n_embd: {hidden_size}` is no multiple of `n_head: {heads}`"));
    }
    // The field `bias` is Kiln's: `transformers` has biases always, which are then 0.
    let has_bias = fields.flag("bias")?.unwrap_or(true);
    Ok(ModelConfig {
        family: Family::Gpt2,
        vocab: fields.required("vocab_size")?,
        layers: fields.required_as(["n_layer", "num_hidden_layers"])?,
        hidden_size,
        heads,
        kv_heads: heads,
        head_dim: hidden_size / heads,
        intermediate_size: fields.size("n_inner")?.unwrap_or(hidden_size.saturating_mul(4)),
        max_position_embeddings: fields.required_as(["n_positions", "max_position_embeddings"])?,
        activation: activation(fields, "activation_function", Activation::GeluNew)?,
        biases: Biases::all(Family::Gpt2, has_bias),
        qk_norm: false,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        norm_eps: eps(fields, "layer_norm_epsilon", 1e-5)?,
        rope: Rope::new(1e4),
        window: None,
    })
}

fn llama(fields: &Fields, family: Family) -> Result<ModelConfig, String> {
    fields.must_be("rope_interleaved", false)?;
    let (hidden_size, heads) = (fields.required("hidden_size")?, fields.required("num_attention_heads")?);
    let (layers, positions) =
        (fields.required("num_hidden_layers")?, fields.required("max_position_embeddings")?);
    let attention =
        matches!(family, Family::Llama | Family::Qwen3) && fields.flag("attention_bias")?.unwrap_or(false);
    let feed_forward = family == Family::Llama && fields.flag("mlp_bias")?.unwrap_or(false);
    let qkv = attention || family == Family::Qwen2;
    Ok(ModelConfig {
        family,
        vocab: fields.required("vocab_size")?,
        layers,
        hidden_size,
        heads,
        kv_heads: kv_heads(fields, family, heads)?,
        head_dim: fields.size("head_dim")?.unwrap_or(match family {
            Family::Qwen3 => 128,
            _ => hidden_size / heads.max(1),
        }),
        intermediate_size: fields.required("intermediate_size")?,
        max_position_embeddings: positions,
        activation: activation(fields, "hidden_act", Activation::Silu)?,
        biases: Biases { qkv, out: attention, feed_forward, norms: false },
        qk_norm: family == Family::Qwen3,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        norm_eps: eps(fields, "rms_norm_eps", 1e-6)?,
        rope: rope(fields, positions)?,
        window: window(fields, family, layers)?,
    })
}

/// The heads of keys and values. Where the field is missing, the classes of Mistral and Qwen have a number of their own that
/// fits few models, which is not guessed.
fn kv_heads(fields: &Fields, family: Family, heads: usize) -> Result<usize, String> {
    let name = "num_key_value_heads";
    match fields.size(name)? {
        Some(kv_heads) => Ok(kv_heads),
        None if family == Family::Llama || fields.has(name) => Ok(heads),
        None => Err(format!("`{name}` is missing")),
    }
}

/// The fields of a `config.json` that say what the model computes.
pub fn write(described: &Described) -> Map<String, Value> {
    let (config, (name, class)) = (&described.config, names(described.config.family));
    let mut map = if config.has_rope() { write_llama(config) } else { write_gpt2(config) };
    let architecture = match described.head {
        Head::Vocabulary if config.family == Family::Gpt2 => format!("{class}LMHeadModel"),
        Head::Vocabulary => format!("{class}ForCausalLM"),
        Head::Score { .. } => format!("{class}ForSequenceClassification"),
    };
    map.insert("architectures".to_owned(), json!([architecture]));
    map.insert("model_type".to_owned(), json!(name));
    map.insert("vocab_size".to_owned(), json!(config.vocab));
    map.insert("tie_word_embeddings".to_owned(), json!(config.tied));
    if let Head::Score { offset } = described.head {
        map.insert("id2label".to_owned(), json!({"0": "reward"}));
        map.insert("label2id".to_owned(), json!({"reward": 0}));
        map.insert("reward_offset".to_owned(), json!(f64::from(offset)));
    }
    map
}

/// The object that a value is known to be.
pub(super) fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

fn write_gpt2(config: &ModelConfig) -> Map<String, Value> {
    let mut map = object(json!({
        "n_positions": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.intermediate_size,
        "activation_function": config.activation,
        "layer_norm_epsilon": config.norm_eps,
        // Here nothing is dropped out.
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }));
    if !config.biases.qkv {
        map.insert("bias".to_owned(), json!(false));
    }
    map
}

fn write_llama(config: &ModelConfig) -> Map<String, Value> {
    let mut map = object(json!({
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": config.activation,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_scaling": write_scaling(&config.rope.scaling),
    }));
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    if matches!(config.family, Family::Llama | Family::Qwen3) {
        put("attention_bias", json!(config.biases.qkv));
    }
    if config.family == Family::Llama {
        put("mlp_bias", json!(config.biases.feed_forward));
        return map;
    }
    map.extend(write_window(config));
    map
}
