//! The bytes of a shard, at any place.
//!
//! Invariant: nothing is read beyond the end; the size is known before anything is read.
//! Must not know: what the bytes mean.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A file, or bytes in memory for fuzzing.
#[derive(Debug)]
pub(super) enum Store {
    File(File, u64),
    Memory(Arc<[u8]>),
}

impl Store {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self::File(file, size))
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// So many bytes from this place on; memory is taken only for bytes that are there.
    pub(super) fn read(&self, at: u64, count: u64) -> io::Result<Vec<u8>> {
        let end = at.checked_add(count).filter(|&end| end <= self.size());
        let range = end.and_then(|end| Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?));
        let Some(range) = range else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        };
        match self {
            Self::File(file, _) => {
                let mut bytes = vec![0; range.len()];
                file.read_exact_at(&mut bytes, at)?;
                Ok(bytes)
            }
            Self::Memory(bytes) => Ok(bytes.get(range).unwrap_or_default().to_vec()),
        }
    }
}
