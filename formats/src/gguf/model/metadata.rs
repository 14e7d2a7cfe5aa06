//! A decoder in the keys of GGUF.
//!
//! Purpose: what llama.cpp's converter writes of a model's shape, in both directions.
//! Invariant: a key of the architecture that is not known here is an error that names it, for it may change what the model
//! computes; no key is passed over in silence.
//! Must not know: JSON, tokenizers.

use std::cell::RefCell;
use std::collections::HashSet;

use super::decoder::{Architecture, Decoder};
use super::rope::{Llama3, Scaling, Yarn};
use crate::gguf::{GgufError, GgufFile, MetaValue, Metadata, ReadAt};

/// The divisors of LLaMA 3's frequencies.
pub(in crate::gguf) const ROPE_FREQS: &str = "rope_freqs.weight";
/// The output head.
pub(in crate::gguf) const HEAD: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";
const ARCHITECTURE: &str = "general.architecture";

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
    fn new(metadata: &'m Metadata, architecture: Architecture) -> Self {
        Self { metadata, prefix: format!("{}.", architecture.name()), asked: RefCell::default() }
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

/// Reads the shape of the model in a file.
pub(in crate::gguf) fn read<S: ReadAt>(file: &GgufFile<S>) -> Result<Decoder, GgufError> {
    let metadata = file.metadata();
    let architecture = architecture(metadata)?;
    let keys = Keys::new(metadata, architecture);
    let heads = keys.needed_size("attention.head_count")?;
    let width = keys.needed_size("embedding_length")?;
    let head_size = match (keys.size("attention.key_length")?, heads) {
        (Some(size), _) => size,
        (None, 1..) if width % heads == 0 => width / heads,
        _ => {
            return Err(
                keys.refuse("attention.head_count", format!("{heads} does not divide the width {width}"))
            );
        }
    };
    if keys.size("attention.value_length")?.is_some_and(|size| size != head_size) {
        return Err(
            keys.refuse("attention.value_length", format!("it is not the length of keys, {head_size}"))
        );
    }
    let is_gpt2 = architecture == Architecture::Gpt2;
    let eps = if is_gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let theta = if is_gpt2 { None } else { keys.float("rope.freq_base")? };
    let context = keys.needed_size("context_length")?;
    let mut decoder = Decoder {
        architecture,
        layers: keys.needed_size("block_count")?,
        width,
        inner: keys.needed_size("feed_forward_length")?,
        heads,
        kv_heads: keys.size("attention.head_count_kv")?.unwrap_or(heads),
        head_size,
        context,
        vocab: rows_of_embedding(file)?,
        eps: keys.float(eps).and_then(|value| keys.needed(eps, value))?,
        theta: theta.unwrap_or(10_000.0),
        scaling: if is_gpt2 { Scaling::None } else { scaling(&keys, head_size, context)? },
        tied: is_tied(file, architecture)?,
        attention_bias: !is_gpt2 && file.tensor("blk.0.attn_output.bias").is_some(),
        mlp_bias: architecture == Architecture::Llama && file.tensor("blk.0.ffn_down.bias").is_some(),
    };
    if keys.size("vocab_size")?.is_some_and(|size| size != decoder.vocab) {
        let what = format!("it is not the number of rows of `token_embd.weight`, {}", decoder.vocab);
        return Err(keys.refuse("vocab_size", what));
    }
    layout_note(&keys)?;
    keys.refuse_rest()?;
    refuse_foreign(metadata)?;
    decoder.check().map_err(GgufError::whole)?;
    if is_gpt2 && decoder.kv_heads != decoder.heads {
        return Err(keys.refuse("attention.head_count_kv", "GPT-2 has as many heads of keys as of queries"));
    }
    read_divisors(file, &mut decoder)?;
    Ok(decoder)
}

fn architecture(metadata: &Metadata) -> Result<Architecture, GgufError> {
    let name = metadata.string(ARCHITECTURE)?;
    let name = name.ok_or_else(|| GgufError::key(ARCHITECTURE, "it is missing; the file holds no model"))?;
    if let Some(kind) = metadata.string("general.type")?.filter(|&kind| kind != "model") {
        let what =
            format!("the file holds no model but one of the kind `{}`", crate::gguf::error::quoted(kind));
        return Err(GgufError::key("general.type", what));
    }
    Architecture::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
        let shown = crate::gguf::error::quoted(name);
        GgufError::key(ARCHITECTURE, format!("`{shown}` is not known; there are: {}", Architecture::names()))
    })
}

fn rows_of_embedding<S: ReadAt>(file: &GgufFile<S>) -> Result<usize, GgufError> {
    let info = file.tensor(EMBEDDING);
    let info = info.ok_or_else(|| GgufError::tensor(EMBEDDING, "it is missing; the file holds no model"))?;
    Ok(info.shape[0])
}

/// Whether the output head is the embedding. Converters up to March 2025 wrote GPT-2's embedding a second time as its head.
fn is_tied<S: ReadAt>(file: &GgufFile<S>, architecture: Architecture) -> Result<bool, GgufError> {
    match (file.tensor(HEAD), file.tensor(EMBEDDING)) {
        (Some(head), Some(embedding)) if architecture == Architecture::Gpt2 => {
            file.are_equal(head, embedding)
        }
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

fn scaling(keys: &Keys<'_>, head_size: usize, context: usize) -> Result<Scaling, GgufError> {
    if keys.size("rope.dimension_count")?.is_some_and(|count| count != head_size) {
        let what = format!("RoPE turns whole heads of {head_size} here");
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
        original_context: original.unwrap_or(context),
        attention_factor: keys.float("rope.scaling.yarn_attn_factor")?,
        beta_fast: keys.float("rope.scaling.yarn_beta_fast")?,
        beta_slow: keys.float("rope.scaling.yarn_beta_slow")?,
    };
    let kind = keys.metadata.string(&keys.key("rope.scaling.type"))?;
    match kind.unwrap_or("linear") {
        "none" => Ok(Scaling::None),
        "linear" => Ok(factor.filter(|&factor| factor != 1.0).map_or(Scaling::None, Scaling::Linear)),
        "yarn" if factor.is_some() => Ok(Scaling::Yarn(yarn)),
        "yarn" => Err(keys.refuse("rope.scaling.factor", "it is missing, and YaRN needs it")),
        kind => {
            let shown = crate::gguf::error::quoted(kind);
            Err(keys.refuse(
                "rope.scaling.type",
                format!("`{shown}` is not known; there are: none, linear, yarn"),
            ))
        }
    }
}

/// Turns the divisors of LLaMA 3's frequencies, where a file has them, into the scaling that made them.
fn read_divisors<S: ReadAt>(file: &GgufFile<S>, decoder: &mut Decoder) -> Result<(), GgufError> {
    let Some(info) = file.tensor(ROPE_FREQS) else { return Ok(()) };
    let refuse = |what: &str| GgufError::tensor(ROPE_FREQS, what);
    if decoder.architecture != Architecture::Llama || decoder.scaling != Scaling::None {
        return Err(refuse("only a LLaMA without any other scaling of RoPE has it"));
    }
    if info.shape != [decoder.head_size / 2] {
        return Err(refuse("it does not have half a head of values"));
    }
    let mut divisors = Vec::new();
    file.read_tensor(ROPE_FREQS, &mut divisors)?;
    if divisors.iter().all(|&divisor| divisor == 1.0) {
        return Ok(());
    }
    let found = Llama3::from_divisors(&divisors, decoder.theta, decoder.head_size);
    decoder.scaling =
        Scaling::Llama3(found.ok_or_else(|| refuse("these divisors are not those of LLaMA 3's scaling"))?);
    Ok(())
}

/// Writes the shape as llama.cpp's converter does.
pub(in crate::gguf) fn write(decoder: &Decoder, metadata: &mut Metadata) -> Result<(), GgufError> {
    let architecture = decoder.architecture;
    let mut put =
        |name: &str, value: MetaValue| metadata.insert(format!("{}.{name}", architecture.name()), value);
    // `check` bounds the sizes.
    let size = |size: usize| MetaValue::U32(size as u32);
    let float = |value: f64| MetaValue::F32(value as f32);
    put("block_count", size(decoder.layers))?;
    put("context_length", size(decoder.context))?;
    put("embedding_length", size(decoder.width))?;
    put("feed_forward_length", size(decoder.inner))?;
    put("attention.head_count", size(decoder.heads))?;
    if architecture == Architecture::Gpt2 {
        return put("attention.layer_norm_epsilon", float(decoder.eps));
    }
    put("attention.head_count_kv", size(decoder.kv_heads))?;
    match &decoder.scaling {
        Scaling::None | Scaling::Llama3(_) => {}
        Scaling::Linear(factor) => {
            put("rope.scaling.type", MetaValue::String("linear".into()))?;
            put("rope.scaling.factor", float(*factor))?;
        }
        Scaling::Yarn(yarn) => {
            put("rope.scaling.type", MetaValue::String("yarn".into()))?;
            put("rope.scaling.factor", float(yarn.factor))?;
            put("rope.scaling.original_context_length", size(yarn.original_context))?;
            for (name, value) in [
                ("rope.scaling.yarn_attn_factor", yarn.attention_factor),
                ("rope.scaling.yarn_beta_fast", yarn.beta_fast),
                ("rope.scaling.yarn_beta_slow", yarn.beta_slow),
            ] {
                value.map_or(Ok(()), |value| put(name, float(value)))?;
            }
        }
    }
    put("rope.freq_base", float(decoder.theta))?;
    put("attention.layer_norm_rms_epsilon", float(decoder.eps))?;
    // Qwen2's is always the width by the heads.
    if architecture != Architecture::Qwen2 {
        put("attention.key_length", size(decoder.head_size))?;
        put("attention.value_length", size(decoder.head_size))?;
    }
    if architecture == Architecture::Llama {
        put("vocab_size", size(decoder.vocab))?;
        put("rope.dimension_count", size(decoder.head_size))?;
    }
    Ok(())
}
