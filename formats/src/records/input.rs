//! The bytes of a file.
//!
//! Purpose: opens a file or bytes in memory as a stream, decompressed, without its byte order mark.
//! Invariants: a stream is never held in memory as a whole; text in another encoding, a pointer of Git LFS and a stream
//! beyond the limit are errors that say so.
//! Must not know: containers.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::RecordError;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 16;
/// What some editors write before UTF-8 text; it is no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How the text begins that stands in for a file which Git LFS has elsewhere.
const LFS: &[u8] = b"version https://git-lfs";

/// How a file is compressed; its first bytes tell, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// zstd, of one or several frames.
    Zstd,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(super) enum Input {
    File(Arc<Path>),
    /// In memory, for fuzzing.
    Bytes(Arc<[u8]>),
}

/// A stream of text.
pub(super) type Stream = BufReader<Box<dyn Read + Send>>;

impl Input {
    /// The raw bytes.
    pub(super) fn raw(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::File(path) => Box::new(File::open(path)?),
            Self::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        })
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Bytes(_) => Path::new("<bytes>"),
        }
    }

    /// Looks at the first bytes; a file that its name calls compressed and that is not is an error.
    pub(super) fn compression(&self) -> Result<Compression, RecordError> {
        let mut start = Vec::new();
        let read = self.raw().and_then(|raw| raw.take(4).read_to_end(&mut start));
        read.map_err(|error| RecordError::read(self.path(), error))?;
        let found = match start.as_slice() {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame of zstd, or one that is skipped.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
            _ => Compression::None,
        };
        let name = self.path().extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match (name, found) {
            ("gz", Compression::Gzip) | ("zst" | "zstd", Compression::Zstd) => Ok(found),
            ("gz", _) => Err(RecordError::file(self.path(), "it does not begin as gzip does; rename it")),
            ("zst" | "zstd", _) => {
                Err(RecordError::file(self.path(), "it does not begin as zstd does; rename it"))
            }
            _ => Ok(found),
        }
    }

    /// The decompressed bytes, at most `limit` of them.
    pub(super) fn bytes(
        &self,
        compression: Compression,
        limit: u64,
    ) -> Result<Box<dyn Read + Send>, RecordError> {
        let io = |error| RecordError::read(self.path(), error);
        let raw = self.raw().map_err(io)?;
        let stream: Box<dyn Read + Send> = match compression {
            Compression::None => raw,
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BLOCK, raw))),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(raw).map_err(io)?),
        };
        Ok(Box::new(Bounded { stream, left: limit, limit }))
    }

    /// The text, decompressed and without its byte order mark, and how many bytes that mark has.
    pub(super) fn text(&self, compression: Compression, limit: u64) -> Result<(Stream, u64), RecordError> {
        let mut bytes = self.bytes(compression, limit)?;
        let mut start = Vec::with_capacity(LFS.len());
        let read = (&mut bytes).take(LFS.len() as u64).read_to_end(&mut start);
        read.map_err(|error| RecordError::read(self.path(), error))?;
        if start.starts_with(LFS) {
            let message = "it is a pointer of Git LFS and not the data; get it with `git lfs pull`";
            return Err(RecordError::file(self.path(), message));
        }
        if start.len() >= 4 && start.iter().all(|&byte| byte == 0) {
            let message =
                "it begins with bytes of zero, as a file that was not written to its end; copy it again";
            return Err(RecordError::file(self.path(), message));
        }
        if let Some(encoding) = other_encoding(&start) {
            return Err(RecordError::Encoding { path: self.path().to_path_buf(), encoding });
        }
        let mark = if start.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        start.drain(..mark);
        let stream: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(bytes));
        Ok((BufReader::with_capacity(BLOCK, stream), mark as u64))
    }
}

/// The encoding that a text seems to have, when it is not UTF-8.
fn other_encoding(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [_, 0, 0, 0, ..] => Some("UTF-32LE"),
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] => Some("UTF-32BE"),
        [0xff, 0xfe, ..] => Some("UTF-16"),
        [0xfe, 0xff, ..] => Some("UTF-16"),
        // Two letters of ASCII, each with a byte of zero beside it.
        [1..=0x7f, 0, 1..=0x7f, 0, ..] => Some("UTF-16LE"),
        [0, 1..=0x7f, 0, 1..=0x7f, ..] => Some("UTF-16BE"),
        _ => None,
    }
}

/// A stream that ends with an error when it has more bytes than the limit.
struct Bounded {
    stream: Box<dyn Read + Send>,
    left: u64,
    limit: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the compressed data end early; copy the file again")
            }
            _ => error,
        })?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let message = format!("it has more than the {} bytes that are read", self.limit);
            io::Error::new(io::ErrorKind::FileTooLarge, message)
        })?;
        Ok(read)
    }
}
