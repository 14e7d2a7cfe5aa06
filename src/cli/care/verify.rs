//! `kiln verify`.
//!
//! Purpose: runs a stage again, in a store of its own that has the results of the stages above it, and compares what
//! comes out with what is recorded.
//! Invariant: the store of the project and the lock file stay as they are; the other store is removed afterwards.
//! Must not know: how a stage runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::cas::Store;
use crate::cas::types::{Action, ArtifactRef};
use crate::cli::args::{Common, RunArgs, VerifyArgs};
use crate::cli::context::Context;
use crate::cli::pipeline::run;
use crate::cli::printer::{BAD, GOOD, Printer, paint};
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::plan::StagePlan;
use crate::report::text::printable;
use crate::spec::executors::LOCAL;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; the stage has no result here; it fails now; the disk refuses.
pub fn run(common: &Common, args: &VerifyArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (file, names) = args.pipeline.split();
    let [stage] = names else {
        return Err(CliError::Call("`kiln verify` takes one stage: kiln verify [FILE] STAGE".into()));
    };
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let plan = context.plan(std::slice::from_ref(stage), &[])?;
    // What is to be compared are digests, which a record in a remote has as well.
    let is_known = |planned: &&StagePlan| planned.state.is_fresh();
    let planned = plan.stage(stage).filter(is_known);
    let Some(recorded) = planned.and_then(|planned| planned.last.as_deref()) else {
        let message = format!("`{stage}` has no result that could be compared; `kiln run {stage}` makes one");
        return Err(CliError::Failed(message));
    };
    let folder = context.store.root().join(format!("work/verify-{}", std::process::id()));
    let above = plan.stages.iter().filter(|planned| planned.name != *stage).filter_map(|p| p.last.as_deref());
    let outcome = prepare(&context.store, &folder, above).and_then(|()| {
        let mut common = common.clone();
        (common.store, common.offline) = (Some(folder.clone()), true);
        let mut pipeline = args.pipeline.clone();
        pipeline.names = file.iter().map(|file| file.display().to_string()).chain([stage.clone()]).collect();
        pipeline.json = false;
        let again = RunArgs {
            pipeline,
            force: vec![stage.clone()],
            leaves_lock_file: true,
            executor: Some(LOCAL.to_owned()),
            ..RunArgs::default()
        };
        let exit = run::run(&common, &again, printer)?;
        let made = Store::open(&folder)?.action(&recorded.key)?;
        Ok((exit, made))
    });
    // What cannot be removed now is removed with the scratch folders.
    let _ = context.store.disk().remove_folder(&folder);
    let (exit, made) = outcome?;
    if exit == Exit::Interrupted {
        return Ok(exit);
    }
    let Some(made) = made.filter(|_| exit == Exit::Ok) else {
        return Err(CliError::Failed(format!(
            "`{stage}` did not run again to its end, so nothing was compared"
        )));
    };
    report(stage, recorded, &made, args.pipeline.json, printer)
}

/// A store that has these results. Its blobs share their bytes with those of the project's store where they can.
fn prepare<'a>(
    store: &Store,
    folder: &Path,
    above: impl Iterator<Item = &'a Action>,
) -> Result<(), CliError> {
    let other = Store::open(folder)?;
    let above: Vec<_> = above.collect();
    // Some may be in a remote only.
    let outputs: Vec<_> = above.iter().flat_map(|action| action.outputs.values().copied()).collect();
    store.fetch(&outputs, &[]).map_err(|error| {
        CliError::Failed(format!(
            "what the stage was made from cannot be had, so nothing was compared: {error}"
        ))
    })?;
    let copy = |digest: &Digest| other.blobs().put(digest, &store.blob(digest));
    for action in above {
        for output in action.outputs.values() {
            if output.tree {
                store.tree(&output.digest)?.files.iter().try_for_each(|file| copy(&file.digest))?;
            }
            copy(&output.digest)?;
        }
        other.actions().put(action)?;
    }
    Ok(())
}

fn report(
    stage: &str,
    recorded: &Action,
    made: &Action,
    json: bool,
    printer: &mut Printer,
) -> Result<Exit, CliError> {
    let digest =
        |outputs: &BTreeMap<String, ArtifactRef>, name: &str| outputs.get(name).map(|output| output.digest);
    let same = recorded.outputs == made.outputs;
    if json {
        let output = |name: &String| {
            let (then, now) = (digest(&recorded.outputs, name), digest(&made.outputs, name));
            (name.clone(), json!({ "recorded": then, "now": now }))
        };
        let outputs: serde_json::Map<_, _> = recorded.outputs.keys().map(output).collect();
        printer
            .json(&json!({ "schema": "kiln.verify/1", "stage": stage, "same": same, "outputs": outputs }))?;
    } else {
        for (name, then) in &recorded.outputs {
            let now = made.outputs.get(name);
            let name = format!("{}.{}", printable(stage), printable(name));
            printer.line(match now {
                Some(now) if now == then => {
                    format!("{} {name}  {}", paint(GOOD, "same"), then.digest.short())
                }
                now => {
                    let now = now.map_or("nothing".to_owned(), |now| now.digest.short());
                    format!("{} {name}  recorded {}, now {now}", paint(BAD, "differs"), then.digest.short())
                }
            });
        }
    }
    Ok(if same { Exit::Ok } else { Exit::Failed })
}
