//! What reads the formats of other tools, as functions of any bytes.
//!
//! Purpose: the targets of `fuzz/`, and of the test that runs their corpora. Each of them panics when a rule is broken.
//! Invariant: no target writes anything, starts anything or waits for anything.
//! Must not know: who makes the bytes.

// A panic is how a target fails.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use crate::model::{hugging_face, peft, safetensors};
use crate::{foreign, gguf, records, shards, template};

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("chat_template", template::fuzz),
    ("gguf", gguf::fuzz),
    ("model_config", model_config),
    ("parquet", records::fuzz::parquet),
    ("records", records::fuzz::rows),
    ("safetensors", tensors),
    ("shards", shards::fuzz::shards),
    ("tokenizer", foreign::fuzz),
];

/// Hands bytes to the target of this name, if there is one.
///
/// # Panics
/// A rule is broken.
pub fn run(name: &str, bytes: &[u8]) -> bool {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.map(|(_, target)| target(bytes)).is_some()
}

/// A `config.json` or `adapter_config.json`: what is read is within bounds, and is read again as it was written.
fn model_config(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    if let Ok(described) = hugging_face::read(&value) {
        described.config.check().unwrap();
        let config = &described.config;
        let sizes = [config.vocab, config.layers, config.hidden_size, config.heads, config.kv_heads];
        let more = [config.head_dim, config.intermediate_size, config.max_position_embeddings];
        assert!(sizes.into_iter().chain(more).all(|size| (1..=1 << 20).contains(&size)), "{described:?}");
        // So no number of values overflows, whatever they are multiplied with.
        assert!(config.parameters() < 1 << 56, "{described:?}");
        if described.config.has_rope() {
            let (frequencies, scale) = described.config.rope.frequencies(described.config.head_dim);
            assert_eq!(2 * frequencies.len(), described.config.head_dim);
            assert!(scale.is_finite() && frequencies.iter().all(|f| f.is_finite()), "{described:?}");
        }
        let written = Value::Object(hugging_face::write(&described));
        assert_eq!(hugging_face::read(&written).as_ref(), Ok(&described), "{written}");
    }
    if let Ok(config) = peft::read(&value) {
        let written = Value::Object(peft::write(&config, false, "base"));
        assert_eq!(peft::read(&written), Ok(config));
    }
}

/// A safetensors file: every tensor lies within it, none overlaps, and the last one ends with it.
fn tensors(bytes: &[u8]) {
    let Ok((start, header)) = safetensors::header(bytes, bytes.len() as u64) else { return };
    let mut places: Vec<(usize, usize)> = header.tensors().values().map(|info| info.data_offsets).collect();
    places.sort_unstable();
    let mut end = 0;
    for (from, to) in places {
        assert!(from == end && to >= from, "{from}..{to} after {end}");
        end = to;
    }
    assert_eq!(start + end as u64, bytes.len() as u64);
}
