//! Models on disk: a safetensors file of named tensors, and the folder around it.
//!
//! Purpose: `config.json`, `model.safetensors` and the tokenizer's files make a model folder.
//! Invariant: a file is read only if its names, shapes and sizes are those that the shape in
//! `config.json` asks for; a hostile file costs an error, not memory. No value that is not finite is read or written.
//! Must not know: what the model is for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use half::bf16;
use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, View};

use super::config::{ModelConfig, ShapeError};
use super::layout::Layout;
use super::network::{self, Network};
use crate::context::StageError;

/// The shape's file.
pub const CONFIG: &str = "config.json";
/// The weights' file.
pub const WEIGHTS: &str = "model.safetensors";
/// `config.json` is never longer.
const CONFIG_LIMIT: u64 = 1 << 20;
/// A safetensors header is never longer.
const HEADER_LIMIT: u64 = 4 << 20;

/// What may be wrong with a model folder.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ModelError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}; it is no model of this Kiln, or damaged", path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error(
        "{}: the tensor `{tensor}` would hold a value that is not finite, so nothing is written; the training has \
         diverged: try a smaller learning rate",
        path.display()
    )]
    NotFinite { path: PathBuf, tensor: String },
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl From<ModelError> for StageError {
    fn from(e: ModelError) -> Self {
        Self::failed(e)
    }
}

fn malformed(path: &Path, reason: impl ToString) -> ModelError {
    ModelError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError {
    move |source| ModelError::Io { path: path.to_owned(), source }
}

/// Numbers as a tensor of a safetensors file.
struct Values<'a> {
    values: &'a [f32],
    shape: &'a [usize],
    dtype: Dtype,
}

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        match self.dtype {
            Dtype::BF16 => {
                Cow::Owned(self.values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect())
            }
            _ => bytes_of(self.values),
        }
    }
    fn data_len(&self) -> usize {
        self.values.len() * if self.dtype == Dtype::BF16 { 2 } else { 4 }
    }
}

/// The bytes of numbers, little-endian.
pub fn bytes_of(values: &[f32]) -> Cow<'_, [u8]> {
    match cfg!(target_endian = "little") {
        true => Cow::Borrowed(bytemuck::cast_slice(values)),
        false => Cow::Owned(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
    }
}

/// Writes parameters as a safetensors file: to a temporary name, then renamed.
///
/// # Errors
/// Those of writing; a value that is not finite.
fn write_weights(path: &Path, model: &Network) -> Result<(), ModelError> {
    let (layout, weights) = (model.layout(), model.weights().values());
    let dtype = match model.dtype() {
        network::Dtype::Float32 => Dtype::F32,
        network::Dtype::Bfloat16 => Dtype::BF16,
    };
    let mut views = Vec::with_capacity(layout.entries().len());
    for entry in layout.entries() {
        let values = &weights[entry.range.clone()];
        if !values.iter().all(|x| x.is_finite()) {
            return Err(ModelError::NotFinite { path: path.to_owned(), tensor: entry.name.clone() });
        }
        // A scalar head is scaled and shifted after its training, and keeps that to the last digit.
        let dtype = if entry.name.starts_with("value_head.") { Dtype::F32 } else { dtype };
        views.push((entry.name.as_str(), Values { values, shape: &entry.shape, dtype }));
    }
    let temporary = path.with_extension("tmp");
    safetensors::serialize_to_file(views, None, &temporary).map_err(|e| match e {
        SafeTensorError::IoError(source) => ModelError::Io { path: temporary.clone(), source },
        other => malformed(&temporary, other),
    })?;
    std::fs::rename(&temporary, path).map_err(io(path))
}

/// Writes a file so that it is either absent or whole.
///
/// # Errors
/// Those of writing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).map_err(io(&temporary))?;
    std::fs::rename(&temporary, path).map_err(io(path))
}

/// The size of a regular file; a device or a pipe has none and might never end.
fn file_size(path: &Path) -> Result<u64, ModelError> {
    let found = std::fs::metadata(path).map_err(io(path))?;
    if found.is_file() { Ok(found.len()) } else { Err(malformed(path, "it is no regular file")) }
}

/// A safetensors file of tensors in f32 or bf16 that is read tensor by tensor, each into its place.
pub struct TensorFile<'f> {
    file: &'f File,
    header: Metadata,
    /// Where the values begin.
    start: u64,
}

impl<'f> TensorFile<'f> {
    /// Reads the header of a file that begins at `offset` and ends with `end`.
    ///
    /// # Errors
    /// Why it cannot be read; the tensors are exactly what follows the header.
    pub fn open(file: &'f File, offset: u64, end: u64) -> Result<Self, String> {
        let mut length = [0; 8];
        read_at(file, offset, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_LIMIT || offset + 8 + length > end {
            return Err(format!("its header claims {length} bytes"));
        }
        let mut bytes = vec![0; length as usize];
        read_at(file, offset + 8, &mut bytes)?;
        // This checks that the tensors lie one after the other, each as long as its shape says.
        let header: Metadata = serde_json::from_slice(&bytes).map_err(|e| format!("its header: {e}"))?;
        let start = offset + 8 + length;
        let values = header.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0);
        match start + values as u64 == end {
            true => Ok(Self { file, header, start }),
            false => Err("its size is not what its header says".to_owned()),
        }
    }

    /// The header.
    pub fn header(&self) -> &Metadata {
        &self.header
    }

    /// Reads the values of a tensor of this shape.
    ///
    /// # Errors
    /// When it is missing, or of another type or shape.
    pub fn read(&self, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), String> {
        let info = self.header.info(name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
        let start = self.start + info.data_offsets.0 as u64;
        match info.dtype {
            Dtype::F32 if info.shape == shape => {
                read_at(self.file, start, bytemuck::cast_slice_mut(into))?;
                // The file is little-endian.
                into.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
            }
            Dtype::BF16 if info.shape == shape => {
                let mut bytes = vec![0; 2 * into.len()];
                read_at(self.file, start, &mut bytes)?;
                let value = |bytes: &[u8]| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                into.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, bytes)| *x = value(bytes));
            }
            _ => {
                let seen = format!("{:?} of shape {:?}", info.dtype, info.shape);
                return Err(format!("tensor `{name}` is {seen}, wanted F32 or BF16 of {shape:?}"));
            }
        }
        Ok(())
    }
}

fn read_at(file: &File, offset: u64, into: &mut [u8]) -> Result<(), String> {
    file.read_exact_at(into, offset).map_err(|e| e.to_string())
}

/// Reads the parameters of a layout from a safetensors file.
///
/// # Errors
/// When it cannot be read, or does not hold exactly the tensors of the layout, finite, in f32 or bf16.
pub fn read_weights(path: &Path, layout: &Layout) -> Result<Vec<f32>, ModelError> {
    let (size, least) = (file_size(path)?, layout.len() as u64 * 2);
    // A shape that claims more than the file holds makes no room for it.
    if size < least || size > 2 * least + HEADER_LIMIT {
        let word = if size < least { "fewer" } else { "more" };
        return Err(malformed(path, format!("{size} bytes are {word} than {} values need", layout.len())));
    }
    let opened = File::open(path).map_err(io(path))?;
    let file = TensorFile::open(&opened, 0, size).map_err(|reason| malformed(path, reason))?;
    let known: BTreeSet<&str> = layout.entries().iter().map(|entry| entry.name.as_str()).collect();
    if let Some(name) = file.header().tensors().keys().find(|name| !known.contains(name.as_str())) {
        return Err(malformed(path, format!("tensor `{name}` is not part of this model")));
    }
    let mut weights = vec![0.0; layout.len()];
    for entry in layout.entries() {
        let values = &mut weights[entry.range.clone()];
        file.read(&entry.name, &entry.shape, values).map_err(|reason| malformed(path, reason))?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(malformed(path, format!("tensor `{}` has a value that is not finite", entry.name)));
        }
    }
    Ok(weights)
}

/// Writes shape and weights into a folder.
///
/// # Errors
/// Those of writing.
pub fn save(folder: &Path, model: &Network) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let path = folder.join(CONFIG);
    let mut text = serde_json::to_string_pretty(model.config()).map_err(|e| malformed(&path, e))?;
    text.push('\n');
    write_whole(&path, text.as_bytes())?;
    write_weights(&folder.join(WEIGHTS), model)
}

/// Reads the shape of the model in a folder.
///
/// # Errors
/// When it is missing, malformed or impossible.
pub fn read_config(folder: &Path) -> Result<ModelConfig, ModelError> {
    let path = folder.join(CONFIG);
    if file_size(&path)? > CONFIG_LIMIT {
        return Err(malformed(&path, "too long"));
    }
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let config: ModelConfig = serde_json::from_str(&text).map_err(|e| malformed(&path, e))?;
    config.check()?;
    Ok(config)
}

/// Reads the model in a folder, with or without a scalar head.
///
/// # Errors
/// When shape or weights are missing, malformed or do not fit each other.
pub fn load(folder: &Path, has_value_head: bool, device: &Device) -> Result<Network, ModelError> {
    let config = read_config(folder)?;
    let path = folder.join(WEIGHTS);
    let layout = Layout::new(&config, has_value_head);
    let weights = read_weights(&path, &layout)?;
    Ok(Network::new(&config, has_value_head, weights, device))
}
