//! What can go wrong in the store.
//!
//! Purpose: one error type whose messages name the path or digest concerned and the next step.
//! Invariant: messages are lowercase fragments that read well after `error: `.
//! Must not know: how errors are shown.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

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
    /// A symbolic link of an output that leaves it.
    #[error(
        "{} is a link to {}, which is not within the same output; copy what it leads to into the output, or \
         make it a relative link within the output",
        path.display(),
        target.display()
    )]
    LinkOut {
        /// The link.
        path: PathBuf,
        /// What stands in the link.
        target: PathBuf,
    },
    /// A symbolic link of a source that leads to nothing, or to a folder that it stands in.
    #[error(
        "{} is a link to {}, {why}; remove the link, or add it to `ignore:` or to `.kilnignore`",
        path.display(),
        target.display()
    )]
    BadLink {
        /// The link.
        path: PathBuf,
        /// What stands in the link.
        target: PathBuf,
        /// What is wrong with it.
        why: &'static str,
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
    /// A blob is not there, or was damaged and has been quarantined.
    #[error("blob {0} is missing or damaged in the store; run the stage that makes it again")]
    NotIntact(Digest),
    /// A tree breaks the rules of trees.
    #[error("tree {digest} is refused: {why}; it was not written by kiln, remove what names it")]
    BadTree {
        /// The tree.
        digest: Digest,
        /// The rule broken.
        why: String,
    },
    /// The key of an action is not the digest of its key inputs.
    #[error("action {0} has a key that is not the digest of its key inputs; this is a bug in kiln")]
    BadKey(Digest),
    /// An action that breaks a rule of actions.
    #[error("action {key} cannot be kept: {why}")]
    BadAction {
        /// Its key.
        key: Digest,
        /// The rule broken.
        why: String,
    },
    /// The store was made by a newer Kiln.
    #[error(
        "the store {} has the format `{found}`, and this kiln writes `{ours}`; use a newer kiln, or name \
         another store by `--store`",
        root.display()
    )]
    NewerFormat {
        /// The folder of the store.
        root: PathBuf,
        /// What stands in its format file.
        found: String,
        /// What this Kiln writes.
        ours: &'static str,
    },
    /// An ignore rule that cannot be read.
    #[error("`{line}` is not a rule of gitignore syntax: {why}")]
    BadIgnore {
        /// The line, or the file.
        line: String,
        /// Why.
        why: String,
    },
    /// A text that is not the id of a run.
    #[error("`{0}` is not a run; `kiln log` lists them")]
    NoRun(String),
}

impl StoreError {
    /// Whether the disk was at fault in a way that may pass (it is full, read-only, failing, or refuses by its
    /// permissions), so that what a stage made can be collected by the next run.
    pub fn is_recoverable(&self) -> bool {
        let Self::Io { what, source, .. } = self else { return false };
        let errno = source.raw_os_error().map(Errno::from_raw_os_error);
        let passes = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::ACCESS, Errno::PERM];
        *what == SYNC || errno.is_some_and(|errno| passes.contains(&errno))
    }

    /// Whether the disk of this machine refused something. What a remote has cannot help then, and neither can running
    /// a stage.
    pub fn is_of_disk(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// Whether the disk cannot give back what it was given.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.raw_os_error() == Some(Errno::IO.raw_os_error()))
    }

    /// The same error once more, for another stage that shares the step that failed.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Io { what, path, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { what, path: path.clone(), source }
            }
            other => {
                Self::Io { what: SYNC, path: PathBuf::new(), source: io::Error::other(other.to_string()) }
            }
        }
    }
}

/// Why an output was not collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The disk failed in a way that may pass: the attempt is kept, and the next run can collect it.
    #[error(transparent)]
    Recoverable(StoreError),
    /// The output is not one that can be kept.
    #[error(transparent)]
    Refused(StoreError),
}

impl From<StoreError> for CollectError {
    fn from(error: StoreError) -> Self {
        if error.is_recoverable() { Self::Recoverable(error) } else { Self::Refused(error) }
    }
}

impl From<CollectError> for StoreError {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Recoverable(error) | CollectError::Refused(error) => error,
        }
    }
}

/// What was tried when a sync failed.
pub(super) const SYNC: &str = "sync";

/// Adds to an I/O error what was tried and with what.
pub(crate) trait During<T> {
    /// Names the attempt.
    fn during(self, what: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::Io { what, path: path.to_owned(), source: e.into() })
    }
}
