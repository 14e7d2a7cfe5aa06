//! Outputs that were collected and not yet committed.
//!
//! Purpose: remember what the bytes of an output are and where they lie until they get a name.
//! Invariant: what lies in an attempt's folder stays there until it is named, and goes back when its commit fails.
//! Must not know: which stage made an output.

use std::path::PathBuf;

use crate::cas::local::{Hashed, Temporary};
use crate::cas::types::ArtifactRef;

/// An output whose bytes are hashed and have no name yet.
pub struct StagedOutput {
    /// What it will be.
    pub artifact: ArtifactRef,
    pub(super) files: Vec<Staged>,
    /// The listing of a folder.
    pub(super) tree: Option<Staged>,
}

impl StagedOutput {
    /// An output whose files were brought from elsewhere; those that are not among them are blobs already.
    pub(in crate::cas) fn fetched(
        artifact: ArtifactRef,
        files: Vec<(Temporary, Hashed)>,
        listing: Option<(Temporary, Hashed)>,
    ) -> Self {
        let staged = |(temporary, hashed)| Staged {
            place: Place::Temporary(temporary),
            hashed,
            executable: false,
            durable: false,
        };
        Self { artifact, files: files.into_iter().map(staged).collect(), tree: listing.map(staged) }
    }
}

/// A file whose bytes are hashed.
pub(super) struct Staged {
    pub place: Place,
    pub hashed: Hashed,
    pub executable: bool,
    /// Whether its bytes are synced.
    pub durable: bool,
}

/// Where the bytes of a staged file lie.
pub(super) enum Place {
    /// They are a blob already.
    Blob,
    /// In a temporary file of the store.
    Temporary(Temporary),
    /// Where the stage wrote them.
    Attempt(PathBuf),
}

impl Staged {
    /// The file whose bytes must be durable before it gets its name.
    pub fn unsynced(&self) -> Option<PathBuf> {
        match &self.place {
            _ if self.durable => None,
            Place::Blob => None,
            Place::Temporary(temporary) => Some(temporary.to_path_buf()),
            Place::Attempt(path) => Some(path.clone()),
        }
    }
}
