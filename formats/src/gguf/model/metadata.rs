//! A decoder in the keys of GGUF.
//!
//! Purpose: what llama.cpp's converter writes of a model's shape, in both directions.
//! Invariant: a key of the architecture that is not known here is an error that names it, for it may change what the model
//! computes; no key is passed over in silence.
//! Must not know: JSON, tokenizers.

use std::cell::RefCell;
use std::collections::HashSet;

use super::config::{MOST_LAYERS, has_usual_heads};
use super::rope::from_divisors;
use crate::gguf::error::quoted;
use crate::gguf::{GgufError, GgufFile, MetaValue, Metadata, ReadAt};
use crate::model::{Activation, Biases, Family, ModelConfig, Rope, Scaling, Yarn};

/// The divisors of LLaMA 3's frequencies.
pub(in crate::gguf) const ROPE_FREQS: &str = "rope_freqs.weight";
/// The output head.
pub(in crate::gguf) const HEAD: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";
const ARCHITECTURE: &str = "general.architecture";
/// The architectures that are known. Mistral is written as llama, for llama.cpp has none of its own for it.
const ARCHITECTURES: [(&str, Family); 4] =
    [("llama", Family::Llama), ("qwen2", Family::Qwen2), ("qwen3", Family::Qwen3), ("gpt2", Family::Gpt2)];

/// Keys that change nothing with this value, and that no known architecture supports with another.
const NEUTRAL: [(&str, f64); 14] = [
    ("attention.causal", 1.0),
    ("attention.sliding_window", 0.0),
    ("attention.scale", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("expert_count", 0.0),
    ("expert_used_count", 0.0),
    ("pooling_type", 0.0),
    ("use_parallel_residual", 0.0),
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
    ("rope.scaling.yarn_log_multiplier", 0.0),
];

/// Families of keys of other kinds of files, which would change a model.
const FOREIGN: [&str; 5] = ["adapter.", "clip.", "diffusion.", "imatrix.", "xielu."];

/// The keys of an architecture; remembers which were asked for.
struct Keys<'m> {
    metadata: &'m Metadata,
    prefix: String,
    asked: RefCell<HashSet<String>>,
}

impl<'m> Keys<'m> {
    fn new(metadata: &'m Metadata, family: Family) -> Self {
        Self { metadata, prefix: format!("{}.", architecture(family)), asked: RefCell::default() }
    }

    fn key(&self, name: &str) -> String {
        let key = format!("{}{name}", self.prefix);
        self.asked.borrow_mut().insert(key.clone());
        key
    }

    fn float(&self, name: &str) -> Result<Option<f64>, GgufError> {
        self.metadata.float(&self.key(name))
    }

    /// A size, or a list of the same size for each layer.
    fn size(&self, name: &str) -> Result<Option<usize>, GgufError> {
        let key = self.key(name);
        if !matches!(self.metadata.get(&key), Some(MetaValue::Array(_))) {
            return self.metadata.integer(&key);
        }
        let list = self.metadata.integers::<usize>(&key)?.unwrap_or_default();
        match list.first() {
            Some(first) if list.iter().all(|size| size == first) => Ok(Some(*first)),
            _ => Err(GgufError::key(
                &key,
                "it differs from layer to layer, and all layers of a model are alike here",
            )),
        }
    }

    fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T, GgufError> {
        value.ok_or_else(|| GgufError::key(&self.key(name), "it is missing; convert the model again"))
    }

    fn needed_size(&self, name: &str) -> Result<usize, GgufError> {
        self.size(name).and_then(|size| self.needed(name, size))
    }

    fn refuse(&self, name: &str, what: impl Into<String>) -> GgufError {
        GgufError::key(&self.key(name), what)
    }

    /// Refuses what has a value that changes the model, and every key that was not asked for.
    fn refuse_rest(&self) -> Result<(), GgufError> {
        for (name, neutral) in NEUTRAL {
            let key = self.key(name);
            let found = match self.metadata.get(&key) {
                None => continue,
                Some(MetaValue::Bool(value)) => f64::from(u8::from(*value)),
                Some(MetaValue::F32(_) | MetaValue::F64(_)) => self.metadata.float(&key)?.unwrap_or(neutral),
                Some(_) => self.size(name)?.unwrap_or_default() as f64,
            };
            if found != neutral {
                let what = format!("{found} changes what the model computes, and Kiln has only {neutral}");
                return Err(GgufError::key(&key, what));
            }
        }
        let asked = self.asked.borrow();
        let rest = self.metadata.iter().map(|(key, _)| key);
        match rest.into_iter().find(|key| key.starts_with(&self.prefix) && !asked.contains(*key)) {
            Some(key) => {
                Err(GgufError::key(key, "it may change what the model computes, and Kiln does not know it"))
            }
            None => Ok(()),
        }
    }
}

/// The name of a family's architecture; that of Mistral is LLaMA's.
pub(in crate::gguf) fn architecture(family: Family) -> &'static str {
    let found = ARCHITECTURES.iter().find(|(_, known)| *known == family);
    found.map_or("llama", |(name, _)| name)
}

/// Reads the shape of the model in a file.
pub(in crate::gguf) fn read<S: ReadAt>(file: &GgufFile<S>) -> Result<ModelConfig, GgufError> {
    let metadata = file.metadata();
    let family = family(metadata)?;
    let keys = Keys::new(metadata, family);
    let config = shape(file, &keys, family)?;
    if keys.size("vocab_size")?.is_some_and(|size| size != config.vocab) {
        let what = format!("it is not the number of rows of `{EMBEDDING}`, {}", config.vocab);
        return Err(keys.refuse("vocab_size", what));
    }
    layout_note(&keys)?;
    keys.refuse_rest()?;
    refuse_foreign(metadata)?;
    if config.layers > MOST_LAYERS {
        let what = format!("it is {}, not from 1 to {MOST_LAYERS}", config.layers);
        return Err(keys.refuse("block_count", what));
    }
    let check = |config: &ModelConfig| config.check().map_err(|error| GgufError::whole(error.to_string()));
    check(&config)?;
    if !has_usual_heads(&config) {
        let what = format!("{} heads of it do not make the width {}", config.heads, config.hidden_size);
        return Err(keys.refuse("attention.key_length", what));
    }
    let config = ModelConfig { rope: read_divisors(file, &config)?, ..config };
    check(&config)?;
    Ok(config)
}

fn shape<S: ReadAt>(file: &GgufFile<S>, keys: &Keys<'_>, family: Family) -> Result<ModelConfig, GgufError> {
    let is_gpt2 = family == Family::Gpt2;
    let eps = if is_gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let heads = keys.needed_size("attention.head_count")?;
    let hidden_size = keys.needed_size("embedding_length")?;
    let head_dim = head_dim(keys, heads, hidden_size)?;
    let context = keys.needed_size("context_length")?;
    let out = !is_gpt2 && family != Family::Qwen2 && file.tensor("blk.0.attn_output.bias").is_some();
    let feed_forward = family == Family::Llama && file.tensor("blk.0.ffn_down.bias").is_some();
    Ok(ModelConfig {
        family,
        vocab: rows_of_embedding(file)?,
        layers: keys.needed_size("block_count")?,
        hidden_size,
        heads,
        kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        intermediate_size: keys.needed_size("feed_forward_length")?,
        max_position_embeddings: context,
        activation: if is_gpt2 { Activation::GeluNew } else { Activation::Silu },
        biases: match is_gpt2 {
            true => Biases::all(family, true),
            false => Biases { qkv: out || family == Family::Qwen2, out, feed_forward, norms: false },
        },
        qk_norm: family == Family::Qwen3,
        tied: is_tied(file, family)?,
        norm_eps: keys.float(eps).and_then(|value| keys.needed(eps, value))?,
        rope: if is_gpt2 { Rope::new(1e4) } else { rope(keys, head_dim, context)? },
        window: None,
    })
}

fn head_dim(keys: &Keys<'_>, heads: usize, width: usize) -> Result<usize, GgufError> {
    let head_dim = match (keys.size("attention.key_length")?, heads) {
        (Some(size), _) => size,
        (None, 1..) if width.is_multiple_of(heads) => width / heads,
        _ => {
            let what = format!("{heads} does not divide the width {width}");
            return Err(keys.refuse("attention.head_count", what));
        }
    };
    match keys.size("attention.value_length")?.filter(|&size| size != head_dim) {
        Some(_) => {
            Err(keys.refuse("attention.value_length", format!("it is not the length of keys, {head_dim}")))
        }
        None => Ok(head_dim),
    }
}

fn family(metadata: &Metadata) -> Result<Family, GgufError> {
    let name = metadata.string(ARCHITECTURE)?;
    let name = name.ok_or_else(|| GgufError::key(ARCHITECTURE, "it is missing; the file holds no model"))?;
    if let Some(kind) = metadata.string("general.type")?.filter(|&kind| kind != "model") {
        let what = format!("the file holds no model but one of the kind `{}`", quoted(kind));
        return Err(GgufError::key("general.type", what));
    }
    let found = ARCHITECTURES.iter().find(|(known, _)| *known == name);
    found.map(|(_, family)| *family).ok_or_else(|| {
        let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
        GgufError::key(ARCHITECTURE, format!("`{}` is not known; there are: {names}", quoted(name)))
    })
}

fn rows_of_embedding<S: ReadAt>(file: &GgufFile<S>) -> Result<usize, GgufError> {
    let info = file.tensor(EMBEDDING);
    let info = info.ok_or_else(|| GgufError::tensor(EMBEDDING, "it is missing; the file holds no model"))?;
    Ok(info.shape[0])
}

/// Whether the output head is the embedding. Converters up to March 2025 wrote GPT-2's embedding a second time as its head.
fn is_tied<S: ReadAt>(file: &GgufFile<S>, family: Family) -> Result<bool, GgufError> {
    match (file.tensor(HEAD), file.tensor(EMBEDDING)) {
        (Some(head), Some(embedding)) if family == Family::Gpt2 => file.are_equal(head, embedding),
        (head, _) => Ok(head.is_none()),
    }
}

/// Old converters say in words that queries and keys have the row order of LLaMA's first release, which is the one expected.
fn layout_note(keys: &Keys<'_>) -> Result<(), GgufError> {
    let name = "tensor_data_layout";
    match keys.metadata.string(&keys.key(name))? {
        None | Some("Meta AI original pth") => Ok(()),
        Some(_) => Err(keys.refuse(name, "this order of rows is not known; convert the model again")),
    }
}

fn refuse_foreign(metadata: &Metadata) -> Result<(), GgufError> {
    let is_foreign = |key: &str| FOREIGN.iter().any(|prefix| key.starts_with(prefix));
    if let Some((key, _)) = metadata.iter().find(|(key, _)| is_foreign(key)) {
        return Err(GgufError::key(key, "it belongs to a kind of file that Kiln does not know"));
    }
    // Version 2 is how blocks have been packed since May 2023.
    let key = "general.quantization_version";
    match metadata.integer::<u32>(key)? {
        None | Some(2) => Ok(()),
        Some(version) => {
            Err(GgufError::key(key, format!("version {version} is not read; quantize the model again")))
        }
    }
}

fn rope(keys: &Keys<'_>, head_dim: usize, context: usize) -> Result<Rope, GgufError> {
    let theta = keys.float("rope.freq_base")?.unwrap_or(1e4);
    if keys.size("rope.dimension_count")?.is_some_and(|count| count != head_dim) {
        let what = format!("RoPE turns whole heads of {head_dim} here");
        return Err(keys.refuse("rope.dimension_count", what));
    }
    let factor = keys
        .float("rope.scaling.factor")?
        .or(keys.float("rope.scale_linear")?)
        .filter(|&factor| factor != 0.0);
    if factor.is_some_and(|factor| factor < 0.0) {
        return Err(keys.refuse("rope.scaling.factor", "it is negative"));
    }
    // Only a remark of llama.cpp's log.
    keys.key("rope.scaling.finetuned");
    let original = keys.size("rope.scaling.original_context_length")?;
    let yarn = Yarn {
        factor: factor.unwrap_or(1.0),
        original: original.unwrap_or(context) as f64,
        attention_factor: keys.float("rope.scaling.yarn_attn_factor")?,
        beta_fast: keys.float("rope.scaling.yarn_beta_fast")?.unwrap_or(Yarn::BETA_FAST),
        beta_slow: keys.float("rope.scaling.yarn_beta_slow")?.unwrap_or(Yarn::BETA_SLOW),
        truncate: true,
        mscale: None,
    };
    let kind = keys.metadata.string(&keys.key("rope.scaling.type"))?;
    let scaling = match (kind.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None | Some(1.0)) => Scaling::Default,
        ("linear", Some(factor)) => Scaling::Linear { factor },
        ("yarn", Some(_)) => Scaling::Yarn(yarn),
        ("yarn", None) => return Err(keys.refuse("rope.scaling.factor", "it is missing, and YaRN needs it")),
        (kind, _) => {
            let what = format!("`{}` is not known; there are: none, linear, yarn", quoted(kind));
            return Err(keys.refuse("rope.scaling.type", what));
        }
    };
    Ok(Rope { theta, scaling })
}

/// Turns the divisors of LLaMA 3's frequencies, where a file has them, into the scaling that made them.
fn read_divisors<S: ReadAt>(file: &GgufFile<S>, config: &ModelConfig) -> Result<Rope, GgufError> {
    let Some(info) = file.tensor(ROPE_FREQS) else { return Ok(config.rope) };
    let refuse = |what: &str| GgufError::tensor(ROPE_FREQS, what);
    if config.family != Family::Llama || config.rope.scaling != Scaling::Default {
        return Err(refuse("only a LLaMA without any other scaling of RoPE has it"));
    }
    if info.shape != [config.head_dim / 2] {
        return Err(refuse("it does not have half a head of values"));
    }
    let mut divisors = Vec::new();
    file.read_tensor(ROPE_FREQS, &mut divisors)?;
    from_divisors(&divisors, config.rope.theta, config.head_dim)
        .ok_or_else(|| refuse("these divisors are not those of LLaMA 3's scaling"))
}

/// Writes the shape as llama.cpp's converter does.
pub(in crate::gguf) fn write(config: &ModelConfig, metadata: &mut Metadata) -> Result<(), GgufError> {
    let architecture = architecture(config.family);
    let mut put = |name: &str, value: MetaValue| metadata.insert(format!("{architecture}.{name}"), value);
    // The checked shape bounds the sizes.
    let size = |size: usize| MetaValue::U32(size as u32);
    let float = |value: f64| MetaValue::F32(value as f32);
    put("block_count", size(config.layers))?;
    put("context_length", size(config.max_position_embeddings))?;
    put("embedding_length", size(config.hidden_size))?;
    put("feed_forward_length", size(config.intermediate_size))?;
    put("attention.head_count", size(config.heads))?;
    if config.family == Family::Gpt2 {
        return put("attention.layer_norm_epsilon", float(config.norm_eps));
    }
    put("attention.head_count_kv", size(config.kv_heads))?;
    match config.rope.scaling {
        // The divisors of LLaMA 3's are a tensor; nothing else comes here.
        Scaling::Default | Scaling::Dynamic { .. } | Scaling::Llama3 { .. } => {}
        Scaling::Linear { factor } => {
            put("rope.scaling.type", MetaValue::String("linear".into()))?;
            put("rope.scaling.factor", float(factor))?;
        }
        Scaling::Yarn(yarn) => {
            put("rope.scaling.type", MetaValue::String("yarn".into()))?;
            put("rope.scaling.factor", float(yarn.factor))?;
            put("rope.scaling.original_context_length", size(yarn.original as usize))?;
            for (name, value, default) in [
                ("rope.scaling.yarn_attn_factor", yarn.attention_factor, None),
                ("rope.scaling.yarn_beta_fast", Some(yarn.beta_fast), Some(Yarn::BETA_FAST)),
                ("rope.scaling.yarn_beta_slow", Some(yarn.beta_slow), Some(Yarn::BETA_SLOW)),
            ] {
                value.filter(|_| value != default).map_or(Ok(()), |value| put(name, float(value)))?;
            }
        }
    }
    put("rope.freq_base", float(config.rope.theta))?;
    put("attention.layer_norm_rms_epsilon", float(config.norm_eps))?;
    // Qwen2's is always the width by the heads.
    if config.family != Family::Qwen2 {
        put("attention.key_length", size(config.head_dim))?;
        put("attention.value_length", size(config.head_dim))?;
    }
    if architecture == "llama" {
        put("vocab_size", size(config.vocab))?;
        put("rope.dimension_count", size(config.head_dim))?;
    }
    Ok(())
}
