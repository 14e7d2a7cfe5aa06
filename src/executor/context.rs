//! What all stages of a run share.
//!
//! Invariant: nothing here changes while the run lasts, but for the tokens that stop it.
//! Must not know: how a stage is run, or when.

use std::sync::Arc;

use super::backlog::Backlog;
use super::cancel::Cancellation;
use super::commit::Committer;
use super::log::Masks;
use super::machine::Machine;
use super::run::Uploads;
use super::spares::Spares;
use crate::cas::Store;
use crate::graph::Graph;
use crate::plan::Planner;
use crate::provider::Known;
use crate::provider::environment::Variables;
use crate::state::RunDir;

/// What all stages of a run share.
pub struct RunContext {
    /// The graph of the pipeline.
    pub graph: Arc<Graph>,
    /// The store.
    pub store: Arc<Store>,
    /// The planner, which identifies sources and decides.
    pub planner: Arc<Planner>,
    /// The providers.
    pub providers: Arc<Known>,
    /// The folder of the run.
    pub run: Arc<RunDir>,
    /// The device that stages are asked to use.
    pub device: String,
    /// The environment of the caller, from which stages get a few variables.
    pub caller: Variables,
    /// Replaces the values of all secrets of the run in what is said about it.
    pub masks: Masks,
    /// Events that were not reported yet.
    pub backlog: Backlog,
    /// Stops the run.
    pub cancellation: Cancellation,
    /// The cores and GPUs of this machine.
    pub machine: Machine,
    /// Execution folders that are used again.
    pub spares: Spares,
    /// Commits outputs.
    pub committer: Committer,
    /// Sends results to the remotes.
    pub uploads: Uploads,
}
