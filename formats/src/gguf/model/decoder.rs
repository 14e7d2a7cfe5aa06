//! The shape of a decoder, between GGUF's keys and Hugging Face's fields.
//!
//! Purpose: one structure that both sides are read into and written from.
//! Invariant: after [`Decoder::check`] the sizes fit each other, and no product of two of them overflows.
//! Must not know: how either side spells it.

use super::rope::Scaling;

/// The architectures that are known on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gguf) enum Architecture {
    /// LLaMA and Mistral; llama.cpp keeps the rows of queries and keys in another order.
    Llama,
    /// Qwen2: LLaMA with biases of queries, keys and values.
    Qwen2,
    /// Qwen3: LLaMA with norms of queries and keys.
    Qwen3,
    /// GPT-2.
    Gpt2,
}

impl Architecture {
    pub(in crate::gguf) const ALL: [Architecture; 4] =
        [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3, Architecture::Gpt2];

    /// The name, which is the same in `general.architecture` and as `model_type`.
    pub(in crate::gguf) fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gpt2 => "gpt2",
        }
    }

    /// The class of transformers.
    pub(in crate::gguf) fn class(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            Architecture::Gpt2 => "GPT2LMHeadModel",
        }
    }

    /// The names, for messages.
    pub(in crate::gguf) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

/// A decoder.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gguf) struct Decoder {
    pub(in crate::gguf) architecture: Architecture,
    pub(in crate::gguf) layers: usize,
    /// The width of the residual stream.
    pub(in crate::gguf) width: usize,
    /// The hidden width of the feed-forward part.
    pub(in crate::gguf) inner: usize,
    pub(in crate::gguf) heads: usize,
    pub(in crate::gguf) kv_heads: usize,
    pub(in crate::gguf) head_size: usize,
    /// The longest context in tokens.
    pub(in crate::gguf) context: usize,
    /// Rows of the embedding.
    pub(in crate::gguf) vocab: usize,
    /// Added to the variance by the norms.
    pub(in crate::gguf) eps: f64,
    /// The base of RoPE; unused by GPT-2.
    pub(in crate::gguf) theta: f64,
    pub(in crate::gguf) scaling: Scaling,
    /// Whether the output head is the embedding.
    pub(in crate::gguf) tied: bool,
    /// Whether the four maps of the attention have biases (LLaMA and Qwen3; Qwen2 has those of the first three).
    pub(in crate::gguf) attention_bias: bool,
    /// Whether the maps of the feed-forward part have biases (LLaMA).
    pub(in crate::gguf) mlp_bias: bool,
}

/// The most that any size may be: so that a product of two fits 64 bits.
const MOST: usize = 1 << 28;
/// As many layers as llama.cpp takes.
const MOST_LAYERS: usize = 512;

impl Decoder {
    /// Whether the sizes fit each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = [
            ("layers", self.layers, MOST_LAYERS),
            ("embedding width", self.width, MOST),
            ("feed-forward width", self.inner, MOST),
            ("attention heads", self.heads, MOST),
            ("heads of keys and values", self.kv_heads, MOST),
            ("head size", self.head_size, MOST),
            ("context length", self.context, MOST),
            ("vocabulary", self.vocab, MOST),
        ];
        if let Some((name, size, most)) = sizes.iter().find(|(_, size, most)| !(1..=*most).contains(size)) {
            return Err(format!("the {name} {size} is not from 1 to {most}"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let (heads, kv_heads) = (self.heads, self.kv_heads);
            return Err(format!("{kv_heads} heads of keys and values do not divide {heads} heads"));
        }
        if self.architecture != Architecture::Gpt2 && !self.head_size.is_multiple_of(2) {
            return Err(format!("the head size {} is odd, and RoPE turns pairs", self.head_size));
        }
        if !self.has_own_head_size() && self.heads * self.head_size != self.width {
            let (heads, size, width) = (self.heads, self.head_size, self.width);
            return Err(format!("{heads} heads of {size} do not make the width {width}"));
        }
        match self.eps > 0.0 && self.theta > 0.0 {
            true => Ok(()),
            false => Err("the epsilon of the norms and the base of RoPE are above 0".into()),
        }
    }

    /// Whether the heads together may have another width than the residual stream.
    fn has_own_head_size(&self) -> bool {
        matches!(self.architecture, Architecture::Llama | Architecture::Qwen3)
    }

    /// The width of all queries.
    pub(super) fn query_width(&self) -> usize {
        self.heads * self.head_size
    }

    /// The width of all keys.
    pub(super) fn key_width(&self) -> usize {
        self.kv_heads * self.head_size
    }
}
