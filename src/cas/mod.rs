//! Immutable artifacts by their digest, and the actions that made them.
//!
//! Purpose: take outputs and sources in, verify them, give them out again, and remember which work made which.
//! Invariant: what is named is whole: bytes are synced before a name is given, blobs before the tree
//! that lists them, trees before the action that names them; every byte is verified before it is
//! trusted. Nothing is written before something is to be kept.
//! Must not know: pipelines, plans, stages, providers, runs, locks.

pub mod care;
pub mod disk;
mod error;
mod format;
mod local;
mod materialize;
mod outputs;
mod paths;
pub mod remote;
mod sources;
mod stat;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod traits;
mod tree;
pub mod trust;
pub mod types;

pub(crate) use error::During;
pub use error::{CollectError, StoreError};
pub use format::{MARKER, STORE_FORMAT, is_store};
pub(crate) use local::{parse_action, spell_action, unpoisoned};
pub use materialize::{How, LastWritten};
pub use outputs::{Committed, Manifest, PendingCommit, StagedOutput};
pub use sources::Ignore;
pub use stat::{Stat, Trust};
pub use store::Store;
pub use traits::{ActionCache, BlobStore};
pub use types::{Action, ArtifactRef, Provenance, Tree, TreeFile, TreeLink};
