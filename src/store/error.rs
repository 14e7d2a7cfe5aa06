//! What can go wrong in the store.
//!
//! Purpose: one error type whose messages name the path or digest concerned and the next step.
//! Invariant: messages are lowercase fragments that read well after `error: `.
//! Must not know: how errors are shown.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
    /// Something that is no file and no folder.
    #[error("{} is {what}; an artifact is made of plain files and folders", path.display())]
    NotPlain {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A symbolic link that leaves its folder.
    #[error(
        "{} is a link to {}, outside its folder; copy the file in, or name its real place",
        path.display(),
        target.display()
    )]
    LinkOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A file name that cannot stand in a tree.
    #[error("{} cannot be part of an artifact: {why}; rename it", path.display())]
    BadName {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Files that make no tree.
    #[error("the folder {} cannot be an artifact: {why}", path.display())]
    BadFolder {
        /// The folder.
        path: PathBuf,
        /// The rule of trees broken.
        why: String,
    },
    /// A file was changed while it was read.
    #[error("{} changed while it was read; run again when nothing writes to it", .0.display())]
    Moving(PathBuf),
    /// More than the store takes.
    #[error("{what} is larger than the limit of {limit}")]
    TooBig {
        /// What.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// A blob is not there, or was damaged and has been moved aside.
    #[error("blob {0} is not whole in the store; run the stage that makes it again")]
    NotWhole(Digest),
    /// A tree breaks the rules of trees.
    #[error("tree {digest} is refused: {why}; it was not written by kiln, remove what names it")]
    BadTree {
        /// The tree.
        digest: Digest,
        /// The rule broken.
        why: String,
    },
    /// An action's key is not the digest of its ingredients.
    #[error("action {0} has a key that is not the digest of its ingredients; this is a bug of the caller")]
    BadKey(Digest),
    /// A run id that is none.
    #[error("`{0}` is no run; `kiln log` lists them")]
    NoRun(String),
}

/// Adds to an I/O error what was tried and with what.
pub(super) trait During<T> {
    /// Names the attempt.
    fn during(self, what: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::Io { what, path: path.to_owned(), source: e.into() })
    }
}
