//! What all threads of a run share.
//!
//! Purpose: the graph, the store, the run and what else every stage needs, in one place.
//! Invariant: nothing here changes while the run lasts, but for the switch that stops it.
//! Must not know: how a stage is run, or when.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::control::Control;
use super::out;
use super::provider::Known;
use crate::graph::Graph;
use crate::plan::StageIx;
use crate::cas::types::ArtifactRef;
use crate::cas::Store;
use crate::state::RunDir;

/// What all executors of a run share.
pub struct Workshop<'a> {
    /// The pipeline's graph.
    pub graph: &'a Graph,
    /// The store.
    pub store: &'a Store,
    /// The run.
    pub run: &'a RunDir,
    /// The switch that stops the run.
    pub control: &'a Control,
    /// The providers.
    pub providers: &'a Known,
    /// The device that stages are asked to use.
    pub device: &'a str,
    /// The variables that every process gets.
    pub environment: Vec<(OsString, OsString)>,
}

impl Workshop<'_> {
    /// Lets people find a stage's outputs by their names; not to be able to is no reason to fail.
    pub fn show(&self, stage: StageIx, outputs: &BTreeMap<String, ArtifactRef>) {
        let (pipeline, stage) = (&self.graph.pipeline().name, &self.graph.stage(stage).name.value);
        for (output, artifact) in outputs {
            if let Err(e) = out::show(self.store, pipeline, stage, output, artifact) {
                tracing::warn!(stage, output, "{e}");
            }
        }
    }
}
