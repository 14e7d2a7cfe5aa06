//! The fields of a sliding window in a `config.json`.
//!
//! Purpose: `sliding_window` and what Qwen has beside it as the layers that have a window, and back.
//! Invariant: a kind of layer that is not known is refused by its name.
//! Must not know: other fields.

use serde_json::{Map, Value, json};

use super::config::{Family, ModelConfig, SlidingWindow};
use super::fields::{Fields, shown};
use super::hugging_face::object;

/// The window that the class of a family has.
pub(super) fn window(
    fields: &Fields,
    family: Family,
    layers: usize,
) -> Result<Option<SlidingWindow>, String> {
    if family == Family::Llama {
        return Ok(None);
    }
    let name = "sliding_window";
    let size = fields.size(name)?;
    if family == Family::Mistral {
        // The class has a window where the field is missing, and none where it is `null`.
        let size = size.or((!fields.has(name)).then_some(4096));
        // The check of the shape comes later, and a hostile number of layers is not worth a list.
        let layers = vec![true; layers.min(1 << 10)];
        return Ok(size.map(|size| SlidingWindow { size, layers }));
    }
    let (first, types) = (fields.size("max_window_layers")?.unwrap_or(28), fields.list("layer_types")?);
    let types =
        types.map(|types| types.iter().map(slides).collect::<Result<Vec<bool>, String>>()).transpose()?;
    if !fields.flag("use_sliding_window")?.unwrap_or(false) {
        return match types.is_some_and(|slides| slides.contains(&true)) {
            true => Err("`layer_types` slide, and `use_sliding_window` is false".to_owned()),
            false => Ok(None),
        };
    }
    let slides = types.unwrap_or_else(|| (0..layers.min(1 << 10)).map(|layer| layer >= first).collect());
    Ok(Some(SlidingWindow { size: size.unwrap_or(4096), layers: slides }))
}

fn slides(kind: &Value) -> Result<bool, String> {
    match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            let kind = shown(&kind.to_string());
            Err(format!("`layer_types` names {kind}; there are full_attention and sliding_attention"))
        }
    }
}

/// The fields of the window of Mistral and Qwen.
pub(super) fn write_window(config: &ModelConfig) -> Map<String, Value> {
    let mut map = object(json!({"sliding_window": config.window.as_ref().map(|window| window.size)}));
    if config.family == Family::Mistral {
        return map;
    }
    map.insert("use_sliding_window".to_owned(), json!(config.window.is_some()));
    if let Some(window) = &config.window {
        let kind = |slides: &bool| if *slides { "sliding_attention" } else { "full_attention" };
        let first = window.layers.iter().position(|slides| *slides).unwrap_or(config.layers);
        map.insert("layer_types".to_owned(), json!(window.layers.iter().map(kind).collect::<Vec<_>>()));
        map.insert("max_window_layers".to_owned(), json!(first));
    }
    map
}
