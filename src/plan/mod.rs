//! The one planner: DAG + actions -> Cached | Run(reasons) | Maybe.
//!
//! `plan`, `status`, `why`, `run` and the report ask [`Planner::decide`] and can never disagree.
//!
//! The way through: `source` (files of a source) -> `ingredients` (what goes into a key) ->
//! `planner` (the decision) -> `reasons` (why) -> [`types`].

pub mod ingredients;
pub mod reasons;
pub mod types;

mod error;
mod planner;
mod source;
#[cfg(test)]
mod tests;

pub use error::PlanError;
pub use planner::Planner;
pub use source::{SourceFiles, source_files};
pub use types::{Decision, Plan, ProviderFacts, Settings, StageIx, StagePlan, State};
