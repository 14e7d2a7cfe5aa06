//! `adapter_config.json` as Hugging Face `peft` reads and writes it.
//!
//! Purpose: a LoRA adapter's settings, and the names of its tensors.
//! Invariant: a field that might change what the adapter computes and is not known here is refused by its name.
//! Must not know: tensors, the model that is adapted.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::hugging_face::{ConfigError, object};

/// The settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// What stands before the name of every tensor.
pub const PREFIX: &str = "base_model.model.";

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank of the matrices.
    pub rank: usize,
    /// The change is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Whether it is scaled by `alpha / sqrt(rank)` instead.
    pub use_rslora: bool,
    /// The maps that are adapted, by the last part of their names.
    pub targets: Vec<String>,
    /// Whether a head for one score is stored with it.
    pub is_scorer: bool,
}

/// Fields of training, of other methods that are off, and of where things are.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];

/// How an adapter may have begun. Others, such as `pissa`, change the weights of the model when they are loaded.
const BEGINNINGS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// Reads an `adapter_config.json`.
///
/// # Errors
/// With the field that is missing, of another type, or not supported.
pub fn read(value: &Value) -> Result<AdapterConfig, ConfigError> {
    let map = value.as_object().ok_or(ConfigError::NotAnObject)?;
    let fields = Fields::new(map);
    let config = config(&fields).map_err(ConfigError::Field)?;
    let is_off = |name: &str| match &map[name] {
        Value::Bool(is) => !is,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match fields.unknown(|name| HARMLESS.contains(&name) || is_off(name)) {
        Some(name) => Err(ConfigError::Unknown(name.to_owned())),
        None => Ok(config),
    }
}

fn config(fields: &Fields) -> Result<AdapterConfig, String> {
    let kind = fields.text("peft_type")?.unwrap_or("none");
    if kind != "LORA" {
        return Err(format!("`peft_type: {kind}` is not supported; there is LORA"));
    }
    let bias = fields.text("bias")?.unwrap_or("none");
    if bias != "none" {
        return Err(format!("`bias: {bias}` is not supported; there is none"));
    }
    match fields.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => {}
        Some(Value::String(name)) if BEGINNINGS.contains(&name.as_str()) => {}
        Some(other) => {
            return Err(format!(
                "`init_lora_weights: {other}` is not supported, for it changes the weights of the model too; convert it \
                 (`path_initial_model_for_weight_conversion` of `save_pretrained`), or merge it with PEFT"
            ));
        }
    }
    // It follows from the model.
    let _ = fields.flag("fan_in_fan_out")?;
    let is_scorer = match fields.text("task_type")? {
        None | Some("CAUSAL_LM") => false,
        Some("SEQ_CLS") => true,
        Some(other) => {
            return Err(format!("`task_type: {other}` is not supported; there are CAUSAL_LM and SEQ_CLS"));
        }
    };
    let saved = names(fields, "modules_to_save")?;
    if let Some(other) =
        saved.iter().find(|name| !(is_scorer && ["score", "classifier"].contains(&name.as_str())))
    {
        return Err(format!("`modules_to_save` names `{other}`, which is not supported"));
    }
    let targets = names(fields, "target_modules")?;
    if targets.is_empty() {
        return Err("`target_modules` names no module".to_owned());
    }
    let rank = fields.required("r")?;
    let alpha = fields.number("lora_alpha")?.ok_or("`lora_alpha` is missing")?;
    if !(1..=4096).contains(&rank) || !alpha.is_finite() {
        return Err(format!("`r: {rank}` with `lora_alpha: {alpha}` is out of range"));
    }
    let use_rslora = fields.flag("use_rslora")?.unwrap_or(false);
    Ok(AdapterConfig { rank, alpha, use_rslora, targets, is_scorer })
}

/// A list of names, sorted.
fn names(fields: &Fields, field: &'static str) -> Result<Vec<String>, String> {
    let Some(list) = fields.list(field)? else { return Ok(Vec::new()) };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let names: Option<Vec<String>> = list.iter().map(text).collect();
    let mut names = names.ok_or_else(|| format!("`{field}` is no list of names"))?;
    names.sort();
    Ok(names)
}

/// The fields of an `adapter_config.json`; `fan_in_fan_out` says that maps are stored as `[in, out]`, as GPT-2's are.
pub fn write(config: &AdapterConfig, fan_in_fan_out: bool, base: &str) -> Map<String, Value> {
    let saved = if config.is_scorer { json!(["score"]) } else { Value::Null };
    object(json!({
        "peft_type": "LORA",
        "task_type": if config.is_scorer { "SEQ_CLS" } else { "CAUSAL_LM" },
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": true,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": saved,
        "r": config.rank,
        "target_modules": config.targets,
        "use_dora": false,
        "use_rslora": config.use_rslora,
    }))
}
