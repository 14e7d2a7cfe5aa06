//! How outputs come in: collected where they were made, then committed.

mod collect;
mod commit;
mod copies;
mod manifest;
mod staged;

pub use commit::{Committed, PendingCommit};
pub use manifest::Manifest;
pub use staged::StagedOutput;
