//! The tensors of a decoder, under both names.
//!
//! Purpose: for each tensor of a Hugging Face folder its shape, its name in GGUF, and how its values lie there.
//! Invariant: the list is complete: no tensor beside it belongs to the model.
//! Must not know: values.

use crate::model::{Family, ModelConfig};

/// How the values of a tensor lie in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gguf) enum Form {
    /// As in Hugging Face.
    Same,
    /// The rows of each of so many heads in pairs: row `i` of the first half, then row `i` of the second half.
    Paired(usize),
    /// The transposed matrix: GPT-2's maps are `[in, out]` in Hugging Face.
    Transposed,
}

/// A tensor under both names.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gguf) struct Slot {
    /// Its name in Hugging Face.
    pub(in crate::gguf) name: String,
    /// Its shape in Hugging Face.
    pub(in crate::gguf) shape: Vec<usize>,
    /// Its name in GGUF.
    pub(in crate::gguf) gguf: String,
    pub(in crate::gguf) form: Form,
}

impl Slot {
    /// Its shape in GGUF, the slowest dimension first.
    pub(in crate::gguf) fn gguf_shape(&self) -> Vec<usize> {
        match self.form {
            Form::Transposed => self.shape.iter().rev().copied().collect(),
            _ => self.shape.clone(),
        }
    }
}

struct Slots(Vec<Slot>);

impl Slots {
    fn add(&mut self, name: impl Into<String>, gguf: impl Into<String>, shape: &[usize], form: Form) {
        self.0.push(Slot { name: name.into(), gguf: gguf.into(), shape: shape.to_vec(), form });
    }
}

/// All tensors, in the order in which they are written. Those of a GPT-2 have biases always, be they 0.
pub(in crate::gguf) fn slots(config: &ModelConfig) -> Vec<Slot> {
    let mut slots = Slots(Vec::new());
    match config.family {
        Family::Gpt2 => gpt2(config, &mut slots),
        _ => llama(config, &mut slots),
    }
    slots.0
}

fn llama(config: &ModelConfig, slots: &mut Slots) {
    let (width, vocab) = (config.hidden_size, config.vocab);
    slots.add("model.embed_tokens.weight", "token_embd.weight", &[vocab, width], Form::Same);
    for layer in 0..config.layers {
        let (ours, theirs) = (format!("model.layers.{layer}"), format!("blk.{layer}"));
        attention(config, slots, &ours, &theirs);
        let norm = format!("{ours}.post_attention_layernorm.weight");
        slots.add(norm, format!("{theirs}.ffn_norm.weight"), &[width], Form::Same);
        let inner = config.intermediate_size;
        for (map, gguf, rows, columns) in
            [("gate", "gate", inner, width), ("up", "up", inner, width), ("down", "down", width, inner)]
        {
            let (ours, theirs) = (format!("{ours}.mlp.{map}_proj"), format!("{theirs}.ffn_{gguf}"));
            slots.add(format!("{ours}.weight"), format!("{theirs}.weight"), &[rows, columns], Form::Same);
            if config.biases.feed_forward {
                slots.add(format!("{ours}.bias"), format!("{theirs}.bias"), &[rows], Form::Same);
            }
        }
    }
    slots.add("model.norm.weight", "output_norm.weight", &[width], Form::Same);
    if !config.tied {
        slots.add("lm_head.weight", "output.weight", &[vocab, width], Form::Same);
    }
}

fn attention(config: &ModelConfig, slots: &mut Slots, ours: &str, theirs: &str) {
    let (width, queries, keys) = (config.hidden_size, config.attention_width(), config.kv_width());
    let paired = |heads| match config.family {
        Family::Llama | Family::Mistral => Form::Paired(heads),
        _ => Form::Same,
    };
    let norm = format!("{ours}.input_layernorm.weight");
    slots.add(norm, format!("{theirs}.attn_norm.weight"), &[width], Form::Same);
    let maps = [
        ("q_proj", "attn_q", queries, width, paired(config.heads)),
        ("k_proj", "attn_k", keys, width, paired(config.kv_heads)),
        ("v_proj", "attn_v", keys, width, Form::Same),
        ("o_proj", "attn_output", width, queries, Form::Same),
    ];
    for (map, gguf, rows, columns, form) in maps {
        let (ours, theirs) = (format!("{ours}.self_attn.{map}"), format!("{theirs}.{gguf}"));
        slots.add(format!("{ours}.weight"), format!("{theirs}.weight"), &[rows, columns], form);
        let is_biased = if map == "o_proj" { config.biases.out } else { config.biases.qkv };
        if is_biased {
            slots.add(format!("{ours}.bias"), format!("{theirs}.bias"), &[rows], form);
        }
    }
    if config.qk_norm {
        for map in ["q", "k"] {
            let (ours, theirs) =
                (format!("{ours}.self_attn.{map}_norm.weight"), format!("{theirs}.attn_{map}_norm.weight"));
            slots.add(ours, theirs, &[config.head_dim], Form::Same);
        }
    }
}

fn gpt2(config: &ModelConfig, slots: &mut Slots) {
    let (width, inner, vocab) = (config.hidden_size, config.intermediate_size, config.vocab);
    slots.add("transformer.wte.weight", "token_embd.weight", &[vocab, width], Form::Same);
    slots.add(
        "transformer.wpe.weight",
        "position_embd.weight",
        &[config.max_position_embeddings, width],
        Form::Same,
    );
    for layer in 0..config.layers {
        let (ours, theirs) = (format!("transformer.h.{layer}"), format!("blk.{layer}"));
        let parts = [
            ("ln_1", "attn_norm", None, width),
            ("attn.c_attn", "attn_qkv", Some(width), 3 * width),
            ("attn.c_proj", "attn_output", Some(width), width),
            ("ln_2", "ffn_norm", None, width),
            ("mlp.c_fc", "ffn_up", Some(width), inner),
            ("mlp.c_proj", "ffn_down", Some(inner), width),
        ];
        for (part, gguf, rows, columns) in parts {
            let (ours, theirs) = (format!("{ours}.{part}"), format!("{theirs}.{gguf}"));
            let (shape, form) = match rows {
                Some(rows) => (vec![rows, columns], Form::Transposed),
                None => (vec![columns], Form::Same),
            };
            slots.add(format!("{ours}.weight"), format!("{theirs}.weight"), &shape, form);
            slots.add(format!("{ours}.bias"), format!("{theirs}.bias"), &[columns], Form::Same);
        }
    }
    slots.add("transformer.ln_f.weight", "output_norm.weight", &[width], Form::Same);
    slots.add("transformer.ln_f.bias", "output_norm.bias", &[width], Form::Same);
    if !config.tied {
        slots.add("lm_head.weight", "output.weight", &[vocab, width], Form::Same);
    }
}
