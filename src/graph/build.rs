//! Pipeline -> DAG.
//!
//! Purpose: resolves what each input names, checks artifact types, finds cycles, and reports all of
//! it together with the errors of the file.
//! Invariant: what the file's own checks could not understand causes no second error here.
//! Must not know: YAML, the store, plans.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::graph::cycles;
use crate::graph::dag::{Edge, Graph};
use crate::protocol::Port;
use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::types::{Pipeline, Reference, Span, Spanned, Stage};
use crate::spec::{self, Code, Diagnostic, LoadOptions, Loaded, Providers, Unresolved};

/// So many unknown names get a hint: each costs a walk over all names.
const MOST_HINTS: usize = 100;
/// So many stages of a cycle are shown.
const MOST_SHOWN: usize = 20;

/// Reads a pipeline file and checks it and its graph.
///
/// # Errors
/// Every error of the file and its graph, sorted by position.
pub fn load(
    file: &Path,
    options: &LoadOptions,
    providers: &mut dyn Providers,
) -> Result<Graph, Vec<Diagnostic>> {
    build(spec::load(file, options, providers))
}

/// Checks the graph of a loaded file.
///
/// # Errors
/// Every error of the file and its graph, sorted by position.
pub fn build(loaded: Loaded) -> Result<Graph, Vec<Diagnostic>> {
    let Loaded { pipeline, unresolved, diagnostics: mut out } = loaded;
    let by_name: HashMap<_, _> =
        pipeline.stages.iter().enumerate().map(|(i, stage)| (stage.name.value.clone(), i)).collect();
    let mut builder = Builder {
        pipeline: &pipeline,
        unresolved: &unresolved,
        by_name: &by_name,
        dag: DiGraph::with_capacity(pipeline.stages.len(), pipeline.stages.len() * 2),
        hints: MOST_HINTS,
        out: &mut out,
    };
    builder.link();
    let dag = builder.dag;
    let order = cycles::order(&dag);
    if order.is_none() {
        report_cycles(&pipeline, &dag, &mut out);
    }
    match order {
        Some(order) if out.is_empty() => Ok(Graph { pipeline, dag, order, by_name }),
        _ => Err(out.into_vec()),
    }
}

struct Builder<'a> {
    pipeline: &'a Pipeline,
    unresolved: &'a Unresolved,
    by_name: &'a HashMap<String, usize>,
    dag: DiGraph<(), Edge>,
    hints: usize,
    out: &'a mut Diagnostics,
}

impl<'a> Builder<'a> {
    fn link(&mut self) {
        let pipeline = self.pipeline;
        for _ in &pipeline.stages {
            self.dag.add_node(());
        }
        for (index, stage) in pipeline.stages.iter().enumerate() {
            for (input, reference) in &stage.inputs {
                self.input(index, stage, input, reference);
            }
        }
    }

    /// Checks one input, and adds its edge if a stage makes it.
    fn input(&mut self, index: usize, stage: &Stage, input: &str, reference: &Spanned<Reference>) {
        let port = stage.input_ports.iter().find(|port| port.name == input);
        let span = reference.span;
        let what = What { stage: &stage.name.value, input };
        match &reference.value {
            Reference::Source(name) => {
                let made = self.pipeline.sources.get(name).map(|s| s.artifact_type.as_str());
                self.check_type(what, port, made, format_args!("the source `{name}` is"), span);
            }
            Reference::Stage { stage: producer, output } => {
                let Some(from) = self.by_name.get(producer).copied() else {
                    return self.unknown_name(what, producer, span);
                };
                let made = self.output(what, &self.pipeline.stages[from], output.as_deref(), span);
                let types = made.and_then(|port| port.types.first()).map(String::as_str);
                self.check_type(what, port, types, format_args!("`{producer}` makes"), span);
                let output =
                    made.map(|port| port.name.clone()).or_else(|| output.clone()).unwrap_or_default();
                let edge = Edge { output, input: input.to_owned() };
                self.dag.add_edge(NodeIndex::new(from), NodeIndex::new(index), edge);
            }
        }
    }

    fn unknown_name(&mut self, what: What<'_>, name: &str, span: Span) {
        if self.unresolved.names {
            return;
        }
        let names = || {
            let stages = self.pipeline.stages.iter().map(|stage| stage.name.value.as_str());
            stages.chain(self.pipeline.sources.keys().map(String::as_str))
        };
        if self.hints == 0 {
            return self.out.push(
                Code::UnknownRef,
                span,
                format!("{what} names `{name}`, which does not exist"),
            );
        }
        self.hints -= 1;
        let hint = did_you_mean(name, names());
        let message = format!("{what} names `{name}`; there is: {}", list_names(names()));
        self.out.push_hint(Code::UnknownRef, span, message, hint);
    }

    /// The output that a reference names; none, and an error, when the stage does not have it.
    fn output(
        &mut self,
        what: What<'_>,
        stage: &'a Stage,
        name: Option<&str>,
        span: Span,
    ) -> Option<&'a Port> {
        let found = stage.output(name);
        if found.is_some() || self.unresolved.stages.contains(&stage.name.value) {
            return found;
        }
        let producer = &stage.name.value;
        let names = || stage.outputs.iter().map(|port| port.name.as_str());
        let (message, hint) = match name {
            Some(name) => (
                format!(
                    "{what} names the output `{name}` of `{producer}`, which has: {}",
                    list_names(names())
                ),
                did_you_mean(name, names()),
            ),
            None => (format!("{what} names `{producer}`, which has no outputs"), None),
        };
        self.out.push_hint(Code::UnknownRef, span, message, hint);
        None
    }

    fn check_type(
        &mut self,
        what: What<'_>,
        port: Option<&Port>,
        made: Option<&str>,
        maker: fmt::Arguments<'_>,
        span: Span,
    ) {
        let (Some(port), Some(made)) = (port, made) else { return };
        if made != "any" && !port.types.iter().any(|t| t == made || t == "any") {
            let message = format!("{what} takes {}, but {maker} {made}", port.types.join(" or "));
            self.out.push(Code::WrongType, span, message);
        }
    }
}

/// An input, for messages; written only where there is one.
#[derive(Clone, Copy)]
struct What<'a> {
    stage: &'a str,
    input: &'a str,
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}.inputs.{}`", self.stage, self.input)
    }
}

/// Reports each cycle at the input of its first stage that closes it.
fn report_cycles(pipeline: &Pipeline, dag: &DiGraph<(), Edge>, out: &mut Diagnostics) {
    for cycle in cycles::cycles(dag) {
        let (Some(&first), Some(&last)) = (cycle.first(), cycle.last()) else { continue };
        let name = |index: usize| pipeline.stages[index].name.value.as_str();
        let mut shown: Vec<_> = cycle.iter().take(MOST_SHOWN).map(|i| name(*i)).collect();
        if cycle.len() > MOST_SHOWN {
            shown.push("..");
        }
        shown.push(name(first));
        let stage = &pipeline.stages[first];
        let closes = |r: &&Spanned<Reference>| matches!(&r.value, Reference::Stage { stage, .. } if stage == name(last));
        let start = Span::on_line(stage.name.span.start, 1);
        let span = stage.inputs.values().find(closes).map_or(start, |input| input.span);
        let message = match cycle.len() {
            1 => format!("stage `{}` reads its own output: {}", name(first), shown.join(" -> ")),
            _ => format!("the stages form a cycle: {}", shown.join(" -> ")),
        };
        out.push(Code::Cycle, span, message);
    }
}
