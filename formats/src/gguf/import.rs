//! A GGUF file as the content of a Hugging Face folder.
//!
//! Purpose: the documents of the folder, and its tensors one at a time under the names and in the shapes of Hugging Face.
//! Invariant: every tensor of the file belongs to the model and every part of the model is in the file; ids are those of the
//! file.
//! Must not know: folders.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::file::reserve;
use super::model::{Form, HEAD, ROPE_FREQS, Slot, architecture, from_metadata, slots};
use super::{FileSource, GgufError, GgufFile, ReadAt, TensorKind, vocabulary};
use crate::model::{Described, Head, ModelConfig, hugging_face};

/// Values that are transposed at once.
const CHUNK: usize = 1 << 18;

/// A tensor of a Hugging Face folder.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedTensor {
    /// Its name in Hugging Face.
    pub name: String,
    /// Its shape in Hugging Face.
    pub shape: Vec<usize>,
    /// How the file stores it.
    pub kind: TensorKind,
    /// Its place among the file's tensors, and the row with which it begins there.
    place: usize,
    first_row: usize,
    form: Form,
}

/// What a Hugging Face folder of the model would hold.
#[derive(Debug)]
pub struct Imported<S = FileSource> {
    /// `config.json`.
    pub config: Value,
    /// The tensors, in the order of the layers. Read them with [`Imported::read`].
    pub tensors: Vec<ImportedTensor>,
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`, with the chat template.
    pub tokenizer_config: Value,
    /// `generation_config.json`, with all tokens that end what the model says.
    pub generation_config: Value,
    file: GgufFile<S>,
}

impl Imported {
    /// Opens a GGUF file of a model.
    ///
    /// # Errors
    /// When it is no whole GGUF file, or says something of the model that Hugging Face's files or Kiln cannot say.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        GgufFile::open(path).and_then(Self::new).map_err(|error| error.in_file(path))
    }
}

impl<S: ReadAt> Imported<S> {
    /// Takes a file that is open already.
    ///
    /// # Errors
    /// As [`Imported::open`].
    pub fn new(file: GgufFile<S>) -> Result<Self, GgufError> {
        let shape = from_metadata(&file)?;
        let vocabulary = vocabulary::from_metadata(file.metadata())?;
        if vocabulary.len() != shape.vocab {
            let what = format!("{} rows, but the tokenizer has {} tokens", shape.vocab, vocabulary.len());
            return Err(GgufError::tensor("token_embd.weight", what));
        }
        let tensors = tensors(&file, &shape)?;
        let context = shape.max_position_embeddings;
        let mut config = hugging_face::write(&Described { config: shape, head: Head::Vocabulary });
        let generation_config = vocabulary::generation_config(&vocabulary);
        for name in ["bos_token_id", "pad_token_id"] {
            config.insert(name.into(), generation_config[name].clone());
        }
        config.insert("eos_token_id".into(), json!(vocabulary.special.eos));
        Ok(Self {
            config: Value::Object(config),
            tensors,
            tokenizer: vocabulary::tokenizer(&vocabulary),
            tokenizer_config: vocabulary::tokenizer_config(&vocabulary, context),
            generation_config,
            file,
        })
    }

    /// The file.
    pub fn file(&self) -> &GgufFile<S> {
        &self.file
    }

    /// Reads a tensor as f32 under its Hugging Face name, in the place of what `out` held.
    ///
    /// # Errors
    /// When there is none of this name, its type is not read, or the file cannot be read.
    pub fn read(&self, name: &str, out: &mut Vec<f32>) -> Result<(), GgufError> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        let refuse = |what: String| self.file.named(GgufError::tensor(name, what));
        let tensor = found.ok_or_else(|| refuse("the model has no such tensor".into()))?;
        reserve(out, tensor.shape.iter().product()).map_err(refuse)?;
        let info = &self.file.tensors()[tensor.place];
        // The values of a row: all dimensions but the slowest.
        let row: usize = info.shape[1..].iter().product();
        let first = tensor.first_row * row;
        match tensor.form {
            Form::Same => self.file.read_values(info, first, out),
            Form::Paired(heads) => {
                let mut head = vec![0.0; out.len() / heads];
                for (i, out) in out.chunks_exact_mut(head.len()).enumerate() {
                    self.file.read_values(info, first + i * head.len(), &mut head)?;
                    unpair(&head, row, out);
                }
                Ok(())
            }
            Form::Transposed => {
                let rows = info.shape[0];
                let mut part = vec![0.0; (CHUNK / row).clamp(1, rows) * row];
                for start in (0..rows).step_by(part.len() / row) {
                    let count = (rows - start).min(part.len() / row);
                    let part = &mut part[..count * row];
                    self.file.read_values(info, start * row, part)?;
                    for (i, x) in part.iter().enumerate() {
                        out[i % row * rows + start + i / row] = *x;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The rows of a head, from pairs to halves.
pub(super) fn unpair(paired: &[f32], row: usize, halves: &mut [f32]) {
    let half = halves.len() / row / 2;
    for (i, values) in paired.chunks_exact(row).enumerate() {
        let place = i % 2 * half + i / 2;
        halves[place * row..][..row].copy_from_slice(values);
    }
}

/// Finds every tensor of the model in the file, and refuses what is left.
fn tensors<S: ReadAt>(file: &GgufFile<S>, config: &ModelConfig) -> Result<Vec<ImportedTensor>, GgufError> {
    let infos = file.tensors();
    // Each layer has tensors, so that a number that is out of all proportion ends here.
    if config.layers > infos.len() {
        let what = format!("{} layers, but {} tensors", config.layers, infos.len());
        return Err(GgufError::whole(what));
    }
    let places: HashMap<&str, usize> =
        infos.iter().enumerate().map(|(i, info)| (info.name.as_str(), i)).collect();
    let mut is_used = vec![false; infos.len()];
    let mut tensors = Vec::new();
    for slot in slots(config) {
        let (name, shape, first_row) = match places.contains_key(slot.gguf.as_str()) {
            true => (slot.gguf.clone(), slot.gguf_shape(), 0),
            false => fused(&slot, config).unwrap_or_else(|| (slot.gguf.clone(), slot.gguf_shape(), 0)),
        };
        let place = places.get(name.as_str()).copied();
        let place =
            place.ok_or_else(|| GgufError::tensor(&slot.gguf, "it is missing, and the model needs it"))?;
        let info = &infos[place];
        if info.shape != shape {
            let what = format!("its shape is {:?}, where the metadata say {shape:?}", info.shape);
            return Err(GgufError::tensor(&info.name, what));
        }
        is_used[place] = true;
        let Slot { name, shape, form, .. } = slot;
        tensors.push(ImportedTensor { name, shape, kind: info.kind, place, first_row, form });
    }
    // The scaling of RoPE was taken from the one; of the other it is known that it is the embedding once more.
    let is_read = |name: &str| name == ROPE_FREQS || (name == HEAD && config.tied);
    let rest = infos.iter().zip(is_used).find(|(info, is_used)| !is_used && !is_read(&info.name));
    match rest {
        Some((info, _)) => {
            let what = format!("it is no part of a {} as Kiln knows it", architecture(config.family));
            Err(GgufError::tensor(&info.name, what))
        }
        None => Ok(tensors),
    }
}

/// Where the rows of queries, keys or values are in a file that keeps the three in one tensor: its name, its shape and the
/// first row.
fn fused(slot: &Slot, config: &ModelConfig) -> Option<(String, Vec<usize>, usize)> {
    let (queries, keys) = (config.attention_width(), config.kv_width());
    let maps = [(".attn_q.", 0), (".attn_k.", queries), (".attn_v.", queries + keys)];
    let (map, first_row) = maps.into_iter().find(|(map, _)| slot.gguf.contains(map))?;
    let mut shape = slot.gguf_shape();
    shape[0] = queries + 2 * keys;
    Some((slot.gguf.replace(map, ".attn_qkv."), shape, first_row))
}
