//! Weights on disk: safetensors files, one or several with an index.
//!
//! Purpose: reads tensors one by one, each into its place, as f32; writes them to one file or to several.
//! Invariant: a file is as long as its header says, tensors do not overlap, and an index names files of its own folder
//! alone; a hostile file costs an error, not memory. A write leaves a whole file or none.
//! Must not know: what the tensors are.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata};
use safetensors::{SafeTensorError, View};
use serde::Deserialize;
use serde_json::json;

/// The file of weights that are not cut into several.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of the tensors of several files.
pub const INDEX: &str = "model.safetensors.index.json";
/// A header is never longer.
const HEADER_LIMIT: u64 = 16 << 20;
/// An index is never longer.
const INDEX_LIMIT: u64 = 64 << 20;
/// Files that weights may be cut into.
const MOST_FILES: usize = 1 << 12;

/// Why weights cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum WeightsError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
}

impl WeightsError {
    /// A file that is not what it should be.
    pub fn malformed(path: &Path, reason: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.to_string() }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WeightsError {
    move |source| WeightsError::Io { path: path.to_owned(), source }
}

/// The size of a regular file; a device or a pipe has none and might never end.
///
/// # Errors
/// When it is missing or no regular file.
pub fn file_size(path: &Path) -> Result<u64, WeightsError> {
    let found = std::fs::metadata(path).map_err(io(path))?;
    if found.is_file() {
        Ok(found.len())
    } else {
        Err(WeightsError::malformed(path, "it is no regular file"))
    }
}

/// A safetensors file, or a part of a file that is one.
#[derive(Debug)]
pub struct TensorFile<F> {
    file: F,
    header: Metadata,
    /// Where the values begin.
    start: u64,
}

impl<F: Borrow<File>> TensorFile<F> {
    /// Reads the header of a file that begins at `offset` and ends with `end`.
    ///
    /// # Errors
    /// Why it cannot be read; the tensors are exactly what follows the header.
    pub fn open(file: F, offset: u64, end: u64) -> Result<Self, String> {
        let mut bytes = vec![0; 8];
        read_at(file.borrow(), offset, &mut bytes)?;
        let size = end.saturating_sub(offset);
        let length = header_length(&bytes, size)?;
        bytes.resize(8 + length, 0);
        read_at(file.borrow(), offset + 8, &mut bytes[8..])?;
        let (start, header) = header(&bytes, size)?;
        Ok(Self { file, header, start: offset + start })
    }

    /// The header.
    pub fn header(&self) -> &Metadata {
        &self.header
    }

    /// Reads the values of a tensor of this shape, stored as f32, f16 or bf16.
    ///
    /// # Errors
    /// When it is missing, or of another type or shape.
    pub fn read(&self, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), String> {
        let info = self.header.info(name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
        let start = self.start + info.data_offsets.0 as u64;
        let fits = info.shape == shape && shape.iter().product::<usize>() == into.len();
        match info.dtype {
            Dtype::F32 if fits => {
                read_at(self.file.borrow(), start, bytemuck::cast_slice_mut(into))?;
                // The file is little-endian.
                into.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
            }
            Dtype::BF16 if fits => {
                self.read_halves(start, into, |bytes| bf16::from_le_bytes(bytes).to_f32())?
            }
            Dtype::F16 if fits => {
                self.read_halves(start, into, |bytes| f16::from_le_bytes(bytes).to_f32())?
            }
            _ => {
                let seen = format!("{:?} of shape {:?}", info.dtype, info.shape);
                return Err(format!("tensor `{name}` is {seen}, wanted F32, F16 or BF16 of {shape:?}"));
            }
        }
        Ok(())
    }

    fn read_halves(&self, start: u64, into: &mut [f32], value: fn([u8; 2]) -> f32) -> Result<(), String> {
        /// Numbers at a time.
        const PART: usize = 1 << 16;
        let mut bytes = vec![0; 2 * PART.min(into.len())];
        for (i, part) in into.chunks_mut(PART).enumerate() {
            let bytes = &mut bytes[..2 * part.len()];
            read_at(self.file.borrow(), start + (2 * PART * i) as u64, bytes)?;
            part.iter_mut()
                .zip(bytes.chunks_exact(2))
                .for_each(|(x, bytes)| *x = value([bytes[0], bytes[1]]));
        }
        Ok(())
    }
}

/// The length of a header, by the first bytes of a file of this size.
fn header_length(bytes: &[u8], size: u64) -> Result<usize, String> {
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let length = length.ok_or("it is too short for a safetensors file")?;
    match length <= size.saturating_sub(8).min(HEADER_LIMIT) {
        true => Ok(length as usize),
        false => Err(format!("its header claims {length} bytes")),
    }
}

/// The place of the first value, and the header, in the first bytes of a safetensors file of this size.
///
/// # Errors
/// Why it is none; the tensors are exactly what follows the header.
pub fn header(bytes: &[u8], size: u64) -> Result<(u64, Metadata), String> {
    let start = 8 + header_length(bytes, size)?;
    let text = bytes.get(8..start).ok_or("it ends within its header")?;
    // This checks that the tensors lie one after the other, each as long as its shape says.
    let header: Metadata = serde_json::from_slice(text).map_err(|e| format!("its header: {e}"))?;
    let values = header.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0);
    match (start as u64).checked_add(values as u64) == Some(size) {
        true => Ok((start as u64, header)),
        false => Err("its size is not what its header says".to_owned()),
    }
}

fn read_at(file: &File, offset: u64, into: &mut [u8]) -> Result<(), String> {
    file.read_exact_at(into, offset).map_err(|e| e.to_string())
}

/// The weights of a folder.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(PathBuf, TensorFile<File>)>,
    /// The file of each tensor.
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names, and reads their headers.
    ///
    /// # Errors
    /// When they are missing or malformed, or hold other tensors than the index says.
    pub fn open(folder: &Path) -> Result<Self, WeightsError> {
        let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        if single.exists() || !index.exists() {
            return Self::read_files(vec![single]);
        }
        let bytes = match file_size(&index)? {
            size if size > INDEX_LIMIT => return Err(WeightsError::malformed(&index, "too long")),
            _ => std::fs::read(&index).map_err(io(&index))?,
        };
        let Index { weight_map } =
            serde_json::from_slice(&bytes).map_err(|e| WeightsError::malformed(&index, e))?;
        let mut names: Vec<&String> = weight_map.values().collect();
        names.sort();
        names.dedup();
        if names.len() > MOST_FILES {
            return Err(WeightsError::malformed(&index, format!("it names {} files", names.len())));
        }
        for name in &names {
            if name.contains(['/', '\\', '\0']) || !name.ends_with(".safetensors") {
                let reason =
                    format!("it names the file {name:?}, which is no safetensors file of its folder");
                return Err(WeightsError::malformed(&index, reason));
            }
        }
        let found = Self::read_files(names.iter().map(|name| folder.join(name)).collect())?;
        for (tensor, file) in &weight_map {
            let at = found.places.get(tensor).map(|i| &found.files[*i].0);
            if at != Some(&folder.join(file)) {
                let reason = format!("it says that tensor `{tensor}` is in {file}, which does not hold it");
                return Err(WeightsError::malformed(&index, reason));
            }
        }
        match found.places.keys().find(|tensor| !weight_map.contains_key(*tensor)) {
            Some(tensor) => Err(WeightsError::malformed(&index, format!("tensor `{tensor}` is not in it"))),
            None => Ok(found),
        }
    }

    fn read_files(paths: Vec<PathBuf>) -> Result<Self, WeightsError> {
        let (mut files, mut places) = (Vec::new(), BTreeMap::new());
        for path in paths {
            let size = file_size(&path)?;
            let file = File::open(&path).map_err(io(&path))?;
            let file = TensorFile::open(file, 0, size).map_err(|e| WeightsError::malformed(&path, e))?;
            for name in file.header().tensors().into_keys() {
                if let Some(other) = places.insert(name.clone(), files.len()) {
                    let (other, _): &(PathBuf, _) = &files[other];
                    let reason = format!("tensor `{name}` is in {} too", other.display());
                    return Err(WeightsError::malformed(&path, reason));
                }
            }
            files.push((path, file));
        }
        Ok(Self { files, places })
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        let (_, file) = &self.files[*self.places.get(name)?];
        file.header().info(name).map(|info| info.shape.as_slice())
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// A complaint about the file in which a tensor is, or should be.
    pub fn malformed(&self, tensor: &str, reason: impl ToString) -> WeightsError {
        let at = self.places.get(tensor).copied().unwrap_or(0);
        WeightsError::malformed(&self.files[at].0, reason)
    }

    /// Reads the values of a tensor of this shape.
    ///
    /// # Errors
    /// When it is missing, of another type or shape, or has a value that is not finite.
    pub fn read(&self, name: &str, shape: &[usize], into: &mut [f32]) -> Result<(), WeightsError> {
        let fail = |reason: String| self.malformed(name, reason);
        let at = self.places.get(name).ok_or_else(|| fail(format!("tensor `{name}` is missing")))?;
        self.files[*at].1.read(name, shape, into).map_err(fail)?;
        match into.iter().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err(fail(format!("tensor `{name}` has a value that is not finite"))),
        }
    }
}

/// What numbers are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// 32 bits.
    F32,
    /// 16 bits, with the range of 32 and 8 significant ones.
    Bf16,
}

/// A tensor that is to be written.
pub struct Tensor<'a> {
    /// Its name.
    pub name: String,
    /// Its shape, `[n]` or `[rows, columns]`.
    pub shape: Vec<usize>,
    /// What it is stored as.
    pub stored: Stored,
    /// Gives its values, row by row; called once, when they are written.
    pub values: Box<dyn Fn() -> Cow<'a, [f32]> + 'a>,
}

impl Tensor<'_> {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * if self.stored == Stored::F32 { 4 } else { 2 }
    }
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        if self.stored == Stored::F32 { Dtype::F32 } else { Dtype::BF16 }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = (self.values)();
        match (self.stored, values) {
            (Stored::Bf16, values) => {
                Cow::Owned(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect())
            }
            (Stored::F32, Cow::Borrowed(values)) => bytes_of(values),
            (Stored::F32, Cow::Owned(values)) => Cow::Owned(bytes_of(&values).into_owned()),
        }
    }

    fn data_len(&self) -> usize {
        self.bytes()
    }
}

/// The bytes of numbers, little-endian.
pub fn bytes_of(values: &[f32]) -> Cow<'_, [u8]> {
    match cfg!(target_endian = "little") {
        true => Cow::Borrowed(bytemuck::cast_slice(values)),
        false => Cow::Owned(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
    }
}

/// Writes tensors into a folder: to `model.safetensors`, or, beyond `most` bytes, to several files with an index. Each file
/// is written under a temporary name and then renamed.
///
/// # Errors
/// Those of writing.
pub fn write(folder: &Path, tensors: &[Tensor], most: usize) -> Result<(), WeightsError> {
    let (mut parts, mut size) = (vec![Vec::new()], 0usize);
    for tensor in tensors {
        if size > 0 && size + tensor.bytes() > most {
            parts.push(Vec::new());
            size = 0;
        }
        size += tensor.bytes();
        if let Some(part) = parts.last_mut() {
            part.push(tensor);
        }
    }
    if let [part] = &parts[..] {
        return write_file(&folder.join(WEIGHTS), part);
    }
    let mut map = BTreeMap::new();
    for (i, part) in parts.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, parts.len());
        write_file(&folder.join(&name), part)?;
        map.extend(part.iter().map(|tensor| (tensor.name.as_str(), name.clone())));
    }
    let total: usize = tensors.iter().map(Tensor::bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let path = folder.join(INDEX);
    let text = serde_json::to_string_pretty(&index).map_err(|e| WeightsError::malformed(&path, e))?;
    write_whole(&path, (text + "\n").as_bytes())
}

/// Writes tensors to one file, under a temporary name that is then changed.
///
/// # Errors
/// Those of writing.
pub fn write_file(path: &Path, tensors: &[&Tensor]) -> Result<(), WeightsError> {
    let temporary = path.with_extension("tmp");
    // Programs that read PyTorch's weights look for this.
    let about = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), *tensor));
    safetensors::serialize_to_file(views, Some(about), &temporary).map_err(|e| match e {
        SafeTensorError::IoError(source) => WeightsError::Io { path: temporary.clone(), source },
        other => WeightsError::malformed(&temporary, other),
    })?;
    std::fs::rename(&temporary, path).map_err(io(path))
}

/// Writes a file so that it is either absent or whole.
///
/// # Errors
/// Those of writing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).map_err(io(&temporary))?;
    std::fs::rename(&temporary, path).map_err(io(path))
}
