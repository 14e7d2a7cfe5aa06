//! The bytes of a file of Parquet, at any place.
//!
//! Purpose: gives the crate `parquet` and our own checks the bytes between two places.
//! Invariants: nothing is read beyond the end; a compressed file is decompressed into memory, up to a limit.
//! Must not know: what the bytes mean.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::super::RecordError;
use super::super::files::DataFile;
use super::super::input::{Compression, Input};

/// The largest file that was compressed as a whole, in bytes: it is decompressed into memory.
const LARGEST_IN_MEMORY: u64 = 1 << 30;

/// A file of Parquet.
#[derive(Clone)]
pub(super) enum Source {
    File(Arc<File>, u64),
    Memory(Arc<[u8]>),
}

impl Source {
    pub(super) fn open(file: &DataFile) -> Result<Self, RecordError> {
        let io = |error| RecordError::read(&file.path, error);
        match (&file.input, file.compression) {
            (Input::File(path), Compression::None) => {
                let file = File::open(path).map_err(io)?;
                let length = file.metadata().map_err(io)?.len();
                Ok(Self::File(Arc::new(file), length))
            }
            (Input::Bytes(bytes), Compression::None) => Ok(Self::Memory(Arc::clone(bytes))),
            (input, compression) => {
                let mut bytes = Vec::new();
                input.bytes(compression, LARGEST_IN_MEMORY)?.read_to_end(&mut bytes).map_err(io)?;
                Ok(Self::Memory(bytes.into()))
            }
        }
    }

    /// The bytes from a place on, at most so many.
    pub(super) fn bytes(&self, from: u64, most: u64) -> std::io::Result<Vec<u8>> {
        let length = most.min(self.len().saturating_sub(from));
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let all = bytes.get(from..).unwrap_or_default();
                Ok(all.get(..length as usize).unwrap_or_default().to_vec())
            }
            Self::File(file, _) => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, from)?;
                Ok(bytes)
            }
        }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl ChunkReader for Source {
    type T = From;

    fn get_read(&self, start: u64) -> Result<From> {
        Ok(From { source: self.clone(), at: start, buffer: Vec::new(), taken: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.bytes(start, length as u64)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("the file ends before the page does".into()));
        }
        Ok(bytes.into())
    }
}

/// A stream from a place on.
pub(super) struct From {
    source: Source,
    at: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl Read for From {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.taken == self.buffer.len() {
            // The header of a page, which is all that is read so, is seldom longer.
            self.buffer = self.source.bytes(self.at, 512)?;
            self.at += self.buffer.len() as u64;
            self.taken = 0;
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.taken += length;
        Ok(length)
    }
}
