//! The outputs of a stage, from its execution folder into the store.
//!
//! Purpose: collect what an attempt has made, after a second look at its inputs; and collect what an earlier
//! run had to leave behind.
//! Invariant: nothing is taken from an execution folder that was kept, unless names, sizes and times are
//! those of its manifest; an action is made only when the inputs are what its key says.
//! Must not know: how a stage was run, which other stages are committed with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::life::{Early, StageRun};
use super::reserve;
use crate::cas::disk;
use crate::cas::types::{ACTION_FORMAT, Action, ArtifactRef, Provenance};
use crate::cas::{CollectError, Committed, Manifest, PendingCommit, StoreError};
use crate::digest::CanonicalJson;
use crate::executor::attempt::Made;
use crate::plan::Changed;
use crate::sched::StageEvent;
use crate::spec::types::{Sandbox, Work};

/// The most bytes of a manifest that are read.
const MOST_BYTES: u64 = 256 << 20;

/// What is known of an attempt that succeeded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finished {
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The numbers that matter.
    pub summary: Vec<(String, f64)>,
}

/// Outputs that can be committed.
pub struct Collected {
    /// What the store is to commit.
    pub pending: PendingCommit,
    /// The outputs.
    pub outputs: BTreeMap<String, ArtifactRef>,
    /// Where they lie.
    pub made: Made,
    /// What is known of the attempt.
    pub finished: Finished,
}

/// An execution folder that is kept until its outputs can be collected.
#[derive(Serialize, Deserialize)]
struct Kept {
    finished: Finished,
    outputs: BTreeMap<String, PathBuf>,
    manifest: Manifest,
    /// What the outputs were before they were to be committed: what went back to the folder afterwards must
    /// still be that.
    artifacts: Option<BTreeMap<String, ArtifactRef>>,
}

/// Collects the outputs of an attempt that succeeded.
///
/// # Errors
/// Somebody wrote to its inputs, or an output cannot be kept; the execution folder then stays.
pub fn collect(run: &StageRun, made: &Made, finished: Finished) -> Result<Collected, Early> {
    let unchanged = inputs_are_unchanged(run)?;
    if let Some(input) = made.shared.written_since(&run.context, &run.job) {
        return Err(Early::Failed(format!(
            "its input `{input}` was written to while it ran, by it or by another stage that shares the file, and \
             then had its old bytes again; an input is read-only: copy it before changing it, and run again"
        )));
    }
    match stage_outputs(run, made, &finished, (unchanged, false)) {
        Ok(collected) => Ok(collected),
        Err(CollectError::Recoverable(error)) => Err(keep(run, made, finished, None, &error)),
        Err(CollectError::Refused(error)) => Err(refuse(run, &error)),
    }
}

/// Lets a later run find the scratch folder, if it stays.
pub fn label(run: &StageRun) {
    if run.scratch.root().exists()
        && let Err(e) = run.context.store.label_work(&run.job.key)
    {
        tracing::debug!("a scratch folder was not labelled: {e}");
    }
}

/// Fails a stage whose outputs cannot be kept, and leaves them for inspection.
fn refuse(run: &StageRun, error: &StoreError) -> Early {
    label(run);
    let folder = run.scratch.run();
    Early::Failed(format!("{error}; what it made stays in {} until the next run", folder.display()))
}

fn stage_outputs(
    run: &StageRun,
    made: &Made,
    finished: &Finished,
    (unchanged, kept): (bool, bool),
) -> Result<Collected, CollectError> {
    let (mut staged, mut outputs) = (Vec::new(), BTreeMap::new());
    for (name, path) in &made.outputs {
        let store = &run.context.store;
        let output =
            if kept { store.collect_kept(path, &made.inputs) } else { store.collect(path, &made.inputs) }?;
        outputs.insert(name.clone(), output.artifact);
        staged.push(output);
    }
    let mut action = unchanged.then(|| Action {
        format: ACTION_FORMAT.into(),
        key: run.job.key,
        key_inputs: CanonicalJson::of(&run.job.key_inputs),
        outputs: outputs.clone(),
        provenance: provenance(run, finished),
        signatures: Vec::new(),
    });
    action.iter_mut().for_each(|action| run.context.store.trust().sign(action));
    let pending = PendingCommit { outputs: staged, action, replace: run.job.replace };
    Ok(Collected { pending, outputs, made: made.clone(), finished: finished.clone() })
}

fn provenance(run: &StageRun, finished: &Finished) -> Provenance {
    let provider = match &run.stage().work {
        Work::Kind { provider, .. } => {
            let named = run.context.graph.pipeline().providers.get(*provider);
            named.and_then(|named| run.context.providers.get(named)).map(|provider| provider.digest)
        }
        Work::Command { .. } | Work::Download(_) => None,
    };
    Provenance {
        run: run.context.run.id().to_owned(),
        started: finished.started.clone(),
        seconds: finished.seconds,
        kiln: env!("CARGO_PKG_VERSION").to_owned(),
        provider,
        summary: finished.summary.clone(),
    }
}

/// Looks at the inputs again. False when the result serves this run only.
fn inputs_are_unchanged(run: &StageRun) -> Result<bool, Early> {
    let changes =
        run.context.planner.sources().revalidate(run.job.stage, &run.job.inputs, &run.job.key_inputs)?;
    // What was copied into the execution folder is what the key says, whatever became of the original.
    let copied = matches!(&run.stage().work, Work::Command { sandbox, .. } if *sandbox != Sandbox::Off);
    let mut unchanged = true;
    for change in changes {
        match change {
            Changed::Input(input) => {
                return Err(Early::Failed(format!(
                    "its input `{input}` was damaged while it ran: it or another stage wrote to it; an input is \
                     read-only: copy it before changing it. The damaged artifact was quarantined, and the next run \
                     makes it again"
                )));
            }
            Changed::Source(_) | Changed::Uses(_) if copied => {}
            Changed::Source(what) | Changed::Uses(what) => {
                unchanged = false;
                let message =
                    format!("`{what}` changed while the stage ran; its result serves this run only");
                (run.emit)(StageEvent::Note { message });
            }
        }
    }
    Ok(unchanged)
}

/// Keeps the execution folder for the next run, which need not run the stage again.
fn keep(
    run: &StageRun,
    made: &Made,
    finished: Finished,
    artifacts: Option<BTreeMap<String, ArtifactRef>>,
    error: &StoreError,
) -> Early {
    let folder = run.scratch.run();
    let written = run.context.store.manifest(&folder).map_err(std::io::Error::other).and_then(|manifest| {
        let kept = Kept { finished, outputs: made.outputs.clone(), manifest, artifacts };
        let (json, file) = (serde_json::to_vec(&kept)?, run.scratch.manifest());
        disk::replace(&file, &json).or_else(|_| {
            // A disk that is full has room for it when something else goes.
            reserve::release(run.context.store.root());
            disk::replace(&file, &json)
        })
    });
    let next = match written {
        Ok(()) => "the next run collects it without running the stage again",
        Err(_) => "the next run runs the stage again",
    };
    Early::Failed(format!("{error}; what it made stays in {}: {next}", folder.display()))
}

/// The outputs that an earlier run had to leave behind, if they are as it left them.
///
/// # Errors
/// The disk still fails; they stay for the run after this one.
pub fn kept_by_an_earlier_run(run: &StageRun) -> Result<Option<Collected>, Early> {
    let (Some(kept), folder) = (read_kept(run), run.scratch.run()) else { return Ok(None) };
    let made =
        Made { outputs: kept.outputs, inputs: std::sync::Arc::default(), shared: std::sync::Arc::default() };
    let Ok(unchanged) = inputs_are_unchanged(run) else { return Ok(None) };
    let collected = match stage_outputs(run, &made, &kept.finished, (unchanged, true)) {
        Ok(collected) => collected,
        Err(CollectError::Recoverable(error)) => {
            let folder = folder.display();
            return Err(Early::Failed(format!(
                "{error}; what an earlier run made stays in {folder}: the next run collects it, or runs the stage \
                 again if that folder is removed"
            )));
        }
        Err(CollectError::Refused(_)) => return Ok(None),
    };
    if kept.artifacts.is_some_and(|artifacts| artifacts != collected.outputs) {
        return Ok(None);
    }
    let message = "collected what an earlier run had made and could not keep".to_owned();
    (run.emit)(StageEvent::Note { message });
    Ok(Some(collected))
}

/// What an earlier run wrote down of an execution folder that is still what it was.
fn read_kept(run: &StageRun) -> Option<Kept> {
    let (file, folder) = (run.scratch.manifest(), run.scratch.run());
    let small = fs::metadata(&file).is_ok_and(|meta| meta.len() <= MOST_BYTES);
    let kept: Kept = serde_json::from_slice(&small.then(|| fs::read(&file).ok())??).ok()?;
    let inside = kept.outputs.values().all(|path| path.starts_with(&folder));
    let is_same = !run.job.replace && inside && run.context.store.matches(&kept.manifest, &folder);
    is_same.then_some(kept)
}

/// Reports other bytes for the same key, and says which outputs the stage has now.
pub fn announce(
    run: &StageRun,
    committed: Option<Committed>,
    mut outputs: BTreeMap<String, ArtifactRef>,
) -> BTreeMap<String, ArtifactRef> {
    let Some(Committed::Conflict { previous, replaced }) = committed else { return outputs };
    let what = if replaced { "this result replaces it" } else { "the earlier result stays" };
    for (name, artifact) in &outputs {
        let before = previous.outputs.get(name).filter(|before| *before != artifact);
        if let Some(before) = before {
            let message = format!(
                "`{name}` has other bytes than in run {}, for the same key: {} -> {}; the stage is not \
                 deterministic, and {what}",
                previous.provenance.run,
                before.digest.short(),
                artifact.digest.short()
            );
            (run.emit)(StageEvent::Note { message });
        }
    }
    if !replaced {
        outputs = previous.outputs;
    }
    outputs
}

/// Fails a stage whose outputs could not be committed; the files are where they were.
pub fn not_committed(
    run: &StageRun,
    made: &Made,
    finished: Finished,
    artifacts: BTreeMap<String, ArtifactRef>,
    error: StoreError,
) -> Early {
    match CollectError::from(error) {
        CollectError::Recoverable(error) => keep(run, made, finished, Some(artifacts), &error),
        CollectError::Refused(error) => refuse(run, &error),
    }
}
