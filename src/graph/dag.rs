//! The DAG of a pipeline.
//!
//! Purpose: who makes what for whom, and in which order.
//! Invariant: a [`Graph`] has no cycle, every edge joins an output and an input that fit, and its
//! order depends on the file alone (topological; among free stages, the order of the file).
//! Must not know: the store, plans, how stages run.

use std::collections::HashMap;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, Reversed};

use crate::protocol::Port;
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::types::{Pipeline, Reference, Span, Stage};
use crate::spec::{Code, Diagnostic};

/// A pipeline whose stages are known to form a DAG. Stages are named by their index in
/// `pipeline().stages`.
#[derive(Debug, Clone)]
pub struct Graph {
    pub(super) pipeline: Pipeline,
    /// The node of a stage has the stage's index.
    pub(super) dag: DiGraph<(), Edge>,
    pub(super) order: Vec<usize>,
    pub(super) by_name: HashMap<String, usize>,
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
    /// Where the file says so.
    pub span: Span,
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
        let inputs = self.stage(index).inputs.iter();
        inputs
            .filter_map(|(name, r)| Some(Input { name, from: self.producer(&r.value)?, span: r.span }))
            .collect()
    }

    fn producer<'a>(&'a self, reference: &'a Reference) -> Option<Producer<'a>> {
        match reference {
            Reference::Source(name) => Some(Producer::Source(name)),
            Reference::Stage { stage, output } => {
                let index = self.index(stage)?;
                let output = self.stage(index).output(output.as_deref())?;
                Some(Producer::Stage { index, output })
            }
        }
    }

    /// The stages that a stage reads from, sorted, each once.
    pub fn dependencies(&self, index: usize) -> Vec<usize> {
        self.neighbours(index, Direction::Incoming)
    }

    /// The stages that read from a stage, sorted, each once.
    pub fn dependents(&self, index: usize) -> Vec<usize> {
        self.neighbours(index, Direction::Outgoing)
    }

    fn neighbours(&self, index: usize, direction: Direction) -> Vec<usize> {
        let nodes = self.dag.neighbors_directed(NodeIndex::new(index), direction);
        let mut found: Vec<_> = nodes.map(NodeIndex::index).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The stages needed for the named ones, themselves included, in the order of [`Self::order`];
    /// all stages when none is named.
    ///
    /// # Errors
    /// The names that no stage has, with the nearest one.
    pub fn targets(&self, names: &[String]) -> Result<Vec<usize>, Vec<Diagnostic>> {
        if names.is_empty() {
            return Ok(self.order.clone());
        }
        let unknown: Vec<_> = names
            .iter()
            .filter(|name| self.index(name).is_none())
            .map(|name| self.unknown_target(name))
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let upstream = Reversed(&self.dag);
        let mut dfs = Dfs::empty(upstream);
        dfs.stack.extend(names.iter().filter_map(|name| self.index(name)).map(NodeIndex::new));
        let mut needed = vec![false; self.pipeline.stages.len()];
        while let Some(node) = dfs.next(upstream) {
            needed[node.index()] = true;
        }
        Ok(self.order.iter().copied().filter(|index| needed[*index]).collect())
    }

    fn unknown_target(&self, name: &str) -> Diagnostic {
        let names = || self.pipeline.stages.iter().map(|stage| stage.name.value.as_str());
        Diagnostic {
            code: Code::UnknownTarget,
            message: format!("there is no stage `{name}`; there is: {}", list_names(names())),
            file: self.pipeline.file().to_owned(),
            span: Span::default(),
            hint: did_you_mean(name, names()),
            source: None,
        }
    }
}
