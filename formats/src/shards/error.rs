//! What can be wrong with tokens on disk.
//!
//! Invariant: every message names the file and says what to do.
//! Must not know: how the files are read.

use std::path::{Path, PathBuf};

/// Tokens could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file is not what a writer of tokens makes.
    #[error("{}: {what}; tokenize the data again", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What was asked for cannot be done.
    #[error("{0}")]
    Usage(String),
}

impl ShardError {
    /// An error of the file system.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// A file that is damaged.
    pub(super) fn file(path: &Path, what: impl Into<String>) -> Self {
        Self::File { path: path.to_path_buf(), what: what.into() }
    }
}
