//! The tensors of a model's files, and where their numbers stand in memory.
//!
//! Purpose: the names, shapes and orientation that `transformers` gives the parameters of each family. In memory queries,
//! keys and values are one map, gate and up another, and every map is `[in, out]`; this is the one place that takes them
//! apart and puts them together.
//! Invariant: every parameter is in exactly one tensor, but for the bias of a scalar head, which is a field of the shape's
//! file.
//! Must not know: files, tensors of any library.

use std::borrow::Cow;
use std::ops::Range;

use super::config::ModelConfig;
use super::layout::{HalfAt, Layout, LinearAt, NormAt};

/// A tensor as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name, as in a whole model.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    place: Place,
}

/// Where the numbers of a tensor stand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// One after the other.
    Run(Range<usize>),
    /// The transpose of some columns of a row-major matrix.
    Columns {
        /// The matrix.
        matrix: Range<usize>,
        /// All its columns.
        stride: usize,
        /// Those that are meant.
        columns: Range<usize>,
    },
    /// Nowhere: they are 0, for the format has them and the model does not.
    Zeros,
}

impl StoredTensor {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its numbers, row by row, from all parameters.
    pub fn gather<'a>(&self, weights: &'a [f32]) -> Cow<'a, [f32]> {
        match &self.place {
            Place::Run(range) => Cow::Borrowed(&weights[range.clone()]),
            Place::Zeros => Cow::Owned(vec![0.0; self.len()]),
            Place::Columns { matrix, stride, columns } => {
                let (matrix, rows) = (&weights[matrix.clone()], matrix.len() / stride);
                let mut out = Vec::with_capacity(self.len());
                for column in columns.clone() {
                    out.extend((0..rows).map(|row| matrix[row * stride + column]));
                }
                Cow::Owned(out)
            }
        }
    }

    /// Puts its numbers where they stand among all parameters.
    ///
    /// # Errors
    /// When numbers that must be 0 are not.
    pub fn scatter(&self, values: &[f32], weights: &mut [f32]) -> Result<(), String> {
        match &self.place {
            Place::Run(range) => weights[range.clone()].copy_from_slice(values),
            Place::Zeros => {
                if values.iter().any(|value| *value != 0.0) {
                    return Err(format!("tensor `{}` is not 0, and the model has no biases", self.name));
                }
            }
            Place::Columns { matrix, stride, columns } => {
                let (matrix, rows) = (&mut weights[matrix.clone()], matrix.len() / stride);
                for (column, values) in columns.clone().zip(values.chunks_exact(rows)) {
                    for (row, value) in values.iter().enumerate() {
                        matrix[row * stride + column] = *value;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The names that `transformers` gives the parts of a model, without `.weight` and `.bias`.
struct Names {
    /// Before everything but the heads.
    prefix: &'static str,
    token_embedding: &'static str,
    layers: &'static str,
    norms: [&'static str; 2],
    last_norm: &'static str,
}

const GPT2: Names = Names {
    prefix: "transformer.",
    token_embedding: "wte",
    layers: "h",
    norms: ["ln_1", "ln_2"],
    last_norm: "ln_f",
};
const LLAMA: Names = Names {
    prefix: "model.",
    token_embedding: "embed_tokens",
    layers: "layers",
    norms: ["input_layernorm", "post_attention_layernorm"],
    last_norm: "norm",
};

/// What may stand before the names of a whole model, and be left out where a decoder was stored without a head.
pub const PREFIXES: [&str; 2] = [GPT2.prefix, LLAMA.prefix];

/// All tensors of a model.
pub fn tensors(config: &ModelConfig, layout: &Layout) -> Vec<StoredTensor> {
    let names = if config.has_rope() { &LLAMA } else { &GPT2 };
    let mut list = List { config, tensors: Vec::new() };
    let (d, vocab) = (config.hidden_size, config.vocab);
    let tokens = format!("{}{}.weight", names.prefix, names.token_embedding);
    list.run(tokens, &[vocab, d], layout.token_embedding.clone());
    if let Some(positions) = &layout.position_embedding {
        let shape = [config.max_position_embeddings, d];
        list.run(format!("{}wpe.weight", names.prefix), &shape, positions.clone());
    }
    for (layer, halves) in layout.layers.iter().enumerate() {
        let before = format!("{}{}.{layer}.", names.prefix, names.layers);
        for (norm, half) in names.norms.iter().zip(halves) {
            list.norm(&format!("{before}{norm}"), &half.norm);
        }
        match config.has_rope() {
            true => list.llama_layer(&before, halves),
            false => list.gpt2_layer(&before, halves),
        }
    }
    list.norm(&format!("{}{}", names.prefix, names.last_norm), &layout.norm);
    match &layout.value_head {
        Some(head) => list.run("score.weight".to_owned(), &[1, d], head.weight.clone()),
        None if config.tied => {}
        None => list.run("lm_head.weight".to_owned(), &[vocab, d], layout.head.clone()),
    }
    list.tensors
}

struct List<'a> {
    config: &'a ModelConfig,
    tensors: Vec<StoredTensor>,
}

impl List<'_> {
    fn add(&mut self, name: String, shape: &[usize], place: Place) {
        self.tensors.push(StoredTensor { name, shape: shape.to_vec(), place });
    }

    fn run(&mut self, name: String, shape: &[usize], range: Range<usize>) {
        self.add(name, shape, Place::Run(range));
    }

    fn vector(&mut self, name: String, length: usize, range: Option<Range<usize>>) {
        self.add(name, &[length], range.map_or(Place::Zeros, Place::Run));
    }

    fn norm(&mut self, name: &str, at: &NormAt) {
        self.run(format!("{name}.weight"), &[self.config.hidden_size], at.weight.clone());
        // LayerNorms of the GPT-2 family have biases always.
        if !self.config.has_rope() {
            self.vector(format!("{name}.bias"), self.config.hidden_size, at.bias.clone());
        }
    }

    /// Parts of a map side by side, each `[out, in]` as `nn.Linear` has it, with its bias where the map has one.
    fn split(&mut self, map: &LinearAt, parts: &[(String, usize)]) {
        let (stride, mut start) = (map.columns, 0);
        let inner = map.weight.len() / stride;
        for (name, width) in parts {
            let columns = start..start + width;
            let matrix = map.weight.clone();
            let place = Place::Columns { matrix, stride, columns: columns.clone() };
            self.add(format!("{name}.weight"), &[*width, inner], place);
            if let Some(bias) = &map.bias {
                let bias = bias.start + columns.start..bias.start + columns.end;
                self.run(format!("{name}.bias"), &[*width], bias);
            }
            start += width;
        }
    }

    fn llama_layer(&mut self, before: &str, [attention, feed_forward]: &[HalfAt; 2]) {
        let c = self.config;
        let projection = |part: &str, width: usize| (format!("{before}{part}_proj"), width);
        let (kv, inner) = (c.kv_width(), c.intermediate_size);
        let qkv = [("q", c.attention_width()), ("k", kv), ("v", kv)];
        self.split(&attention.first, &qkv.map(|(part, n)| projection(&format!("self_attn.{part}"), n)));
        for (part, place) in ["q", "k"].iter().zip(attention.qk_norm.iter().flatten()) {
            self.run(format!("{before}self_attn.{part}_norm.weight"), &[c.head_dim], place.clone());
        }
        self.split(&attention.last, &[projection("self_attn.o", c.hidden_size)]);
        self.split(&feed_forward.first, &[projection("mlp.gate", inner), projection("mlp.up", inner)]);
        self.split(&feed_forward.last, &[projection("mlp.down", c.hidden_size)]);
    }

    /// GPT-2's maps are `[in, out]`, and queries, keys and values one map.
    fn gpt2_layer(&mut self, before: &str, [attention, feed_forward]: &[HalfAt; 2]) {
        let maps = [
            ("attn.c_attn", &attention.first),
            ("attn.c_proj", &attention.last),
            ("mlp.c_fc", &feed_forward.first),
            ("mlp.c_proj", &feed_forward.last),
        ];
        for (name, map) in maps {
            let shape = [map.weight.len() / map.columns, map.columns];
            self.run(format!("{before}{name}.weight"), &shape, map.weight.clone());
            self.vector(format!("{before}{name}.bias"), map.columns, map.bias.clone());
        }
    }
}
