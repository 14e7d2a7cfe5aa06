//! Where each parameter of a decoder stands in the one run of numbers that holds them all.
//!
//! Purpose: names, shapes and places of the parameters; their first draws.
//! Invariant: the parameters of one half of a layer lie together, so that workers can add their gradients half by half;
//! places follow from the configuration alone.
//! Must not know: tensors, files.
//! Source: Radford 2019 (deviations of the first draws); Ziegler 2019 (those of a scalar head).

use std::ops::Range;

use super::config::ModelConfig;
use crate::kernels::MatrixAt;
use crate::kernels::cpu::linear::Linear;
use crate::kernels::cpu::memory;
use crate::rng::{keyed, normal};

/// The deviation of most weights at the start.
const INIT_STD: f64 = 0.02;

/// A parameter: its name, its shape (one or two dimensions) and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in the weights' file.
    pub name: String,
    /// `[n]` or `[rows, columns]`.
    pub shape: Vec<usize>,
    /// Where it stands.
    pub range: Range<usize>,
}

/// The places of a norm's parameters.
#[derive(Debug, Clone)]
pub struct NormAt {
    /// `[hidden_size]`.
    pub weight: Range<usize>,
    /// `[hidden_size]`.
    pub bias: Option<Range<usize>>,
}

/// The places of one half of a layer: its norm, its first and its last linear map.
#[derive(Debug, Clone)]
pub struct HalfAt {
    /// The whole half.
    pub region: Range<usize>,
    /// Before everything else.
    pub norm: NormAt,
    /// Attention: queries, keys and values in one map. Feed-forward part: up, or gate and up in one map.
    pub first: LinearAt,
    /// Attention: the norms of each head's queries and keys, `[head_dim]` each.
    pub qk_norm: Option<[Range<usize>; 2]>,
    /// What is added to the residual stream.
    pub last: LinearAt,
}

/// The places of a linear map.
pub type LinearAt = Linear<Range<usize>>;

impl Clone for LinearAt {
    fn clone(&self) -> Self {
        Self { weight: self.weight.clone(), bias: self.bias.clone(), columns: self.columns }
    }
}

impl std::fmt::Debug for LinearAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.weight, self.bias)
    }
}

/// The places of all parameters.
#[derive(Debug)]
pub struct Layout {
    entries: Vec<Entry>,
    /// `[vocab, hidden_size]`.
    pub token_embedding: Range<usize>,
    /// `[max_position_embeddings, hidden_size]`, in the GPT-2 family.
    pub position_embedding: Option<Range<usize>>,
    /// `[vocab, hidden_size]`: the token embedding where the head is tied, or where a scalar head stands in its place.
    pub head: Range<usize>,
    /// The last norm.
    pub norm: NormAt,
    /// `[hidden_size, 1]` and `[1]`, of a scalar head.
    pub value_head: Option<LinearAt>,
    /// The last norm and the scalar head together.
    pub last: Range<usize>,
    /// Each layer's attention and feed-forward part.
    pub layers: Vec<[HalfAt; 2]>,
}

/// Parameters one after the other, as they are named.
#[derive(Default)]
pub(super) struct Writer {
    /// Those so far.
    pub(super) entries: Vec<Entry>,
    /// Where the next one begins.
    pub(super) end: usize,
}

impl Writer {
    pub(super) fn add(&mut self, name: String, shape: &[usize]) -> Range<usize> {
        let range = self.end..self.end + shape.iter().product::<usize>();
        self.end = range.end;
        self.entries.push(Entry { name, shape: shape.to_vec(), range: range.clone() });
        range
    }

    fn norm(&mut self, name: &str, config: &ModelConfig) -> NormAt {
        let weight = self.add(format!("{name}.weight"), &[config.hidden_size]);
        NormAt {
            weight,
            bias: config.biases.norms.then(|| self.add(format!("{name}.bias"), &[config.hidden_size])),
        }
    }

    pub(super) fn linear(&mut self, name: &str, [rows, columns]: [usize; 2], bias: bool) -> LinearAt {
        let weight = self.add(format!("{name}.weight"), &[rows, columns]);
        Linear { weight, bias: bias.then(|| self.add(format!("{name}.bias"), &[columns])), columns }
    }

    fn attention(&mut self, layer: usize, config: &ModelConfig) -> HalfAt {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        let (start, d) = (self.end, config.hidden_size);
        let norm = self.norm(&name("attention_norm"), config);
        let first = self.linear(&name("attention.qkv"), [d, config.qkv_width()], config.biases.qkv);
        let mut of_heads =
            |part: &str| self.add(name(&format!("attention.{part}_norm.weight")), &[config.head_dim]);
        let qk_norm = config.qk_norm.then(|| ["q", "k"].map(&mut of_heads));
        let last = self.linear(&name("attention.out"), [config.attention_width(), d], config.biases.out);
        HalfAt { region: start..self.end, norm, first, qk_norm, last }
    }

    fn feed_forward(&mut self, layer: usize, config: &ModelConfig) -> HalfAt {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        let (start, d, inner) = (self.end, config.hidden_size, config.intermediate_size);
        let columns = if config.is_gated() { 2 * inner } else { inner };
        let (norm, has_bias) = (self.norm(&name("feed_forward_norm"), config), config.biases.feed_forward);
        let first = self.linear(&name("feed_forward.up"), [d, columns], has_bias);
        let last = self.linear(&name("feed_forward.down"), [inner, d], has_bias);
        HalfAt { region: start..self.end, norm, first, qk_norm: None, last }
    }

    fn layer(&mut self, layer: usize, config: &ModelConfig) -> [HalfAt; 2] {
        [self.attention(layer, config), self.feed_forward(layer, config)]
    }
}

impl Layout {
    /// The places for a configuration, with the vocabulary's head or with a scalar one.
    pub fn new(config: &ModelConfig, has_value_head: bool) -> Self {
        let (mut writer, d) = (Writer::default(), config.hidden_size);
        let token_embedding = writer.add("token_embedding".to_owned(), &[config.vocab, d]);
        let position_embedding = (!config.has_rope())
            .then(|| writer.add("position_embedding".to_owned(), &[config.max_position_embeddings, d]));
        let head = match config.tied || has_value_head {
            true => token_embedding.clone(),
            false => writer.add("head".to_owned(), &[config.vocab, d]),
        };
        let start = writer.end;
        let norm = writer.norm("norm", config);
        let value_head = has_value_head.then(|| writer.linear("value_head", [d, 1], true));
        let last = start..writer.end;
        let layers = (0..config.layers).map(|layer| writer.layer(layer, config)).collect();
        let entries = writer.entries;
        Self { entries, token_embedding, position_embedding, head, norm, value_head, last, layers }
    }

    /// All parameters, in the order of their places.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The parameter of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |e| e.range.end)
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The matrices of the layers; those that stand in one map beside each other (queries, keys and values; gate and up)
    /// apart.
    pub fn matrices(&self, config: &ModelConfig) -> Vec<MatrixAt> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, kv) = (config.attention_width(), config.kv_width());
        let parts = |map: &LinearAt, widths: &[usize]| -> Vec<MatrixAt> {
            let starts = widths.iter().scan(0, |end, width| {
                *end += width;
                Some(*end - width..*end)
            });
            let at = |columns| MatrixAt { range: map.weight.clone(), stride: map.columns, columns };
            starts.map(at).collect()
        };
        let up: &[usize] = if config.is_gated() { &[inner, inner] } else { &[inner] };
        let of_layer = |[attention, feed_forward]: &[HalfAt; 2]| {
            let first = [parts(&attention.first, &[queries, kv, kv]), parts(&attention.last, &[d])];
            [first.concat(), parts(&feed_forward.first, up), parts(&feed_forward.last, &[d])].concat()
        };
        self.layers.iter().flat_map(of_layer).collect()
    }

    /// Parameters at their start: linear maps and embeddings are drawn with the deviation 0.02, those that end at the
    /// residual stream with `0.02 / sqrt(2 L)`, a scalar head with `1 / sqrt(d + 1)`; norms start as the plain norm, and
    /// biases at 0. Each is drawn from a generator of its own.
    pub fn draw(&self, config: &ModelConfig, seed: u64) -> Vec<f32> {
        let mut out = memory::zeros(self.len());
        for (i, entry) in self.entries.iter().enumerate() {
            let deviation = match entry.name.as_str() {
                "value_head.weight" => 1.0 / ((config.hidden_size + 1) as f64).sqrt(),
                name if name.ends_with("out.weight") || name.ends_with("down.weight") => {
                    INIT_STD / (2.0 * config.layers as f64).sqrt()
                }
                _ => INIT_STD,
            };
            let is_drawn = entry.shape.len() > 1;
            let start = if entry.name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            let mut rng = keyed(seed, "init", 0, i as u64);
            let slots = out[entry.range.clone()].iter_mut();
            slots.for_each(|x| *x = if is_drawn { (normal(&mut rng) * deviation) as f32 } else { start });
        }
        out
    }
}
