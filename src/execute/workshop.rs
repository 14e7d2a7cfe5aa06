//! What all threads of a run share.
//!
//! Purpose: the graph, the store, the run and what else every stage needs, in one place.
//! Invariant: nothing here changes while the run lasts, but for the switch that stops it.
//! Must not know: how a stage is run, or when.

use std::collections::BTreeMap;

use super::control::Control;
use super::out;
use crate::graph::Graph;
use crate::plan::{Sources, StageIx};
use crate::provider::Known;
use crate::provider::environment::Variables;
use crate::store::types::ArtifactRef;
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
    /// What the sources and used files are.
    pub sources: &'a Sources,
    /// The variables of the caller.
    pub environment: Variables,
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
