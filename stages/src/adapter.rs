//! Adapters on disk: what was trained, beside the frozen model that it changes.
//!
//! Purpose: a folder with PEFT's files, the tokenizer, and the model in `base/`, as a network and back.
//! Invariant: models of one process with the same base share its parameters; the base is copied as it is, so that a store
//! keeps it once.
//! Must not know: stages.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use burn::tensor::Device;
use kiln_formats::model::peft::{self, ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterConfig, PREFIX};
use kiln_formats::model::safetensors::{Stored, Tensor, TensorFile, WeightsError, file_size, write_file};
use kiln_formats::model::{Described, Head, hugging_face};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::context::StageError;
use crate::import;
use crate::kernels::flat::Flat;
use crate::model::io::{self, CONFIG};
use crate::model::layout::Entry;
use crate::model::lora::{AdapterLayout, LoraError};
use crate::model::network::Adapter;
use crate::model::{LoraParams, ModelError, Network};

/// The folder of the frozen model.
pub const BASE: &str = "base";
/// Settings are never longer.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Why an adapter cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AdapterError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{}: the adapter's model is not beside it; name that model as the input `base` of a stage of the kind `model`, or \
         put its files into the folder `{BASE}`",
        .0.display()
    )]
    NoBase(PathBuf),
    #[error("{}: {source}", path.display())]
    Lora { path: PathBuf, source: LoraError },
}

/// Whether a folder holds an adapter.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(ADAPTER_CONFIG).exists()
}

/// The folder of the whole model that a folder is, or that its adapter changes.
pub fn base_of(folder: &Path) -> PathBuf {
    if is_adapter(folder) { folder.join(BASE) } else { folder.to_owned() }
}

/// A model to train: with a new adapter, if one is asked for, or as it is.
///
/// # Errors
/// When the model has an adapter already, or the new one does not fit it.
pub fn start(model: Network, lora: Option<&LoraParams>, seed: u64) -> Result<Network, StageError> {
    match (model.adapter(), lora) {
        (_, None) => Ok(model),
        (Some(_), Some(_)) => Err(StageError::failed(
            "the model has an adapter, which is trained on where `lora` is left out; for another one, merge it first \
             with a stage of the kind `merge`",
        )),
        (None, Some(params)) => {
            model.adapted(params, false, |layout| layout.draw(seed)).map_err(StageError::failed)
        }
    }
}

/// Reads the adapter in a folder, and the model that it changes.
///
/// # Errors
/// When either is missing or malformed, or they do not fit each other.
pub fn load(folder: &Path, device: &Device) -> Result<Network, AdapterError> {
    let base = folder.join(BASE);
    if !base.is_dir() {
        return Err(AdapterError::NoBase(folder.to_owned()));
    }
    let path = folder.join(ADAPTER_CONFIG);
    let malformed = |reason: String| AdapterError::Malformed { path: path.clone(), reason };
    if file_size(&path)? > CONFIG_LIMIT {
        return Err(malformed("too long".to_owned()));
    }
    let bytes = std::fs::read(&path).map_err(|e| malformed(e.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
    let config = peft::read(&value).map_err(|e| malformed(e.to_string()))?;
    let offset = match config.is_scorer && folder.join(CONFIG).exists() {
        true => match io::read_config(folder)?.head {
            Head::Score { offset } => offset,
            Head::Vocabulary => 0.0,
        },
        false => 0.0,
    };
    let AdapterConfig { rank, alpha, use_rslora, targets, is_scorer } = config;
    let params = LoraParams { rank, alpha, use_rslora, targets };
    let (network, weights) = (shared(&base, device)?, folder.join(ADAPTER_WEIGHTS));
    let layout = AdapterLayout::new(network.config(), &params, is_scorer)
        .map_err(|source| AdapterError::Lora { path: path.clone(), source })?;
    let weights = read_weights(&weights, &layout, offset)?;
    network.adapted(&params, is_scorer, |_| weights).map_err(|source| AdapterError::Lora { path, source })
}

/// The name and the shape of a parameter in PEFT's file; none of a bias, which is a field of the settings.
fn stored(entry: &Entry) -> Option<(String, Vec<usize>)> {
    match entry.name.as_str() {
        "value_head.bias" => None,
        "value_head.weight" => Some((format!("{PREFIX}score.weight"), vec![1, entry.range.len()])),
        name => Some((format!("{PREFIX}{name}"), entry.shape.clone())),
    }
}

fn read_weights(path: &Path, layout: &AdapterLayout, offset: f32) -> Result<Vec<f32>, AdapterError> {
    let malformed = |reason: String| AdapterError::Malformed { path: path.to_owned(), reason };
    let size = file_size(path)?;
    // A rank that claims more than the file holds makes no room for it.
    if size < layout.len() as u64 {
        return Err(malformed(format!("{size} bytes are fewer than {} values need", layout.len())));
    }
    let file = File::open(path).map_err(|source| AdapterError::Io { path: path.to_owned(), source })?;
    let file = TensorFile::open(file, 0, size).map_err(malformed)?;
    let known: Vec<String> = layout.entries().iter().filter_map(|e| Some(stored(e)?.0)).collect();
    if let Some(name) = file.header().tensors().into_keys().find(|name| !known.contains(name)) {
        return Err(malformed(format!(
            "tensor `{name}` is not part of the adapter that its settings describe"
        )));
    }
    let mut weights = vec![0.0; layout.len()];
    for entry in layout.entries() {
        let values = &mut weights[entry.range.clone()];
        match stored(entry) {
            Some((name, shape)) => file.read(&name, &shape, values).map_err(malformed)?,
            None => values.fill(0.0 - offset),
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(malformed(format!("tensor `{}` has a value that is not finite", entry.name)));
        }
    }
    Ok(weights)
}

/// The digest of a model's files, and its parameters as long as somebody uses them.
type Base = ([u8; 32], Weak<Vec<f32>>);

/// Frozen models that are in memory.
static BASES: Mutex<Vec<Base>> = Mutex::new(Vec::new());

/// A frozen model, whose parameters are those of any other that was read from equal files, as long as one is in use.
fn shared(folder: &Path, device: &Device) -> Result<Network, AdapterError> {
    let digest = digest(folder)?;
    let config = io::read_config(folder)?.config;
    let known = {
        let bases = BASES.lock().unwrap_or_else(PoisonError::into_inner);
        bases.iter().find(|(of, _)| *of == digest).and_then(|(_, weights)| weights.upgrade())
    };
    if let Some(weights) = known {
        return Ok(Network::of(&config, false, Flat::Host(weights), device));
    }
    let network = io::load(folder, false, device)?;
    if let Flat::Host(weights) = network.weights() {
        let mut bases = BASES.lock().unwrap_or_else(PoisonError::into_inner);
        bases.retain(|(_, weights)| weights.strong_count() > 0);
        bases.push((digest, Arc::downgrade(weights)));
    }
    Ok(network)
}

/// SHA-256 of a model's shape and weights.
fn digest(folder: &Path) -> Result<[u8; 32], AdapterError> {
    let mut hasher = Sha256::new();
    for name in import::files(folder)? {
        let path = folder.join(&name);
        let io = |source| AdapterError::Io { path: path.clone(), source };
        hasher.update(name.as_encoded_bytes());
        std::io::copy(&mut File::open(&path).map_err(io)?, &mut hasher).map_err(io)?;
    }
    Ok(hasher.finalize().into())
}

/// Writes an adapter into a folder, and beside it the model that it changes, which is in `base` (or there already); `more`
/// are fields of the shape's file that are not about the shape.
///
/// # Errors
/// Those of reading and writing; a value that is not finite.
pub fn save(
    folder: &Path,
    network: &Network,
    adapter: &Adapter,
    (base, more): (&Path, &Map<String, Value>),
) -> Result<(), AdapterError> {
    let beside = folder.join(BASE);
    if base != beside {
        copy_base(base, &beside, network, more)?;
    }
    let (layout, weights) = (adapter.layout(), adapter.weights().values());
    let path = folder.join(ADAPTER_WEIGHTS);
    let odd = layout.entries().iter().find(|e| !weights[e.range.clone()].iter().all(|x| x.is_finite()));
    if let Some(entry) = odd {
        return Err(ModelError::NotFinite { path, tensor: entry.name.clone() }.into());
    }
    let tensors = layout.entries().iter().filter_map(|entry| {
        let (name, shape) = stored(entry)?;
        let values = &weights[entry.range.clone()];
        Some(Tensor { name, shape, stored: Stored::F32, values: Box::new(move || Cow::Borrowed(values)) })
    });
    let tensors: Vec<Tensor> = tensors.collect();
    write_file(&path, &tensors.iter().collect::<Vec<_>>())?;
    write_settings(folder, network, adapter, (&weights, more))
}

/// Copies the model that an adapter changes. A GGUF file is no folder that others could load, so its model is written as one.
fn copy_base(
    base: &Path,
    to: &Path,
    network: &Network,
    more: &Map<String, Value>,
) -> Result<(), AdapterError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| AdapterError::Io { path, source }
    };
    std::fs::create_dir_all(to).map_err(io(to))?;
    if !base.join(CONFIG).is_file() {
        let frozen = Network::of(network.config(), false, network.weights().clone(), network.device());
        return Ok(io::save(to, &frozen, more)?);
    }
    for entry in std::fs::read_dir(base).map_err(io(base))? {
        let path = entry.map_err(io(base))?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, to.join(name)).map_err(io(&path))?;
        }
    }
    Ok(())
}

fn write_settings(
    folder: &Path,
    network: &Network,
    adapter: &Adapter,
    (weights, more): (&[f32], &Map<String, Value>),
) -> Result<(), AdapterError> {
    let head = adapter.layout().value_head.as_ref().map(|head| {
        let bias = head.bias.as_ref().map_or(0.0, |bias| weights[bias.start]);
        Head::Score { offset: 0.0 - bias }
    });
    let LoraParams { rank, alpha, use_rslora, .. } = *adapter.params();
    let targets = AdapterLayout::targets(network.config(), adapter.params());
    let config = AdapterConfig { rank, alpha, use_rslora, targets, is_scorer: head.is_some() };
    let described = Described { config: network.config().clone(), head: head.unwrap_or(Head::Vocabulary) };
    let mut shape = hugging_face::write(&described);
    shape.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    io::write_json(&folder.join(CONFIG), &Value::Object(shape))?;
    let settings = peft::write(&config, !network.config().has_rope(), BASE);
    Ok(io::write_json(&folder.join(ADAPTER_CONFIG), &Value::Object(settings))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lora::AdapterLayout;
    use crate::rl::reward_model::RewardModel;
    use crate::testing::{all_shapes, cpu, lively, narrow, numbers};

    fn drawn(layout: &AdapterLayout) -> Vec<f32> {
        narrow(&numbers("adapter", layout.len()))
    }

    fn params() -> LoraParams {
        LoraParams { rank: 2, targets: Vec::new(), ..LoraParams::default() }
    }

    fn bits(network: &Network) -> Vec<u32> {
        network.trained().values().iter().map(|x| x.to_bits()).collect()
    }

    /// A model's folder, and an adapter of it in another one.
    fn saved(network: &Network) -> [tempfile::TempDir; 2] {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let base = Network::of(network.config(), false, network.weights().clone(), network.device());
        io::save(folders[0].path(), &base, &Map::new()).unwrap();
        let adapter = network.adapter().unwrap();
        save(folders[1].path(), network, adapter, (folders[0].path(), &Map::new())).unwrap();
        folders
    }

    #[test]
    fn an_adapter_that_is_saved_and_loaded_is_the_same_bit_for_bit() {
        for (config, is_scorer) in all_shapes().into_iter().flat_map(|c| [(c.clone(), false), (c, true)]) {
            let network = lively(&config, 1, &cpu()).adapted(&params(), is_scorer, drawn).unwrap();
            let RewardModel(network) = match is_scorer {
                true => RewardModel(network).rescaled(1.234_567, -0.765_432),
                false => RewardModel(network),
            };
            let [_, folder] = saved(&network);
            let loaded = load(folder.path(), &cpu()).unwrap();
            assert!(bits(&loaded) == bits(&network) && loaded.has_value_head() == is_scorer, "{config:?}");
            assert!(loaded.weights().values() == network.weights().values());
        }
    }

    #[test]
    fn the_model_of_an_adapter_is_written_where_there_is_no_folder_to_copy() {
        let network = lively(&all_shapes()[8], 4, &cpu()).adapted(&params(), false, drawn).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = Path::new("/nowhere/model.gguf");
        save(folder.path(), &network, network.adapter().unwrap(), (file, &Map::new())).unwrap();
        let loaded = load(folder.path(), &cpu()).unwrap();
        assert!(bits(&loaded) == bits(&network) && loaded.weights().values() == network.weights().values());
    }

    #[test]
    fn adapters_of_equal_models_share_the_models_parameters() {
        let network = lively(&all_shapes()[2], 5, &cpu()).adapted(&params(), false, drawn).unwrap();
        let ([_, first], [_, second]) = (saved(&network), saved(&network));
        let of = |folder: &Path| match load(folder, &cpu()).unwrap().weights() {
            Flat::Host(weights) => Arc::clone(weights),
            Flat::Device(_) => unreachable!("the CPU is the host"),
        };
        let (first, second) = (of(first.path()), of(second.path()));
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_damaged_adapter_is_an_error_that_names_its_file() {
        let network = lively(&all_shapes()[2], 6, &cpu()).adapted(&params(), false, drawn).unwrap();
        let complaint = |damage: &dyn Fn(&Path)| {
            let [_base, folder] = saved(&network);
            damage(folder.path());
            load(folder.path(), &cpu()).unwrap_err().to_string()
        };
        let edit = |name: &'static str, from: &'static str, to: &'static str| {
            move |folder: &Path| {
                let text = std::fs::read_to_string(folder.join(name)).unwrap();
                assert!(text.contains(from), "{text}");
                std::fs::write(folder.join(name), text.replace(from, to)).unwrap();
            }
        };
        for (said, words) in [
            (complaint(&|f| std::fs::remove_dir_all(f.join(BASE)).unwrap()), "not beside it"),
            (complaint(&|f| std::fs::remove_file(f.join(ADAPTER_WEIGHTS)).unwrap()), ADAPTER_WEIGHTS),
            (complaint(&|f| std::fs::write(f.join(ADAPTER_WEIGHTS), b"short").unwrap()), ADAPTER_WEIGHTS),
            (complaint(&|f| std::fs::write(f.join(ADAPTER_CONFIG), b"[]").unwrap()), ADAPTER_CONFIG),
            (complaint(&edit(ADAPTER_CONFIG, "\"r\": 2", "\"r\": 3")), "lora_A.weight"),
            (complaint(&edit(ADAPTER_CONFIG, "\"r\": 2", "\"r\": 4000")), "fewer than"),
            (complaint(&edit(ADAPTER_CONFIG, "q_proj", "w_proj")), "`w_proj`"),
            (complaint(&edit(ADAPTER_CONFIG, "CAUSAL_LM", "SEQ_CLS")), "score.weight` is missing"),
        ] {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_model_with_an_adapter_is_trained_on_and_does_not_take_a_second_one() {
        let base = lively(&all_shapes()[2], 7, &cpu());
        let first = start(base.clone(), Some(&params()), 1).unwrap();
        assert!(first.adapter().is_some() && start(base, None, 1).unwrap().adapter().is_none());
        assert!(start(first.clone(), None, 1).unwrap().adapter().is_some());
        let said = start(first, Some(&params()), 1).unwrap_err().to_string();
        assert!(said.contains("`merge`"), "{said}");
    }
}
