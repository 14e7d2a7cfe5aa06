//! The one planner: DAG + actions -> Cached | Fetch | Run(reasons) | Maybe | People.
//!
//! `plan`, `status`, `why`, `run` and the report ask [`Planner::decide`] and can never disagree.
//!
//! The way through: `files` (a path or glob -> files) -> [`sources`] (their digests) -> [`key_inputs`] (what
//! makes a key) -> `planner` (the decision) -> [`reasons`] (why) -> [`types`]; `elsewhere` asks
//! remotes, `notes` says what decides nothing.

pub mod key_inputs;
mod notes;
pub mod reasons;
pub mod sources;
pub mod types;

mod elsewhere;
mod error;
mod files;
mod planner;
#[cfg(test)]
mod tests;

pub use error::PlanError;
pub use files::SourceFiles;
pub use planner::Planner;
pub use reasons::key_differences;
pub use sources::{Changed, Sources, UsedFile};
pub use types::{Decision, Plan, Settings, StageIx, StagePlan, State};
