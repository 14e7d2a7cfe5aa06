//! Pipeline -> DAG.
//!
//! Purpose: resolves what each input names, checks artifact types, and orders the stages.
//! Invariant: a [`Graph`] has no cycle, every edge joins an output and an input that fit, and its
//! order depends on the file alone (topological; among free stages, the order of the file).
//! Must not know: the store, plans, how stages run.

use std::collections::HashMap;
use std::path::Path;

use petgraph::graph::DiGraph;

use crate::protocol::Port;
use crate::spec::types::{Pipeline, Stage};
use crate::spec::{Diagnostic, LoadOptions, Providers};

/// A pipeline whose stages are known to form a DAG. Stages are named by their index in
/// `pipeline().stages`.
#[derive(Debug, Clone)]
pub struct Graph {
    pipeline: Pipeline,
    dag: DiGraph<(), Edge>,
    order: Vec<usize>,
    by_name: HashMap<String, usize>,
}

/// A use of one stage's output as another's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The producer's output.
    pub output: String,
    /// The consumer's input.
    pub input: String,
}

/// An input of a stage and who makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input<'a> {
    /// The input's name.
    pub name: &'a str,
    /// Who makes it.
    pub from: Producer<'a>,
}

/// Who makes an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Producer<'a> {
    /// A source, by name.
    Source(&'a str),
    /// An output of a stage.
    Stage {
        /// The stage's index.
        index: usize,
        /// The output.
        output: &'a Port,
    },
}

/// Reads a pipeline file and checks it and its graph.
///
/// # Errors
/// Every error of the file and its graph, sorted by position.
pub fn load(
    file: &Path,
    options: &LoadOptions,
    providers: &mut dyn Providers,
) -> Result<Graph, Vec<Diagnostic>> {
    let _ = (file, options, providers);
    unimplemented!()
}

impl Graph {
    /// The pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Every stage after those it needs; among free ones, in the order of the file.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// A stage by its index.
    pub fn stage(&self, index: usize) -> &Stage {
        &self.pipeline.stages[index]
    }

    /// The index of a stage.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The inputs of a stage that are given, sorted by name.
    pub fn inputs(&self, index: usize) -> Vec<Input<'_>> {
        let _ = index;
        unimplemented!()
    }

    /// The stages that a stage reads from, sorted, each once.
    pub fn dependencies(&self, index: usize) -> Vec<usize> {
        let _ = (index, &self.dag);
        unimplemented!()
    }

    /// The stages that read from a stage, sorted, each once.
    pub fn dependents(&self, index: usize) -> Vec<usize> {
        let _ = index;
        unimplemented!()
    }

    /// The stages needed for the named ones, themselves included, in the order of [`Self::order`];
    /// all stages when none is named.
    ///
    /// # Errors
    /// The names that no stage has, with the nearest one.
    pub fn targets(&self, names: &[String]) -> Result<Vec<usize>, Vec<Diagnostic>> {
        let _ = names;
        unimplemented!()
    }
}
