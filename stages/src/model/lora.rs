//! Low-rank adapters of a decoder whose own weights are frozen.
//!
//! Purpose: which maps are adapted, where the adapter's parameters stand in their one run of numbers, and how they begin.
//! Invariant: parameters of one half of a layer lie together; a fresh adapter changes nothing of what the decoder computes.
//! Must not know: tensors, files.
//! Sources: Hu 2022 (LoRA); names and first draws are those of PEFT; Kalajdzievski 2023 (scaling by the root of the rank).

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::ModelConfig;
use super::layout::{Entry, Layout, LinearAt, Writer};
use crate::kernels::cpu::linear::{Matrix, product};
use crate::rng::{keyed, normal, uniform};

/// An adapter as a pipeline asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-other-names" = {
    "r": "rank", "lora_r": "rank", "lora_alpha": "alpha", "target_modules": "targets", "lora_target_modules": "targets"
}))]
pub struct LoraParams {
    /// Rank of the matrices (r).
    #[schemars(range(min = 1, max = 4096))]
    pub rank: usize,
    /// The change is scaled by `alpha / rank`.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub alpha: f64,
    /// Whether it is scaled by `alpha / sqrt(rank)` instead.
    pub use_rslora: bool,
    /// The maps that are adapted, by their names in Hugging Face models (`q_proj`, `c_attn`, ..); none means all maps of
    /// the layers.
    pub targets: Vec<String>,
}

impl Default for LoraParams {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, use_rslora: false, targets: Vec::new() }
    }
}

/// Why an adapter does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum LoraError {
    #[error("`lora.targets` names `{name}`; the maps of this model are {}", known.join(", "))]
    Target { name: String, known: Vec<&'static str> },
    #[error("`lora.rank` is {0}; it must lie between 1 and 4096")]
    Rank(usize),
}

/// A map of a layer that can be adapted.
struct Map {
    /// Its name, as `targets` has it.
    name: &'static str,
    /// Its name within a layer of a Hugging Face model.
    path: &'static str,
    /// Attention, or the feed-forward part.
    half: usize,
    /// Whether it is the last map of its half.
    is_last: bool,
    /// Its columns of the map in memory.
    columns: Range<usize>,
}

/// The maps of a layer, in the order of their places.
fn maps(config: &ModelConfig) -> Vec<Map> {
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let (queries, kv) = (config.attention_width(), config.kv_width());
    let map = |name, path, half, is_last, columns| Map { name, path, half, is_last, columns };
    if !config.has_rope() {
        return vec![
            map("c_attn", "attn.c_attn", 0, false, 0..config.qkv_width()),
            map("c_proj", "attn.c_proj", 0, true, 0..d),
            map("c_fc", "mlp.c_fc", 1, false, 0..inner),
            map("c_proj", "mlp.c_proj", 1, true, 0..d),
        ];
    }
    vec![
        map("q_proj", "self_attn.q_proj", 0, false, 0..queries),
        map("k_proj", "self_attn.k_proj", 0, false, queries..queries + kv),
        map("v_proj", "self_attn.v_proj", 0, false, queries + kv..queries + 2 * kv),
        map("o_proj", "self_attn.o_proj", 0, true, 0..d),
        map("gate_proj", "mlp.gate_proj", 1, false, 0..inner),
        map("up_proj", "mlp.up_proj", 1, false, inner..2 * inner),
        map("down_proj", "mlp.down_proj", 1, true, 0..d),
    ]
}

/// A change `scale x A^T B^T` of some columns of a map, with A `[rank, in]` and B `[out, rank]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowRank {
    /// The columns of the map that are changed: `out` of them.
    pub columns: Range<usize>,
    /// Where A stands.
    pub a: Range<usize>,
    /// Where B stands.
    pub b: Range<usize>,
}

/// The changes of one half of a layer.
#[derive(Debug, Clone, Default)]
pub struct AdapterHalf {
    /// The whole half.
    pub region: Range<usize>,
    /// Of its first map.
    pub first: Vec<LowRank>,
    /// Of its last map.
    pub last: Vec<LowRank>,
}

/// The places of an adapter's parameters.
#[derive(Debug)]
pub struct AdapterLayout {
    entries: Vec<Entry>,
    /// Rank of the matrices.
    pub rank: usize,
    /// What the changes are multiplied by.
    pub scale: f32,
    /// A scalar head, which is trained with the adapter.
    pub value_head: Option<LinearAt>,
    /// Each layer's attention and feed-forward part.
    pub layers: Vec<[AdapterHalf; 2]>,
}

impl AdapterLayout {
    /// The places for a configuration.
    ///
    /// # Errors
    /// When a target is no map of the model.
    pub fn new(config: &ModelConfig, params: &LoraParams, has_value_head: bool) -> Result<Self, LoraError> {
        let maps = maps(config);
        let names: Vec<&'static str> = maps.iter().map(|map| map.name).collect();
        if let Some(name) = params.targets.iter().find(|target| !names.contains(&target.as_str())) {
            let mut known = names.clone();
            known.sort_unstable();
            known.dedup();
            return Err(LoraError::Target { name: name.clone(), known });
        }
        if !(1..=4096).contains(&params.rank) {
            return Err(LoraError::Rank(params.rank));
        }
        let chosen = |map: &&Map| params.targets.is_empty() || params.targets.iter().any(|t| t == map.name);
        let chosen: Vec<&Map> = maps.iter().filter(chosen).collect();
        let rank = params.rank as f64;
        let scale = params.alpha / if params.use_rslora { rank.sqrt() } else { rank };
        let mut writer = Writer::default();
        let value_head = has_value_head.then(|| writer.linear("value_head", [config.hidden_size, 1], true));
        let layers = (0..config.layers)
            .map(|layer| [0, 1].map(|i| half(&mut writer, config, [layer, i], (&chosen, params.rank))));
        let layers = layers.collect();
        Ok(Self { entries: writer.entries, rank: params.rank, scale: scale as f32, value_head, layers })
    }

    /// The names of the maps that are adapted, sorted.
    pub fn targets(config: &ModelConfig, params: &LoraParams) -> Vec<String> {
        let mut names: Vec<String> = maps(config).iter().map(|map| map.name.to_owned()).collect();
        names.retain(|name| params.targets.is_empty() || params.targets.contains(name));
        names.sort();
        names.dedup();
        names
    }

    /// All parameters, in the order of their places; A and B have PEFT's names.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.range.end)
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Parameters at their start: A is uniform within `1 / sqrt(in)`, B is 0, a scalar head as that of a whole model.
    pub fn draw(&self, seed: u64) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        for (i, entry) in self.entries.iter().enumerate() {
            let mut rng = keyed(seed, "lora", 0, i as u64);
            let inner = entry.shape.last().copied().unwrap_or(1) as f64;
            let slots = out[entry.range.clone()].iter_mut();
            match entry.name.as_str() {
                "value_head.weight" => {
                    let width = entry.range.len() as f64;
                    slots.for_each(|x| *x = (normal(&mut rng) / (width + 1.0).sqrt()) as f32);
                }
                name if name.ends_with("lora_A.weight") => {
                    slots.for_each(|x| *x = ((2.0 * uniform(&mut rng) - 1.0) / inner.sqrt()) as f32);
                }
                _ => {}
            }
        }
        out
    }

    /// The parameters of the decoder with the changes made to them.
    pub fn merged(&self, layout: &Layout, base: &[f32], adapter: &[f32]) -> Vec<f32> {
        let mut out = base.to_vec();
        for (halves, changes) in layout.layers.iter().zip(&self.layers) {
            for (half, changes) in halves.iter().zip(changes) {
                for (map, parts) in [(&half.first, &changes.first), (&half.last, &changes.last)] {
                    self.merge(parts, adapter, &mut out[map.weight.clone()], map.columns);
                }
            }
        }
        out
    }

    /// Makes changes to a map `[in, columns]`.
    pub fn merge(&self, parts: &[LowRank], adapter: &[f32], matrix: &mut [f32], columns: usize) {
        for part in parts {
            let (a, b) = (&adapter[part.a.clone()], &adapter[part.b.clone()]);
            let (inner, width) = (a.len() / self.rank, part.columns.len());
            let mut change = vec![0.0; inner * width];
            product(&mut change, Matrix::new(a, inner).t(), Matrix::new(b, self.rank).t(), false);
            for (row, change) in matrix.chunks_exact_mut(columns).zip(change.chunks_exact(width)) {
                let changed = row[part.columns.clone()].iter_mut().zip(change);
                changed.for_each(|(x, change)| *x += self.scale * change);
            }
        }
    }
}

/// Adds the chosen maps of half a layer.
fn half(
    writer: &mut Writer,
    config: &ModelConfig,
    at: [usize; 2],
    (chosen, rank): (&[&Map], usize),
) -> AdapterHalf {
    let ([layer, half], start, mut out) = (at, writer.end, AdapterHalf::default());
    let before = if config.has_rope() { "model.layers" } else { "transformer.h" };
    for map in chosen.iter().filter(|map| map.half == half) {
        let inner = match (map.is_last, half) {
            (false, _) => config.hidden_size,
            (true, 0) => config.attention_width(),
            (true, _) => config.intermediate_size,
        };
        let name = |part: &str| format!("{before}.{layer}.{}.lora_{part}.weight", map.path);
        let a = writer.add(name("A"), &[rank, inner]);
        let b = writer.add(name("B"), &[map.columns.len(), rank]);
        let part = LowRank { columns: map.columns.clone(), a, b };
        if map.is_last { out.last.push(part) } else { out.first.push(part) }
    }
    out.region = start..writer.end;
    out
}
