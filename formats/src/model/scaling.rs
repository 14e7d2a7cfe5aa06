//! The fields of RoPE in a `config.json`.
//!
//! Purpose: `rope_theta`, `rope_scaling` and `rope_parameters` as numbers of RoPE, and back.
//! Invariant: a kind of scaling or a field of one that is not known is refused by its name.
//! Must not know: other fields.

use serde_json::{Value, json};

use super::fields::{Fields, shown};
use super::hugging_face::object;
use super::rope::{Rope, Scaling, Yarn};

/// RoPE as `rope_theta` with `rope_scaling`, or as `rope_parameters` of newer files, which have both.
pub(super) fn rope(fields: &Fields, positions: usize) -> Result<Rope, String> {
    let outer_theta = fields.number("rope_theta")?;
    let original = fields.number("original_max_position_embeddings")?;
    let outer_partial = fields.number("partial_rotary_factor")?;
    let (scaling, parameters) = (fields.object("rope_scaling")?, fields.object("rope_parameters")?);
    let Some(map) = scaling.filter(|map| !map.is_empty()).or(parameters) else {
        whole(outer_partial)?;
        return Ok(Rope::new(outer_theta.unwrap_or(1e4)));
    };
    let inner = Fields::new(map);
    let theta = inner.number("rope_theta")?.or(outer_theta).unwrap_or(1e4);
    whole(inner.number("partial_rotary_factor")?.or(outer_partial))?;
    let (new, old) = (inner.text("rope_type")?, inner.text("type")?);
    let original = original.or(inner.number("original_max_position_embeddings")?).unwrap_or(positions as f64);
    let need = |name: &'static str| {
        inner.number(name)?.ok_or_else(|| format!("the scaling of RoPE has no `{name}`"))
    };
    let scaling = match new.or(old).unwrap_or("default") {
        "default" => Scaling::Default,
        "linear" => Scaling::Linear { factor: need("factor")? },
        "dynamic" => Scaling::Dynamic { factor: need("factor")? },
        "llama3" => {
            let (low, high) = (need("low_freq_factor")?, need("high_freq_factor")?);
            Scaling::Llama3 { factor: need("factor")?, low, high, original }
        }
        "yarn" => Scaling::Yarn(yarn(&inner, original, positions)?),
        other => {
            return Err(format!(
                "RoPE of the type `{}` is not supported; there are default, linear, dynamic, llama3 and yarn",
                shown(other)
            ));
        }
    };
    match inner.unknown(|_| false) {
        Some(name) => {
            Err(format!("the scaling of RoPE has a field `{}` that is not known here", shown(name)))
        }
        None => Ok(Rope { theta, scaling }),
    }
}

fn whole(partial: Option<f64>) -> Result<(), String> {
    match partial {
        Some(factor) if factor != 1.0 => Err(format!("`partial_rotary_factor: {factor}` is not supported")),
        _ => Ok(()),
    }
}

fn yarn(inner: &Fields, original: f64, positions: usize) -> Result<Yarn, String> {
    let mscale = match (inner.number("mscale")?, inner.number("mscale_all_dim")?) {
        // As in `transformers`, 0 counts as missing.
        (Some(mscale), Some(all_dim)) if mscale != 0.0 && all_dim != 0.0 => Some([mscale, all_dim]),
        _ => None,
    };
    let or = |name: &'static str, default: f64| -> Result<f64, String> {
        Ok(inner.number(name)?.filter(|number| *number != 0.0).unwrap_or(default))
    };
    Ok(Yarn {
        factor: inner.number("factor")?.unwrap_or(positions as f64 / original),
        original,
        attention_factor: inner.number("attention_factor")?,
        beta_fast: or("beta_fast", Yarn::BETA_FAST)?,
        beta_slow: or("beta_slow", Yarn::BETA_SLOW)?,
        truncate: inner.flag("truncate")?.unwrap_or(true),
        mscale,
    })
}

/// The field `rope_scaling`.
pub(super) fn write_scaling(scaling: &Scaling) -> Value {
    match scaling {
        Scaling::Default => Value::Null,
        Scaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        Scaling::Dynamic { factor } => json!({"rope_type": "dynamic", "factor": factor}),
        Scaling::Llama3 { factor, low, high, original } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": *original as u64,
        }),
        Scaling::Yarn(yarn) => {
            let mut map = object(json!({
                "rope_type": "yarn",
                "factor": yarn.factor,
                "original_max_position_embeddings": yarn.original as u64,
                "beta_fast": yarn.beta_fast,
                "beta_slow": yarn.beta_slow,
            }));
            if !yarn.truncate {
                map.insert("truncate".to_owned(), json!(false));
            }
            if let Some(factor) = yarn.attention_factor {
                map.insert("attention_factor".to_owned(), json!(factor));
            }
            if let Some([mscale, all_dim]) = yarn.mscale {
                map.insert("mscale".to_owned(), json!(mscale));
                map.insert("mscale_all_dim".to_owned(), json!(all_dim));
            }
            Value::Object(map)
        }
    }
}
