//! The numbers of a lineage.
//!
//! Purpose: what the stages of a lineage measured, and what the evaluations of an artifact found.
//! Invariant: metrics count only if the run that is here made the very outputs, and an evaluation only if its record read
//! the very artifact.
//! Must not know: what a number means.

use super::facts::{Evaluation, Gap, Measured};
use super::records::{self, Records};
use crate::cas::types::{Action, ArtifactRef};
use crate::cli::CliError;
use crate::cli::context::Context;
use crate::cli::results::metrics::{self, Metrics};
use crate::graph::{Input, Producer};
use crate::plan::{Plan, StageIx, key_inputs};
use crate::protocol::Port;

/// The artifact types of what an evaluation makes.
const EVALUATIONS: [&str; 2] = ["report", "table"];

/// An output of a stage.
pub struct Target<'a> {
    /// The stage.
    pub index: StageIx,
    /// The output.
    pub port: &'a Port,
    /// The artifact.
    pub artifact: ArtifactRef,
}

/// The stages that evaluate an output: they read it, and all that they make is a report or a table.
pub fn evaluations_of(context: &Context, index: StageIx, port: &Port) -> Vec<StageIx> {
    let graph = &context.graph;
    let evaluates = |stage: &StageIx| {
        let outputs = &graph.stage(*stage).outputs;
        let is_evaluation =
            |port: &Port| port.types.first().is_some_and(|t| EVALUATIONS.contains(&t.as_str()));
        let reads = graph.inputs(*stage).into_iter().any(|input| is_output(&input.from, index, &port.name));
        reads && !outputs.is_empty() && outputs.iter().all(is_evaluation)
    };
    graph.dependents(index).into_iter().filter(evaluates).collect()
}

fn is_output(from: &Producer<'_>, stage: StageIx, name: &str) -> bool {
    matches!(from, Producer::Stage { index, output } if *index == stage && output.name == name)
}

/// The numbers of the stages of the lineage that have some.
///
/// # Errors
/// Metrics cannot be read.
pub fn measured(
    context: &Context,
    records: &Records<'_>,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Measured>, CliError> {
    let mut all = Vec::new();
    for index in &records.stages {
        if let Some(action) = records.known.get(index) {
            all.push(numbers(context, *index, action, gaps)?);
        }
    }
    all.retain(|one| !one.summary.is_empty() || !one.metrics.is_empty());
    Ok(all)
}

/// The numbers of a stage: those of its record, and the metrics of its run if that is one of this store.
fn numbers(
    context: &Context,
    index: StageIx,
    action: &Action,
    gaps: &mut Vec<Gap>,
) -> Result<Measured, CliError> {
    let (store, stage) = (&context.store, context.graph.stage(index).name.value.as_str());
    let run = store.history().read(&action.provenance.run).ok().flatten();
    let is_here = run.is_some_and(|run| metrics::maker(&run.stages, action).is_some());
    let metrics = if is_here { metrics::read(store, stage, action)? } else { Metrics::new() };
    // No command has metrics.
    if !is_here && action.key_inputs.value().get("provider").is_some() {
        gaps.push(Gap::new(stage, "the metrics are not known: the run is not one of this store"));
    }
    let provenance = &action.provenance;
    Ok(Measured {
        stage: stage.to_owned(),
        run: provenance.run.clone(),
        summary: provenance.summary.clone(),
        metrics,
    })
}

/// The evaluations whose records read the very artifact.
///
/// # Errors
/// Metrics cannot be read.
pub fn evaluated(
    context: &Context,
    plan: &Plan,
    target: &Target<'_>,
    evaluations: &[StageIx],
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Evaluation>, CliError> {
    let (graph, read) = (&context.graph, key_inputs::artifact(&target.artifact));
    let mut all = Vec::new();
    for &index in evaluations {
        let name = graph.stage(index).name.value.as_str();
        let action = plan.stage(name).and_then(|planned| planned.last.as_deref()).filter(|action| {
            let inputs = records::inputs(action);
            let of_it = |input: &Input<'_>| is_output(&input.from, target.index, &target.port.name);
            graph.inputs(index).iter().filter(|i| of_it(i)).any(|i| inputs.get(i.name) == Some(&read))
        });
        let Some(action) = action else {
            gaps.push(Gap::new(
                name,
                "not known: no record of this evaluation that read these bytes is here",
            ));
            continue;
        };
        let output = |(name, output): (&String, &ArtifactRef)| (name.clone(), key_inputs::artifact(output));
        all.push(Evaluation {
            measured: numbers(context, index, action, gaps)?,
            kind: action.key_inputs.value()["kind"].as_str().unwrap_or_default().to_owned(),
            key: action.key,
            outputs: action.outputs.iter().map(output).collect(),
        });
    }
    Ok(all)
}
