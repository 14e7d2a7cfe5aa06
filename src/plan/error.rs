//! What can go wrong while planning.
//!
//! Purpose: one error type whose messages name the stage or source concerned and the next step.
//! Invariant: messages are lowercase fragments that read well after `error: `.
//! Must not know: how errors are shown.

use crate::spec::Code;
use crate::spec::types::Position;
use crate::cas::StoreError;

/// What can go wrong while planning.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A source has no file.
    #[error("source `{name}`: there is no file or folder `{path}`; make it, or name its real place")]
    NoSource {
        /// The source.
        name: String,
        /// Its path or glob, as in the file.
        path: String,
        /// Where it stands.
        at: Position,
    },
    /// The glob of a source cannot be read.
    #[error("source `{name}`: `{path}` is no glob: {why}")]
    BadGlob {
        /// The source.
        name: String,
        /// Its glob.
        path: String,
        /// What is wrong with it.
        why: String,
        /// Where it stands.
        at: Position,
    },
    /// A folder on the way of a glob cannot be read.
    #[error("source `{name}`: cannot read {why}")]
    Unreadable {
        /// The source.
        name: String,
        /// The place, and what the machine said.
        why: String,
        /// Where the source stands.
        at: Position,
    },
    /// A file under `uses` is not there.
    #[error("stage `{stage}` uses `{path}`, which is not there; make it, or take it out of `uses`")]
    NoUses {
        /// The stage.
        stage: String,
        /// The path.
        path: String,
        /// Where it stands.
        at: Position,
    },
    /// A source that the pipeline does not have; a bug of the caller.
    #[error("the pipeline has no source `{0}`")]
    UnknownSource(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PlanError {
    /// Where in the pipeline file the error lies, how many characters long the place is, and a code;
    /// none when it does not lie there.
    pub fn place(&self) -> Option<(Position, usize, Code)> {
        let (at, text, code) = match self {
            Self::NoSource { name, at, .. } | Self::Unreadable { name, at, .. } => (at, name, Code::NoSource),
            Self::BadGlob { name, at, .. } => (at, name, Code::BadGlob),
            Self::NoUses { path, at, .. } => (at, path, Code::NoUses),
            Self::UnknownSource(_) | Self::Store(_) => return None,
        };
        Some((*at, text.chars().count(), code))
    }
}
