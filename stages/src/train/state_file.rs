//! The file of a checkpoint.
//!
//! Purpose: counters, tensors and their origin in one file that tells when it is damaged.
//! Invariant: a file is written durably, and is absent or complete (written beside its place, synced,
//! renamed); reading takes no more memory than the state needs, whatever the file's own lengths say;
//! the tensors are looked at only after the checksum.
//! Must not know: when a checkpoint is due, what the tensors are.
//!
//! Layout: [`MAGIC`] (the format's name and version), SHA-256 of everything that follows (32 bytes),
//! then a safetensors file whose metadata has `origin` and `counters` as JSON.
//! It is written and read piece by piece, so that the state is in memory once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use kiln_formats::model::safetensors::{TensorFile, bytes_of};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::origin::{Origin, hex};
use super::state::{Reader, Saved};
use crate::kernels::cpu::memory;

/// How a file begins; the number is the format's version.
pub const MAGIC: &[u8] = b"kiln.checkpoint/3\n";
/// Bytes of a SHA-256.
const CHECKSUM: usize = 32;
/// What a file may have beside its values: names, shapes, counters, origin.
const HEADER_LIMIT: u64 = 4 << 20;

/// A file whose checksum is right.
pub struct StateFile {
    file: File,
    size: u64,
    checksum: [u8; CHECKSUM],
}

impl StateFile {
    /// Reads a file of at most `values` f32 values; none where there is no file.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn read(path: &Path, values: u64) -> Result<Option<Self>, String> {
        let limit = values.saturating_mul(4).saturating_add(HEADER_LIMIT);
        let size = match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => found.len(),
            // Opening a pipe would wait for ever.
            Ok(_) => return Err("it is not a regular file".to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        if size > limit {
            return Err(format!("it has {size} bytes, and this stage's state needs at most {limit}"));
        }
        let file = File::open(path).map_err(|e| e.to_string())?;
        Self::check(file, size).map(Some)
    }

    fn check(file: File, size: u64) -> Result<Self, String> {
        let mut reader = (&file).take(size);
        let mut magic = vec![0; MAGIC.len()];
        reader.read_exact(&mut magic).map_err(|e| short(e, "it has another format, or is damaged"))?;
        if magic != MAGIC {
            return Err("it has another format, or is damaged".to_owned());
        }
        let mut checksum = [0; CHECKSUM];
        reader.read_exact(&mut checksum).map_err(|e| short(e, "it is truncated"))?;
        let mut hasher = Sha256::new();
        io::copy(&mut BufReader::with_capacity(1 << 20, reader), &mut hasher).map_err(|e| e.to_string())?;
        if hasher.finalize().as_slice() != checksum {
            return Err("it is damaged: its checksum is wrong".to_owned());
        }
        Ok(Self { file, size, checksum })
    }

    /// The checksum in hexadecimal digits: the name of this state.
    pub fn checksum(&self) -> String {
        hex(&self.checksum)
    }

    /// The state, if it is of this origin.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn parse(&self, origin: &Origin) -> Result<Reader, String> {
        let file = TensorFile::open(&self.file, (MAGIC.len() + CHECKSUM) as u64, self.size)?;
        let named = file.header().metadata().as_ref();
        let text = |name: &str| named.and_then(|m| m.get(name)).ok_or(format!("it has no `{name}`"));
        let found: Origin = serde_json::from_str(text("origin")?).map_err(|e| format!("its origin: {e}"))?;
        if let Some(reason) = found.conflict(origin) {
            return Err(reason);
        }
        let counters = serde_json::from_str(text("counters")?).map_err(|e| format!("its counters: {e}"))?;
        let mut tensors = BTreeMap::new();
        for (name, info) in file.header().tensors() {
            let mut values = memory::zeros(info.shape.iter().product());
            file.read(&name, &[values.len()], &mut values)?;
            tensors.insert(name, values);
        }
        Ok(Reader { counters, tensors })
    }

    /// Writes a state durably: after a return without an error it survives a loss of power.
    ///
    /// # Errors
    /// Those of writing; an earlier file is then as it was.
    pub fn write(path: &Path, origin: &Origin, state: &Saved) -> io::Result<()> {
        let header = header(origin, state)?;
        replace(path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&[0; CHECKSUM])?;
            let mut hasher = Sha256::new();
            let mut write = |bytes: &[u8]| {
                hasher.update(bytes);
                file.write_all(bytes)
            };
            write(&(header.len() as u64).to_le_bytes())?;
            write(&header)?;
            for (_, values) in &state.tensors {
                // In pieces, so that what was hashed is still in the cache when it is written.
                values.chunks(1 << 16).try_for_each(|piece| write(&bytes_of(piece)))?;
            }
            file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
            file.write_all(&hasher.finalize())
        })
    }
}

/// The header of a safetensors file, filled up with spaces to a multiple of 8 bytes.
fn header(origin: &Origin, state: &Saved) -> io::Result<Vec<u8>> {
    let metadata = json!({
        "origin": serde_json::to_string(origin)?,
        "counters": serde_json::to_string(&state.counters)?,
    });
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata)]);
    let mut end = 0;
    for (name, values) in &state.tensors {
        let start = end;
        end += 4 * values.len();
        let entry = json!({ "dtype": "F32", "shape": [values.len()], "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let mut text = serde_json::to_vec(&header)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// What to say of a file that ends too early, or that cannot be read.
fn short(e: io::Error, words: &str) -> String {
    if e.kind() == io::ErrorKind::UnexpectedEof { words.to_owned() } else { e.to_string() }
}

/// Replaces a file, atomically and durably, by what `write` writes.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
