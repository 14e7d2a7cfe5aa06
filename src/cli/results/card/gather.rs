//! From the records to the facts of a card.
//!
//! Purpose: collect what the records, the listing and the headers of an artifact, the files of its sources and the
//! metrics of its runs say.
//! Invariant: a source has a size and a number of files only if its bytes are those that were read. Nothing runs, and
//! nothing is fetched.
//! Must not know: Markdown.

use std::collections::BTreeSet;

use super::facts::{Ancestor, Artifact, CARD_FORMAT, Card, Data, File, Gap, Model};
use super::measured::{Target, evaluated, evaluations_of, measured};
use super::records::{self, Records};
use super::{model, reproduction};
use crate::cas::types::{Action, ArtifactRef, TreeFile};
use crate::cli::CliError;
use crate::cli::args::PipelineArgs;
use crate::cli::context::Context;
use crate::graph::{Producer, render};
use crate::plan::types::Cause;
use crate::plan::{Plan, SourceFiles, Sources, StageIx, StagePlan, key_inputs};
use crate::protocol::Port;

/// The facts of the card of an output of a stage.
///
/// # Errors
/// The pipeline is wrong; nothing is known of the stage; the store fails.
pub fn gather(context: &Context, args: &PipelineArgs, index: StageIx, port: &Port) -> Result<Card, CliError> {
    let graph = &context.graph;
    let name = graph.stage(index).name.value.as_str();
    let evaluations = evaluations_of(context, index, port);
    let (plan, mut gaps) = plan(context, name, &evaluations)?;
    let planned = plan.stage(name).and_then(|planned| Some((planned, planned.last.as_deref()?)));
    let known = planned.and_then(|(plan, action)| Some((plan, action, *action.outputs.get(&port.name)?)));
    let Some((planned, action, artifact)) = known else {
        let is_unsigned = |stage: &StagePlan| stage.reasons.iter().any(|r| r.cause == Cause::Untrusted);
        let message = match plan.stage(name).is_some_and(is_unsigned) {
            true => format!(
                "no trusted key has signed the record of `{name}`; once this machine has a key (`kiln key new`), \
                 `kiln run {name}` makes it again and signs it"
            ),
            false => format!("nothing is known of `{name}.{}` here; `kiln run {name}` makes it", port.name),
        };
        return Err(CliError::Failed(message));
    };
    let target = Target { index, port, artifact };
    let stages = graph.targets(&[name.to_owned()]).map_err(CliError::Pipeline)?;
    let records = Records::walk(graph, &plan, stages, index, action, &mut gaps);
    let (files, model) = contents(context, name, &artifact, &mut gaps)?;
    unsigned(context, &records, &mut gaps);
    Ok(Card {
        schema: CARD_FORMAT,
        pipeline: plan.pipeline.clone(),
        artifact: Artifact {
            stage: name.to_owned(),
            output: port.name.clone(),
            artifact_type: type_of(port),
            digest: artifact.digest,
            folder: artifact.tree,
            executable: artifact.executable,
            bytes: artifact.size,
            files,
        },
        stale: planned.key != Some(action.key),
        made: records::made(graph, index, action, context.store.trust()),
        model,
        lineage: records.stages.iter().map(|index| ancestor(context, &records, *index)).collect(),
        graph: render::mermaid(graph, &records.stages),
        data: data(context, &records, index, &mut gaps)?,
        metrics: measured(context, &records, &mut gaps)?,
        evaluations: evaluated(context, &plan, &target, &evaluations, &mut gaps)?,
        reproduction: reproduction::of(graph.pipeline(), args, name, action, &mut gaps),
        gaps,
    })
}

/// The plan of a stage and of its evaluations; where those cannot be planned, of the stage alone.
fn plan(context: &Context, name: &str, evaluations: &[StageIx]) -> Result<(Plan, Vec<Gap>), CliError> {
    let alone = [name.to_owned()];
    if evaluations.is_empty() {
        return Ok((context.plan(&alone, &[])?, Vec::new()));
    }
    let more = evaluations.iter().map(|index| context.graph.stage(*index).name.value.clone());
    let all: Vec<_> = alone.iter().cloned().chain(more).collect();
    match context.plan(&all, &[]) {
        Ok(plan) => Ok((plan, Vec::new())),
        Err(_) => {
            let gap = Gap::new(name, "the evaluations are not known: what they read cannot be found here");
            Ok((context.plan(&alone, &[])?, vec![gap]))
        }
    }
}

/// The files of a folder, and what the files of an artifact say of a model, as far as they are here.
fn contents(
    context: &Context,
    name: &str,
    artifact: &ArtifactRef,
    gaps: &mut Vec<Gap>,
) -> Result<(Option<Vec<File>>, Option<Model>), CliError> {
    if !context.store.is_intact(artifact)? {
        let what = format!(
            "the files are not here, so nothing is said of them; `kiln run {name}` brings or makes them"
        );
        gaps.push(Gap::new(name, what));
        return Ok((None, None));
    }
    let file = |f: TreeFile| File { path: f.path, bytes: f.size, digest: f.digest };
    let files = match artifact.tree {
        true => Some(context.store.tree(&artifact.digest)?.files.into_iter().map(file).collect()),
        false => None,
    };
    Ok((files, model::read(&context.store, name, artifact, gaps)?))
}

fn type_of(port: &Port) -> String {
    port.types.first().cloned().unwrap_or_else(|| "any".into())
}

fn ancestor(context: &Context, records: &Records<'_>, index: StageIx) -> Ancestor {
    let stage = context.graph.stage(index);
    let action = records.known.get(&index);
    let outputs = match action {
        Some(action) => {
            action.outputs.iter().map(|(name, output)| (name.clone(), key_inputs::artifact(output))).collect()
        }
        None => {
            let of_it = records.read.iter().filter(|((stage, _), _)| *stage == index);
            let joined = |digests: &BTreeSet<String>| digests.iter().cloned().collect::<Vec<_>>().join(", ");
            of_it.map(|((_, output), digests)| (output.clone(), joined(digests))).collect()
        }
    };
    let in_the_file = stage.params.iter().filter(|(_, param)| !param.span.is_nowhere());
    Ancestor {
        stage: stage.name.value.clone(),
        outputs,
        made: action.map(|action| records::made(&context.graph, index, action, context.store.trust())),
        main: in_the_file.map(|(name, _)| name.clone()).collect(),
    }
}

/// What the known records start from: the sources that they read, and what stages made that read nothing.
fn data(
    context: &Context,
    records: &Records<'_>,
    of: StageIx,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<Data>, CliError> {
    let planner = context.planner(&[], None)?;
    let (mut sources, mut made) = (BTreeSet::new(), Vec::new());
    for index in &records.stages {
        let Some(action) = records.known.get(index) else { continue };
        let read = records::inputs(action);
        for input in context.graph.inputs(*index) {
            if let (Producer::Source(name), Some(digest)) = (input.from, read.get(input.name)) {
                sources.insert((name, digest.clone()));
            }
        }
        if read.is_empty() && *index != of {
            made.extend(outputs_of(context, records, *index, action));
        }
    }
    let mut all = Vec::new();
    for (name, digest) in sources {
        all.push(source(context, planner.sources(), name, digest, gaps)?);
    }
    all.extend(made);
    Ok(all)
}

fn source(
    context: &Context,
    sources: &Sources,
    name: &str,
    digest: String,
    gaps: &mut Vec<Gap>,
) -> Result<Data, CliError> {
    let declared = context.graph.pipeline().sources.get(name);
    let now = sources.source(name).map_err(|e| context.plan_error(e))?;
    let (bytes, files) = match key_inputs::artifact(&now) == digest {
        true => {
            let files = match sources.files(name).map_err(|e| context.plan_error(e))? {
                SourceFiles::Path(_) if !now.tree => 1,
                SourceFiles::Path(path) => context.store.list_source(&path, sources.ignore())?.files.len(),
                SourceFiles::Glob { files, .. } => files.len(),
            };
            (Some(now.size), Some(files))
        }
        false => {
            let what =
                "the size and the number of files are not known: at its path there are other bytes now";
            gaps.push(Gap::new(name, what));
            (None, None)
        }
    };
    Ok(Data {
        name: name.to_owned(),
        path: declared.map(|source| source.path.clone()),
        artifact_type: declared.map_or_else(|| "any".into(), |source| source.artifact_type.clone()),
        digest,
        bytes,
        files,
    })
}

/// The outputs of a stage that reads nothing, as far as the lineage reads them.
fn outputs_of(context: &Context, records: &Records<'_>, index: StageIx, action: &Action) -> Vec<Data> {
    let stage = context.graph.stage(index);
    let was_read = |port: &&Port| records.read.contains_key(&(index, port.name.clone()));
    let one = |port: &Port| {
        let artifact = action.outputs.get(&port.name)?;
        let listed = || context.store.tree(&artifact.digest).ok().map(|tree| tree.files.len());
        Some(Data {
            name: format!("{}.{}", stage.name.value, port.name),
            path: None,
            artifact_type: type_of(port),
            digest: key_inputs::artifact(artifact),
            bytes: Some(artifact.size),
            files: if artifact.tree { listed() } else { Some(1) },
        })
    };
    stage.outputs.iter().filter(was_read).filter_map(one).collect()
}

/// The records of the lineage that nobody vouches for.
fn unsigned(context: &Context, records: &Records<'_>, gaps: &mut Vec<Gap>) {
    let trust = context.store.trust();
    for index in &records.stages {
        let Some(action) = records.known.get(index) else { continue };
        let what = match (action.signatures.is_empty(), trust.signed_by(action)) {
            (true, _) => "the record is not signed",
            (false, None) => "the record is signed by no key that is trusted here",
            (false, Some(_)) => continue,
        };
        gaps.push(Gap::new(context.graph.stage(*index).name.value.as_str(), what));
    }
}
