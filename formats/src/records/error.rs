//! What can be wrong with a dataset.
//!
//! Purpose: one error type for the reading of all containers and shapes.
//! Invariant: every message names the file, the line, row or index where there is one, the field, and what to do.
//! Must not know: how a container or a shape is read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a row stands inside its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// The file is one row, or the row is not known.
    File,
    /// The line on which the row begins, from 1: JSON lines, CSV.
    Line(u64),
    /// The number of the row, from 1: Parquet.
    Row(u64),
    /// The index of the row, from 0: an array of JSON.
    Index(u64),
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as the caller named it or its folder.
    pub file: Arc<Path>,
    /// The row in it.
    pub at: At,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.at {
            At::File => write!(f, "{file}"),
            At::Line(line) => write!(f, "{file}:{line}"),
            At::Row(row) => write!(f, "{file}: row {row}"),
            At::Index(index) => write!(f, "{file}[{index}]"),
        }
    }
}

/// A dataset could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `read` or `list`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A row is not what its container or its shape asks for.
    #[error("{place}: {}{message}", Named(field))]
    Row {
        /// The row.
        place: Place,
        /// The field, such as `messages[2].role`; empty when the whole row is meant.
        field: String,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// A text is not UTF-8.
    #[error(
        "{place}: {}it is not UTF-8 at byte {at} (0x{byte:02X}); convert the file (for Latin-1: iconv -f ISO-8859-1 -t UTF-8)",
        Named(field)
    )]
    NotUtf8 {
        /// The row, or the file where the text is the file.
        place: Place,
        /// The field where it is known; else empty.
        field: String,
        /// The first byte that does not fit, from 0: of the field, else of the line, else of the (decompressed) file.
        at: u64,
        /// That byte.
        byte: u8,
    },
    /// A file is text in another encoding.
    #[error("{} is {encoding} text; convert it (iconv -f {encoding} -t UTF-8) and run again", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The encoding as iconv knows it.
        encoding: &'static str,
    },
    /// A row or a file is larger than what is read.
    #[error("{place}: it has more than the {limit} bytes that are read; split it")]
    TooLarge {
        /// The row or file.
        place: Place,
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing to read.
    #[error("{} is empty or blank: it needs {what}", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// What is missing, such as `some text`.
        what: &'static str,
    },
    /// A file is not what its container is.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
}

/// A field before what is said about it.
struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

impl RecordError {
    /// An error of the file system.
    pub(super) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Io { doing: "read", path: path.to_path_buf(), source }
    }

    /// A file that is not what its container is.
    pub(super) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), message: message.into() }
    }

    /// A row that is not what was expected.
    pub(super) fn row(file: &Arc<Path>, at: At, fault: Fault) -> Self {
        let place = Place { file: Arc::clone(file), at };
        Self::Row { place, field: fault.field, message: fault.message }
    }

    /// A row beyond the limit.
    pub(super) fn large(file: &Arc<Path>, at: At, limit: u64) -> Self {
        Self::TooLarge { place: Place { file: Arc::clone(file), at }, limit }
    }
}

/// What is wrong with a field, before its row is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The path of the field inside the row; empty for the row itself.
    pub(super) field: String,
    /// What is wrong, and what was expected.
    pub(super) message: String,
}

impl Fault {
    /// A fault of a field.
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}
