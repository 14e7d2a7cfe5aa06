//! The graph for people and other programs.
//!
//! Purpose: a list for the terminal, Graphviz, Mermaid, and JSON.
//! Invariant: the same graph gives the same text; names cannot break out of their quotes.
//! Must not know: what is cached or stale.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::graph::dag::{Graph, Producer};

/// The format of [`json()`].
pub const GRAPH_FORMAT: &str = "kiln.graph/1";

fn kind(graph: &Graph, index: usize) -> &str {
    graph.stage(index).kind()
}

fn name(graph: &Graph, index: usize) -> &str {
    &graph.stage(index).name.value
}

/// One line a stage, each after those it reads from: name, kind, what it reads.
pub fn text(graph: &Graph, stages: &[usize]) -> String {
    let width = |of: &dyn Fn(usize) -> usize| stages.iter().map(|i| of(*i)).max().unwrap_or(0);
    let names = width(&|i| name(graph, i).chars().count());
    let kinds = width(&|i| kind(graph, i).chars().count());
    let mut out = String::new();
    for &index in stages {
        let mut from: Vec<String> = Vec::new();
        for input in graph.inputs(index) {
            let one = match input.from {
                Producer::Source(source) => source.to_owned(),
                Producer::Stage { index, output } => reference(graph, index, &output.name),
            };
            if !from.contains(&one) {
                from.push(one);
            }
        }
        let line =
            format!("{:names$}  {:kinds$}  <- {}", name(graph, index), kind(graph, index), from.join(", "));
        let _ = writeln!(out, "{}", line.trim_end_matches(" <- ").trim_end());
    }
    out
}

/// `stage`, or `stage.output` when it is not the default one.
fn reference(graph: &Graph, index: usize, output: &str) -> String {
    let stage = graph.stage(index);
    match stage.outputs.first() {
        Some(first) if first.name == output => stage.name.value.clone(),
        _ => format!("{}.{output}", stage.name.value),
    }
}

/// The sources that some of the stages read, sorted.
fn sources<'g>(graph: &'g Graph, stages: &[usize]) -> Vec<&'g str> {
    let mut names: Vec<_> = stages
        .iter()
        .flat_map(|index| graph.inputs(*index))
        .filter_map(|input| match input.from {
            Producer::Source(name) => Some(name),
            Producer::Stage { .. } => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Graphviz.
pub fn dot(graph: &Graph, stages: &[usize]) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out =
        format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quote(&graph.pipeline().name));
    for source in sources(graph, stages) {
        let _ = writeln!(
            out,
            "  {} [label={}, shape=ellipse];",
            quote(&format!("source:{source}")),
            quote(source)
        );
    }
    for &index in stages {
        let label = format!("{}\n{}", name(graph, index), kind(graph, index));
        let _ =
            writeln!(out, "  {} [label={}];", quote(name(graph, index)), quote(&label).replace('\n', "\\n"));
    }
    for &index in stages {
        for input in graph.inputs(index) {
            let from = match input.from {
                Producer::Source(source) => format!("source:{source}"),
                Producer::Stage { index, .. } => name(graph, index).to_owned(),
            };
            let to = quote(name(graph, index));
            let _ = writeln!(out, "  {} -> {to} [label={}];", quote(&from), quote(input.name));
        }
    }
    out.push_str("}\n");
    out
}

/// A Mermaid flowchart.
pub fn mermaid(graph: &Graph, stages: &[usize]) -> String {
    let sources = sources(graph, stages);
    let quote = |text: &str| text.replace('"', "#quot;");
    let mut out = String::from("flowchart LR\n");
    for (i, source) in sources.iter().enumerate() {
        let _ = writeln!(out, "  source{i}([\"{}\"])", quote(source));
    }
    for &index in stages {
        let _ = writeln!(
            out,
            "  stage{index}[\"{}<br/>{}\"]",
            quote(name(graph, index)),
            quote(kind(graph, index))
        );
    }
    for &index in stages {
        for input in graph.inputs(index) {
            let from = match input.from {
                Producer::Source(source) => {
                    format!("source{}", sources.iter().position(|s| *s == source).unwrap_or_default())
                }
                Producer::Stage { index, .. } => format!("stage{index}"),
            };
            let _ = writeln!(out, "  {from} -->|{}| stage{index}", quote(input.name));
        }
    }
    out
}

/// JSON, [`GRAPH_FORMAT`].
pub fn json(graph: &Graph, stages: &[usize]) -> Value {
    let pipeline = graph.pipeline();
    let sources: Vec<_> = sources(graph, stages)
        .into_iter()
        .filter_map(|name| Some((name, pipeline.sources.get(name)?)))
        .map(|(name, source)| json!({ "name": name, "path": source.path, "type": source.artifact_type }))
        .collect();
    let stages: Vec<_> = stages.iter().map(|index| stage_json(graph, *index)).collect();
    json!({ "schema": GRAPH_FORMAT, "pipeline": pipeline.name, "sources": sources, "stages": stages })
}

fn stage_json(graph: &Graph, index: usize) -> Value {
    let inputs: Vec<_> = graph
        .inputs(index)
        .into_iter()
        .map(|input| match input.from {
            Producer::Source(source) => json!({ "name": input.name, "source": source }),
            Producer::Stage { index, output } => {
                json!({ "name": input.name, "stage": name(graph, index), "output": output.name })
            }
        })
        .collect();
    let outputs: Vec<_> = graph
        .stage(index)
        .outputs
        .iter()
        .map(|port| json!({ "name": port.name, "type": port.types.first() }))
        .collect();
    json!({ "name": name(graph, index), "kind": kind(graph, index), "inputs": inputs, "outputs": outputs })
}
