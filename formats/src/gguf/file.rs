//! A GGUF file: its metadata, and its tensors as f32.
//!
//! Purpose: opens a file or bytes, and reads tensors whole or by rows.
//! Invariant: what was opened can be read wholly; the memory of a reading is that of the values and one chunk.
//! Must not know: models.

use std::path::{Path, PathBuf};

use super::parse::{Header, parse};
use super::tensor::decode;
use super::{FileSource, GgufError, Metadata, ReadAt, TensorKind};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// The lengths of its dimensions, the slowest first, as in PyTorch and Hugging Face; the file has them the other way
    /// round.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub kind: TensorKind,
    /// Where its bytes begin in the file.
    pub(super) offset: u64,
    /// How many bytes it has.
    pub(super) bytes: u64,
}

impl TensorInfo {
    /// The number of its values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never so in a file that was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of a row: the fastest dimension.
    pub fn row(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// An open GGUF file, or one in memory.
#[derive(Debug)]
pub struct GgufFile<S = FileSource> {
    source: S,
    path: Option<PathBuf>,
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl GgufFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, or is no whole GGUF file of version 2 or 3.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let opened = FileSource::open(path).and_then(Self::new);
        let mut file = opened.map_err(|error| error.in_file(path))?;
        file.path = Some(path.to_path_buf());
        Ok(file)
    }
}

impl<S: ReadAt> GgufFile<S> {
    /// Reads the header of a file from any source.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn new(source: S) -> Result<Self, GgufError> {
        let Header { version, metadata, tensors } = parse(&source)?;
        Ok(Self { source, path: None, version, metadata, tensors })
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors, in the order of the file's table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|info| info.name == name)
    }

    /// Reads a tensor as f32, in the place of what `out` held.
    ///
    /// F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K give the bits that `gguf.quants.dequantize` gives.
    ///
    /// # Errors
    /// When there is no such tensor, its type is another, or the file cannot be read.
    pub fn read_tensor(&self, name: &str, out: &mut Vec<f32>) -> Result<(), GgufError> {
        let info = self.tensor(name);
        let info = info.ok_or_else(|| self.named(GgufError::tensor(name, "the file has no such tensor")))?;
        reserve(out, info.len()).map_err(|what| self.named(GgufError::tensor(name, what)))?;
        self.read_values(info, 0, out)
    }

    /// Reads values of a tensor from the value `first` on, which begins a block, as many as `out` has, whole blocks.
    pub(super) fn read_values(
        &self,
        info: &TensorInfo,
        first: usize,
        out: &mut [f32],
    ) -> Result<(), GgufError> {
        let kind = info.kind;
        let refuse = |what: String| self.named(GgufError::tensor(&info.name, what));
        if !kind.is_readable() {
            let what = format!(
                "its type {} is not read; quantize the model to Q8_0 or Q6_K, or give it in F16",
                kind.name()
            );
            return Err(refuse(what));
        }
        let (block, block_bytes) = (kind.block(), kind.block_bytes());
        let is_whole = first.is_multiple_of(block) && out.len().is_multiple_of(block);
        if !is_whole || first.saturating_add(out.len()) > info.len() {
            return Err(refuse(format!("values {first} and {} on are no blocks of it", out.len())));
        }
        let mut offset = info.offset + (first / block * block_bytes) as u64;
        let blocks = (CHUNK / block_bytes).min(out.len() / block).max(1);
        let mut bytes = vec![0; blocks * block_bytes];
        for part in out.chunks_mut(blocks * block) {
            let bytes = &mut bytes[..part.len() / block * block_bytes];
            self.source.read_at(offset, bytes).map_err(|error| self.named(GgufError::io(error)))?;
            offset += bytes.len() as u64;
            decode(kind, bytes, part);
        }
        Ok(())
    }

    /// Reads the bytes of a tensor as they are.
    pub(super) fn read_bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, GgufError> {
        let mut bytes = vec![0; info.bytes as usize];
        self.source.read_at(info.offset, &mut bytes).map_err(|error| self.named(GgufError::io(error)))?;
        Ok(bytes)
    }

    /// Whether two tensors have the same shape, type and bytes.
    pub(super) fn are_equal(&self, one: &TensorInfo, other: &TensorInfo) -> Result<bool, GgufError> {
        if (&one.shape, one.kind) != (&other.shape, other.kind) {
            return Ok(false);
        }
        let mut parts = (vec![0; CHUNK], vec![0; CHUNK]);
        for at in (0..one.bytes).step_by(CHUNK) {
            let size = (one.bytes - at).min(CHUNK as u64) as usize;
            let (ours, theirs) = (&mut parts.0[..size], &mut parts.1[..size]);
            let read = self.source.read_at(one.offset + at, ours);
            let read = read.and_then(|()| self.source.read_at(other.offset + at, theirs));
            read.map_err(|error| self.named(GgufError::io(error)))?;
            if ours != theirs {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// An error of this file.
    pub(super) fn named(&self, error: GgufError) -> GgufError {
        match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        }
    }
}

/// Makes `out` hold `len` values.
pub(super) fn reserve(out: &mut Vec<f32>, len: usize) -> Result<(), String> {
    out.clear();
    out.try_reserve_exact(len).map_err(|_| format!("its {len} values do not fit the memory"))?;
    out.resize(len, 0.0);
    Ok(())
}
