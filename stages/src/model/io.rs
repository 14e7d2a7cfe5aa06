//! Models on disk, in the layout of Hugging Face `transformers`.
//!
//! Purpose: `config.json` and `model.safetensors` (or its parts with their index) as a model, and back.
//! Invariant: weights are read only if their names, shapes and sizes are those that the shape in `config.json` asks for; a
//! hostile file costs an error, not memory. No value that is not finite is read or written.
//! Must not know: what the model is for, tokenizers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kiln_formats::model::safetensors::{self, Stored, Tensor, Weights, WeightsError, file_size, write_whole};
use kiln_formats::model::{ConfigError, Described, Head, TensorSource, hugging_face};
use serde_json::{Map, Value, json};

pub use kiln_formats::model::safetensors::WEIGHTS;

use super::layout::Layout;
use super::network::{Dtype, Network};
use super::stored::{self, StoredTensor};
use crate::context::StageError;
use crate::kernels::cpu::memory;

/// The shape's file.
pub const CONFIG: &str = "config.json";
/// `config.json` is never longer.
const CONFIG_LIMIT: u64 = 4 << 20;
/// Weights beyond this are written to several files.
const MOST_BYTES: usize = 5_000_000_000;
/// Tensors that some files hold and that follow from the shape: masks and frequencies.
const DERIVED: [&str; 3] = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];
/// The head's weight, which a file may hold although it is the token embedding.
const HEAD: &str = "lm_head.weight";

/// What may be wrong with a model folder.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ModelError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{}: {source}", path.display())]
    Config { path: PathBuf, source: ConfigError },
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{}: the tensor `{tensor}` would hold a value that is not finite, so nothing is written; the training has \
         diverged: try a smaller learning rate",
        path.display()
    )]
    NotFinite { path: PathBuf, tensor: String },
}

impl From<ModelError> for StageError {
    fn from(e: ModelError) -> Self {
        Self::failed(e)
    }
}

/// Writes shape and weights into a folder; `more` are fields of the shape's file that are not about the shape.
///
/// # Errors
/// Those of writing; a value that is not finite.
pub fn save(folder: &Path, model: &Network, more: &Map<String, Value>) -> Result<(), ModelError> {
    save_in_parts(folder, model, more, MOST_BYTES)
}

/// As [`save`], with at most so many bytes of weights a file.
///
/// # Errors
/// As those of [`save`].
pub fn save_in_parts(
    folder: &Path,
    model: &Network,
    more: &Map<String, Value>,
    most: usize,
) -> Result<(), ModelError> {
    let io = |source| WeightsError::Io { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let (layout, weights) = (model.layout(), model.weights().values());
    let stored = stored::tensors(model.config(), layout);
    let finite = |tensor: &&StoredTensor| tensor.gather(&weights).iter().all(|x| x.is_finite());
    let offset = offset(layout, &weights);
    if let Some(tensor) = stored.iter().find(|tensor| !finite(tensor)) {
        return Err(ModelError::NotFinite { path: folder.join(WEIGHTS), tensor: tensor.name.clone() });
    }
    let path = folder.join(CONFIG);
    let head = match offset {
        Some(offset) if !offset.is_finite() => {
            return Err(ModelError::NotFinite { path, tensor: "reward_offset".to_owned() });
        }
        Some(offset) => Head::Score { offset },
        None => Head::Vocabulary,
    };
    let mut config = hugging_face::write(&Described { config: model.config().clone(), head });
    let (dtype, name) = match model.dtype() {
        Dtype::Float32 => (Stored::F32, "float32"),
        Dtype::Bfloat16 => (Stored::Bf16, "bfloat16"),
    };
    config.insert("torch_dtype".to_owned(), json!(name));
    config.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
    write_json(&path, &Value::Object(config))?;
    let tensors = stored.iter().map(|tensor| Tensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        // A scalar head is scaled after its training, and keeps that to the last digit.
        stored: if tensor.name == "score.weight" { Stored::F32 } else { dtype },
        values: Box::new(|| tensor.gather(&weights)),
    });
    Ok(safetensors::write(folder, &tensors.collect::<Vec<_>>(), most)?)
}

/// Writes JSON so that the file is either absent or whole.
///
/// # Errors
/// Those of writing.
pub fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    let fail = |e: serde_json::Error| ModelError::Malformed { path: path.to_owned(), reason: e.to_string() };
    let text = serde_json::to_string_pretty(value).map_err(fail)?;
    Ok(write_whole(path, (text + "\n").as_bytes())?)
}

/// What is subtracted from the scores of a scalar head: the opposite of its bias.
fn offset(layout: &Layout, weights: &[f32]) -> Option<f32> {
    let bias = layout.value_head.as_ref()?.bias.as_ref()?;
    // Not -0, which would be written as another number.
    Some(0.0 - weights[bias.start])
}

/// Reads the shape of the model in a folder.
///
/// # Errors
/// When it is missing, malformed, impossible or of a kind that is not known.
pub fn read_config(folder: &Path) -> Result<Described, ModelError> {
    let path = folder.join(CONFIG);
    let malformed = |reason: String| ModelError::Malformed { path: path.clone(), reason };
    if file_size(&path)? > CONFIG_LIMIT {
        return Err(malformed("too long".to_owned()));
    }
    let bytes = std::fs::read(&path).map_err(|e| malformed(e.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
    hugging_face::read(&value).map_err(|source| ModelError::Config { path, source })
}

/// Reads the parameters of a model.
///
/// # Errors
/// When they cannot be read, or are not exactly the tensors of the shape, finite, in f32, f16 or bf16.
fn read_weights(
    weights: &dyn TensorSource,
    described: &Described,
    layout: &Layout,
) -> Result<Vec<f32>, ModelError> {
    let stored = stored::tensors(&described.config, layout);
    check_shapes(weights, &stored, described)?;
    // The shapes are those of tensors that are there, so no more room is made than the files take.
    let (mut all, mut buffer) = (memory::zeros(layout.len()), Vec::new());
    for tensor in &stored {
        buffer.resize(tensor.len(), 0.0);
        let name = found(weights, &tensor.name);
        weights.read(name, &tensor.shape, &mut buffer)?;
        tensor.scatter(&buffer, &mut all).map_err(|e| weights.malformed(name, e))?;
    }
    if described.config.tied && weights.shape(HEAD).is_some() {
        check_tied(
            weights,
            &all[layout.token_embedding.clone()],
            &[described.config.vocab, described.config.hidden_size],
        )?;
    }
    if let (Head::Score { offset }, Some(head)) = (described.head, &layout.value_head) {
        head.bias.iter().for_each(|bias| all[bias.start] = 0.0 - offset);
    }
    Ok(all)
}

/// The name under which a tensor stands in a file: a decoder that was stored without a head has no prefix.
pub fn found<'a>(weights: &dyn TensorSource, name: &'a str) -> &'a str {
    if weights.shape(name).is_some() {
        return name;
    }
    let bare = stored::PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    bare.filter(|bare| weights.shape(bare).is_some()).unwrap_or(name)
}

fn check_shapes(
    weights: &dyn TensorSource,
    stored: &[StoredTensor],
    described: &Described,
) -> Result<(), ModelError> {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for tensor in stored {
        let name = found(weights, &tensor.name);
        known.insert(name);
        let reason = match weights.shape(name) {
            None => format!("tensor `{name}` is missing"),
            Some(shape) if shape != tensor.shape => {
                format!(
                    "tensor `{name}` is of shape {shape:?}, and {:?} is what `{CONFIG}` says",
                    tensor.shape
                )
            }
            Some(_) => continue,
        };
        return Err(weights.malformed(name, reason).into());
    }
    let may_be = |name: &str| {
        known.contains(name)
            || DERIVED.iter().any(|end| name.ends_with(end))
            || (name == HEAD && described.config.tied && described.head == Head::Vocabulary)
    };
    match weights.names().into_iter().find(|name| !may_be(name)) {
        Some(name) => {
            let reason = format!("tensor `{name}` is not part of the model that `{CONFIG}` describes");
            Err(weights.malformed(name, reason).into())
        }
        None => Ok(()),
    }
}

/// A head that is stored although it is tied must be the token embedding.
fn check_tied(weights: &dyn TensorSource, embedding: &[f32], shape: &[usize]) -> Result<(), ModelError> {
    let mut head = vec![0.0; embedding.len()];
    weights.read(HEAD, shape, &mut head)?;
    match head == embedding {
        true => Ok(()),
        false => {
            let reason = format!("`tie_word_embeddings` is true, and `{HEAD}` is not the token embedding");
            Err(weights.malformed(HEAD, reason).into())
        }
    }
}

/// Reads the model in a folder, with or without a scalar head.
///
/// # Errors
/// When shape or weights are missing, malformed or do not fit each other.
pub fn load(folder: &Path, has_value_head: bool, device: &Device) -> Result<Network, ModelError> {
    let described = read_config(folder)?;
    if has_value_head == (described.head == Head::Vocabulary) {
        let (is, wanted) = match has_value_head {
            true => ("a language model", "a reward model"),
            false => ("a reward model", "a language model"),
        };
        let reason = format!("it is {is}, and {wanted} is needed here");
        return Err(ModelError::Malformed { path: folder.join(CONFIG), reason });
    }
    read(&described, &Weights::open(folder)?, device)
}

/// Reads a model from its tensors.
///
/// # Errors
/// When they are malformed or do not fit the shape.
pub fn read(
    described: &Described,
    tensors: &dyn TensorSource,
    device: &Device,
) -> Result<Network, ModelError> {
    let has_value_head = described.head != Head::Vocabulary;
    let layout = Layout::new(&described.config, has_value_head);
    let weights = read_weights(tensors, described, &layout)?;
    Ok(Network::new(&described.config, has_value_head, weights, device))
}
