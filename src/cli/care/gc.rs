//! `kiln gc`.
//!
//! Purpose: lists what nobody needs in the store, and removes it when asked to.
//! Invariant: nothing is removed without `--apply`, and nothing while a runner uses the store. What the lock files of
//! the project name stays, and so does what the newest runs and the last good runs of all pipelines name.
//! Must not know: how garbage is found.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::cas::Store;
use crate::cas::care::{Garbage, GcPlan, Kind};
use crate::cli::args::{Common, GcArgs, PipelineArgs};
use crate::cli::context::{Context, open_store};
use crate::cli::printer::{FAINT, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::report::lockfile::LockFile;
use crate::report::text::{bytes, printable, seconds, table};

/// The most things that are listed for people.
const MOST: usize = 40;

/// Runs the command.
///
/// # Errors
/// There is no store, it is in use, or the disk refuses.
pub fn run(common: &Common, args: &GcArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let root = find_root(None)?;
    let store = open_store(common, &root)?;
    let alone = if args.apply { store.own()? } else { None };
    if args.apply && alone.is_none() {
        let message = "a run is using this store; run `kiln gc --apply` again when it has ended";
        return Err(CliError::Failed(message.into()));
    }
    let roots = roots(&store, &root, args.keep_runs)?;
    let plan = store.plan_gc(&roots, Duration::from_secs(args.older))?;
    let freed = if args.apply { store.collect_garbage(&plan)? } else { 0 };
    if args.json {
        let (live, live_bytes) = (plan.live_actions, plan.live_bytes);
        printer.json(&json!({
            "schema": "kiln.gc/1", "applied": args.apply, "garbage": plan.garbage, "bytes": plan.bytes(),
            "freed": freed, "live_actions": live, "live_bytes": live_bytes,
        }))?;
    } else {
        to_text(&store, &plan, args.apply, printer);
    }
    Ok(Exit::Ok)
}

/// The store of the project, with the remotes that its pipeline and the user name.
///
/// # Errors
/// The store cannot be opened; a file is wrong.
pub fn store_and_remotes(common: &Common, args: &PipelineArgs) -> Result<std::sync::Arc<Store>, CliError> {
    match Context::open(common, args) {
        Ok(context) => Ok(context.store),
        // There is no pipeline here.
        Err(CliError::Call(_)) if args.names.is_empty() => Ok(open_store(common, &find_root(None)?)?.into()),
        Err(error) => Err(error),
    }
}

/// The records that stay: those that the history, the lock files of the project and work that was not finished name.
fn roots(store: &Store, root: &Path, runs: usize) -> Result<BTreeSet<Digest>, CliError> {
    let mut roots = store.history().keys(runs)?;
    roots.extend(store.works());
    for file in lock_files(root) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if LockFile::is_ours(&text) {
            roots.extend(LockFile::read(file, text).keys());
        }
    }
    Ok(roots)
}

/// The lock files in the project root and in `pipelines/`.
fn lock_files(root: &Path) -> Vec<PathBuf> {
    let folders = [root.to_owned(), root.join("pipelines")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "lock")).collect()
}

fn to_text(store: &Store, plan: &GcPlan, applied: bool, printer: &mut Printer) {
    let rows: Vec<_> = plan.garbage.iter().take(MOST).map(|garbage| row(store, garbage)).collect();
    table(&rows).into_iter().for_each(|line| printer.line(format!("  {line}")));
    if plan.garbage.len() > MOST {
        printer.line(paint(FAINT, format!("  and {} more", plan.garbage.len() - MOST)));
    }
    let (count, size) = (plan.garbage.len(), bytes(plan.bytes()));
    let stays = format!("{} records and {} of blobs stay", plan.live_actions, bytes(plan.live_bytes));
    printer.line(match (count, applied) {
        (0, _) => format!("Nothing to remove; {stays}."),
        (_, true) => format!("Removed {count} things, {size}; {stays}."),
        (_, false) => format!("{count} things can go, {size}; {stays}. `kiln gc --apply` removes them."),
    });
}

/// What it is, where it lies, its bytes and its age; of a record also its stage's kind and its run.
fn row(store: &Store, garbage: &Garbage) -> Vec<String> {
    let kind = match garbage.kind {
        Kind::Action => "record",
        Kind::Blob => "blob",
        Kind::Recipe => "recipe",
        Kind::Pack => "pack",
        Kind::Leftover => "leftover",
        Kind::Quarantined => "quarantined",
        Kind::View => "view",
    };
    let action = garbage.key.and_then(|key| store.actions().get(&key).ok().flatten());
    let about = action.map(|action| {
        let kind = action.key_inputs.value()["kind"].as_str().unwrap_or_default().to_owned();
        format!("{}, run {}", printable(&kind), printable(&action.provenance.run))
    });
    let path = garbage.path.strip_prefix(store.root()).unwrap_or(&garbage.path);
    let age = seconds(garbage.age as f64);
    vec![kind.into(), path.display().to_string(), bytes(garbage.bytes), age, about.unwrap_or_default()]
}
