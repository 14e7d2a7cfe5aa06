//! What all threads of a run share.
//!
//! Purpose: the graph, the store, the run and what else every stage needs, in one place.
//! Invariant: nothing here changes while the run lasts, but for the switch that stops it.
//! Must not know: how a stage is run, or when.

use std::ffi::OsString;

use super::control::Control;
use super::provider::Known;
use crate::graph::Graph;
use crate::store::{Run, Store};

/// What all executors of a run share.
pub struct Workshop<'a> {
    /// The pipeline's graph.
    pub graph: &'a Graph,
    /// The store.
    pub store: &'a Store,
    /// The run.
    pub run: &'a Run,
    /// The switch that stops the run.
    pub control: &'a Control,
    /// The providers.
    pub providers: &'a Known,
    /// The device that stages are asked to use.
    pub device: &'a str,
    /// The variables that every process gets.
    pub environment: Vec<(OsString, OsString)>,
}
