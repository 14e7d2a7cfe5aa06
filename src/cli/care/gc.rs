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
use crate::cas::remote::GcRules;
use crate::cas::trust::TrustPolicy;
use crate::cas::types::Action;
use crate::cli::args::{Common, GcArgs, PipelineArgs};
use crate::cli::care::pin::{failed, one_remote};
use crate::cli::context::{Context, open_store};
use crate::cli::printer::{FAINT, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::report::lockfile::LockFile;
use crate::report::text::{bytes, printable, seconds, table};

/// The most things that are listed for people.
const MOST: usize = 40;
/// How long results stay in a remote that were not used, in seconds.
const KEEP: u64 = 90 * 86_400;
/// The least age of what is removed from a remote, in seconds.
const LEAST_GRACE: u64 = 86_400;

/// Runs the command.
///
/// # Errors
/// There is no store, it is in use, or the disk refuses.
pub fn run(common: &Common, args: &GcArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if let Some(name) = &args.remote {
        return of_remote(common, args, name, printer);
    }
    let root = find_root(None)?;
    let store = open_store(common, &root)?;
    let alone = if args.apply { store.own()? } else { None };
    if args.apply && alone.is_none() {
        let message = "a run is using this store; run `kiln gc --apply` again when it has ended";
        return Err(CliError::Failed(message.into()));
    }
    let roots = roots(&store, &root, args.keep_runs)?;
    let mut plan = store.plan_gc(&roots, Duration::from_secs(args.older))?;
    add_runs(&store, args, &mut plan)?;
    let freed = if args.apply { store.collect_garbage(&plan)? } else { 0 };
    let about =
        |garbage: &Garbage| about(garbage.key.and_then(|key| store.actions().get(&key).ok().flatten()));
    print(args, &plan, freed, &about, printer)
}

/// Cleans a remote.
fn of_remote(common: &Common, args: &GcArgs, name: &str, printer: &mut Printer) -> Result<Exit, CliError> {
    let remotes = one_remote(common, &PipelineArgs::default(), name)?;
    let Some(remote) = remotes.iter().next() else { return Ok(Exit::Ok) };
    if args.apply && !remote.access.writes() {
        return Err(CliError::Call(format!(
            "the remote `{name}` may not be written; an entry of your own says otherwise: `kiln remote add`"
        )));
    }
    if args.older < LEAST_GRACE {
        return Err(CliError::Call(
            "`--older` is at least 1d for a remote: others may be sending things now".into(),
        ));
    }
    let keep = Duration::from_secs(args.keep.unwrap_or(KEEP));
    let rules = GcRules { keep, grace: Duration::from_secs(args.older) };
    let (plan, freed) = match args.apply {
        true => remotes.collect_garbage(remote, rules).map_err(failed)?,
        false => (remotes.plan_gc(remote, rules).map_err(failed)?, 0),
    };
    let about = |garbage: &Garbage| {
        let action = garbage.key.filter(|_| !args.apply).and_then(|key| {
            let found = remotes.lookup(&[key], &TrustPolicy::default()).pop().flatten()?;
            Some((*found.action).clone())
        });
        about(action)
    };
    print(args, &plan, freed, &about, printer)
}

fn print(
    args: &GcArgs,
    plan: &GcPlan,
    freed: u64,
    about: &dyn Fn(&Garbage) -> String,
    printer: &mut Printer,
) -> Result<Exit, CliError> {
    if args.json {
        let (live, live_bytes) = (plan.live_actions, plan.live_bytes);
        printer.json(&json!({
            "schema": "kiln.gc/1", "remote": args.remote, "applied": args.apply, "garbage": plan.garbage,
            "bytes": plan.bytes(), "freed": freed, "live_actions": live, "live_bytes": live_bytes,
        }))?;
    } else {
        to_text(args, plan, freed, about, printer);
    }
    Ok(Exit::Ok)
}

/// Adds old runs that no record names: their logs and metrics.
fn add_runs(store: &Store, args: &GcArgs, plan: &mut GcPlan) -> Result<(), CliError> {
    let all = store.history().list()?;
    for id in all.iter().rev().skip(args.keep_runs.max(1)).filter(|id| !plan.live_runs.contains(*id)) {
        let garbage = Garbage::folder(Kind::Run, store.root().join("runs").join(id));
        plan.garbage.extend(garbage.filter(|garbage| garbage.age >= args.older));
    }
    Ok(())
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

/// The records that stay: those that the history, pins, the lock files of the project and work that was not finished
/// name.
fn roots(store: &Store, root: &Path, runs: usize) -> Result<BTreeSet<Digest>, CliError> {
    let mut roots = store.history().keys(runs)?;
    roots.extend(store.works());
    roots.extend(store.pins()?.into_values().flat_map(|pin| pin.keys));
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

fn to_text(
    args: &GcArgs,
    plan: &GcPlan,
    freed: u64,
    about: &dyn Fn(&Garbage) -> String,
    printer: &mut Printer,
) {
    let rows: Vec<_> = plan.garbage.iter().take(MOST).map(|garbage| row(garbage, about)).collect();
    table(&rows).into_iter().for_each(|line| printer.line(format!("  {line}")));
    if plan.garbage.len() > MOST {
        printer.line(paint(FAINT, format!("  and {} more", plan.garbage.len() - MOST)));
    }
    let (count, size) = (plan.garbage.len(), bytes(plan.bytes()));
    let stays = format!("{} records and {} of blobs stay", plan.live_actions, bytes(plan.live_bytes));
    let remote =
        args.remote.as_ref().map(|name| format!(" --remote {}", printable(name))).unwrap_or_default();
    printer.line(match (count, args.apply) {
        (0, _) => format!("Nothing to remove; {stays}."),
        (_, true) => format!("Removed {} of {count} things' {size}; {stays}.", bytes(freed)),
        (_, false) => {
            format!("{count} things can go, {size}; {stays}. `kiln gc{remote} --apply` removes them.")
        }
    });
}

/// What it is, where it lies, its bytes and its age; of a record also its stage's kind and its run.
fn row(garbage: &Garbage, about: &dyn Fn(&Garbage) -> String) -> Vec<String> {
    let kind = match garbage.kind {
        Kind::Action => "record",
        Kind::Blob => "blob",
        Kind::Recipe => "recipe",
        Kind::Pack => "pack",
        Kind::Leftover => "leftover",
        Kind::Replaced => "replaced",
        Kind::Quarantined => "quarantined",
        Kind::View => "view",
        Kind::Run => "run",
    };
    // The place within the store: its kind, and the name.
    let parts: Vec<_> = garbage.path.iter().map(|part| printable(&part.to_string_lossy())).collect();
    let path = parts[parts.len().saturating_sub(3)..].join("/");
    vec![kind.into(), path, bytes(garbage.bytes), seconds(garbage.age as f64), about(garbage)]
}

/// The kind of stage of a record, and its run.
fn about(action: Option<Action>) -> String {
    let Some(action) = action else { return String::new() };
    let kind = action.key_inputs.value()["kind"].as_str().unwrap_or_default().to_owned();
    format!("{}, run {}", printable(&kind), printable(&action.provenance.run))
}
