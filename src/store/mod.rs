//! The local store: blobs, actions, runs, and what is known of files by their stat.
//!
//! Purpose: keep immutable artifacts by their digest, remember which work made which, and lend
//! each piece of work to one runner at a time.
//! Invariant: what is named is whole: bytes are synced before a name is given, blobs before the tree
//! that lists them, trees before the action that names them; every byte is verified before it is
//! believed. Nothing is written before something is to be kept.
//! Must not know: pipelines, plans, stages, providers.

mod actions;
mod commit;
mod disk;
mod error;
mod export;
mod files;
mod ingest;
mod last;
mod lock;
mod runs;
mod stat;
mod stat_cache;
#[allow(clippy::module_inception)]
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod tree;
pub mod types;
mod walk;

pub use actions::Put;
pub use commit::Entry;
pub use error::StoreError;
pub use ingest::Incoming;
pub use lock::{Holder, KeyLock, Lock};
pub use runs::{RECORD_FORMAT, Run, RunOutcome, RunRecord, Runs, StageOutcome, StageRecord};
pub use store::Store;
