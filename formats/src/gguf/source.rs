//! Where the bytes of a GGUF file come from.
//!
//! Purpose: one reader for files and for bytes in memory, and a cursor over either that never runs past the end.
//! Invariant: a length that a file claims is compared with what is left before anything is allocated.
//! Must not know: what the bytes mean.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::GgufError;

/// Bytes that can be read at any place.
pub trait ReadAt {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// Those of reading; an end before `into` is full.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| self.get(start..start.checked_add(into.len())?));
        into.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, into)
    }
}

/// A regular file, with the size that it had when it was opened.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens a file.
    ///
    /// # Errors
    /// Those of opening; a device or a pipe, which has no size and might never end.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        // The kind is asked before the opening, which would wait for the other end of a pipe.
        if !std::fs::metadata(path).map_err(GgufError::io)?.is_file() {
            return Err(GgufError::whole("it is no regular file"));
        }
        let file = File::open(path).map_err(GgufError::io)?;
        let size = file.metadata().map_err(GgufError::io)?.len();
        Ok(Self { file, size })
    }
}

impl ReadAt for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

/// Bytes that are read ahead.
const AHEAD: u64 = 1 << 16;

/// A cursor that reads from the beginning on, in bounds.
pub(super) struct Cursor<'s, S> {
    source: &'s S,
    /// Nothing is read from here on.
    end: u64,
    at: u64,
    ahead: Vec<u8>,
    /// Where `ahead` begins.
    ahead_at: u64,
}

impl<'s, S: ReadAt> Cursor<'s, S> {
    /// A cursor at the beginning, over at most `limit` bytes.
    pub(super) fn new(source: &'s S, limit: u64) -> Self {
        Self { source, end: source.size().min(limit), at: 0, ahead: Vec::new(), ahead_at: 0 }
    }

    /// The byte that is read next.
    pub(super) fn offset(&self) -> u64 {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    fn ended(&self, wanted: u64, what: &str) -> GgufError {
        let end = if self.end < self.source.size() { "Kiln reads no more metadata" } else { "the file ends" };
        GgufError::at(self.at, format!("{what} of {wanted} bytes, but {end} at byte {}", self.end))
    }

    /// Whether `count` things of at least `least` bytes can follow.
    pub(super) fn expect(&self, count: u64, least: u64, what: &str) -> Result<(), GgufError> {
        match count.checked_mul(least) {
            Some(bytes) if bytes <= self.left() => Ok(()),
            bytes => Err(self.ended(bytes.unwrap_or(u64::MAX), what)),
        }
    }

    /// Copies the next bytes, of which there are enough.
    fn copy(&mut self, into: &mut [u8]) -> Result<(), GgufError> {
        let count = into.len() as u64;
        let is_ahead = self.at >= self.ahead_at && self.at + count <= self.ahead_at + self.ahead.len() as u64;
        if count > AHEAD {
            self.source.read_at(self.at, into).map_err(GgufError::io)?;
        } else {
            if !is_ahead {
                self.ahead.resize(AHEAD.min(self.left()) as usize, 0);
                self.ahead_at = self.at;
                self.source.read_at(self.at, &mut self.ahead).map_err(GgufError::io)?;
            }
            let start = (self.at - self.ahead_at) as usize;
            into.copy_from_slice(&self.ahead[start..start + into.len()]);
        }
        self.at += count;
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.expect(1, N as u64, what)?;
        let mut bytes = [0; N];
        self.copy(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>, GgufError> {
        self.expect(count, 1, what)?;
        let mut bytes = vec![0; count as usize];
        self.copy(&mut bytes)?;
        Ok(bytes)
    }

    /// The next number.
    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next number.
    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next string: a length, then that many bytes of UTF-8.
    pub(super) fn string(&mut self, most: u64, what: &str) -> Result<String, GgufError> {
        let length = self.u64(what)?;
        if length > most {
            return Err(GgufError::at(self.at, format!("{what} claims {length} bytes; the most is {most}")));
        }
        let at = self.at;
        let bytes = self.bytes(length, what)?;
        String::from_utf8(bytes).map_err(|_| GgufError::at(at, format!("{what} is not UTF-8")))
    }
}
