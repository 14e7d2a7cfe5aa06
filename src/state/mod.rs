//! What a runner remembers beside its artifacts.
//!
//! Purpose: the records of stats by which files are not read again, the history of runs, and one runner at a time for
//! each action. All of it can be lost without losing an artifact.
//! Invariant: every change of the disk goes through `cas::disk`; a damaged file of the state is an empty one.
//! Must not know: pipelines, plans, what a stage does.

mod files;
mod history;
mod in_use;
mod last;
mod lock;
mod open;
mod records;
mod stat_index;
#[cfg(test)]
mod tests;

pub use history::{History, RunDir};
pub use in_use::StoreUse;
pub(crate) use last::Journal;
pub use lock::{Holder, KeyLock, Lock};
pub use records::{RECORD_FORMAT, RunOutcome, RunRecord, StageOutcome, StageRecord};
pub use stat_index::StatIndex;
pub(crate) use stat_index::{HEADER as STAT_HEADER, Table as StatTable};
