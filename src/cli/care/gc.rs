//! `kiln gc`.
//!
//! Purpose: lists what nobody needs in the store, and removes it when asked to.
//! Invariant: nothing is removed without `--apply`, and nothing while a runner uses the store. What the lock files of
//! the project name stays, and so does what the newest runs and the last good runs of all pipelines name.
//! Must not know: how garbage is found.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::cas::Store;
use crate::cas::care::{Garbage, GcPlan, Kind};
use crate::cas::remote::{GcRules, RemoteError};
use crate::cas::types::Action;
use crate::cli::args::{Common, GcArgs, KEEP_RUNS, OLDER, PipelineArgs};
use crate::cli::care::lock_files;
use crate::cli::care::pin::{failed, one_remote};
use crate::cli::context::{Context, open_store};
use crate::cli::printer::{FAINT, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::executor::cluster::request;
use crate::report::text::{age, bytes, printable, table};

/// The most entries that are listed for people.
const MOST: usize = 40;
/// How long results stay in a remote that were not used, in seconds.
const KEEP: u64 = 90 * 86_400;
/// The least age of what is removed from a remote, in seconds.
const LEAST_GRACE: u64 = 86_400;
/// The kinds in the order in which they are counted for people: one of them, and several.
const KINDS: [(Kind, &str, &str); 9] = [
    (Kind::Action, "record", "records"),
    (Kind::Replaced, "replaced record", "replaced records"),
    (Kind::Blob, "blob", "blobs"),
    (Kind::Recipe, "recipe", "recipes"),
    (Kind::Pack, "pack", "packs"),
    (Kind::Quarantined, "quarantined file", "quarantined files"),
    (Kind::View, "view", "views"),
    (Kind::Run, "run", "runs"),
    (Kind::Leftover, "leftover", "leftovers"),
];
/// What is shown, and where each entry comes from, before anything is removed.
type Shown = Vec<Vec<String>>;

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
    let (held, dead) = request::held(&store);
    let mut plan = store.plan_gc(&roots, &held, Duration::from_secs(args.older))?;
    add_runs(&store, args, &mut plan)?;
    let dead = dead.into_iter().filter_map(|folder| Garbage::folder(Kind::Leftover, folder));
    plan.garbage.extend(dead.filter(|garbage| garbage.age >= args.older));
    let stages = stages_of(Some(&store));
    let origin = |key| origin(&stages, &key, store.actions().get(&key).ok().flatten());
    let shown = shown(args, &plan, &origin);
    let freed = if args.apply { store.collect_garbage(&plan)? } else { 0 };
    print(common, args, &plan, freed, shown, printer)
}

/// Cleans a remote.
fn of_remote(common: &Common, args: &GcArgs, name: &str, printer: &mut Printer) -> Result<Exit, CliError> {
    let remotes = one_remote(common, &PipelineArgs::default(), name)?;
    let Some(remote) = remotes.iter().next() else { return Ok(Exit::Ok) };
    if remote.address.is_read_only() {
        return Err(failed(RemoteError::Unlistable(name.to_owned())));
    }
    if args.apply && !remote.access.writes() {
        return Err(CliError::Call(format!(
            "the remote `{name}` is read-only; `kiln remote add {} {}` allows writing",
            printable(name),
            remote.address
        )));
    }
    if args.older < LEAST_GRACE {
        return Err(CliError::Call(
            "`--older` is at least 1d for a remote: others may be sending results now".into(),
        ));
    }
    let keep = Duration::from_secs(args.keep.unwrap_or(KEEP));
    let rules = GcRules { keep, grace: Duration::from_secs(args.older) };
    let (plan, freed) = match args.apply {
        true => remotes.collect_garbage(remote, rules).map_err(failed)?,
        false => (remotes.plan_gc(remote, rules).map_err(failed)?, 0),
    };
    let store = find_root(None).and_then(|root| open_store(common, &root)).ok();
    let stages = stages_of(store.as_ref());
    let origin = |key| {
        // What was removed is known here at best.
        let action = match args.apply {
            true => store.as_ref().and_then(|store| store.actions().get(&key).ok().flatten()),
            false => remotes.peek(remote, &key),
        };
        origin(&stages, &key, action)
    };
    let shown = shown(args, &plan, &origin);
    print(common, args, &plan, freed, shown, printer)
}

fn print(
    common: &Common,
    args: &GcArgs,
    plan: &GcPlan,
    freed: u64,
    shown: Shown,
    printer: &mut Printer,
) -> Result<Exit, CliError> {
    if args.json {
        let (live, live_bytes) = (plan.live_actions, plan.live_bytes);
        printer.json(&json!({
            "schema": "kiln.gc/1", "remote": args.remote, "applied": args.apply, "garbage": plan.garbage,
            "bytes": plan.bytes(), "freed": freed, "live_actions": live, "live_bytes": live_bytes,
        }))?;
        return Ok(Exit::Ok);
    }
    table(&shown).into_iter().for_each(|line| printer.line(format!("  {line}")));
    if plan.garbage.len() > MOST {
        let more = plan.garbage.len() - MOST;
        printer.line(paint(FAINT, format!("  and {more} more; `--json` lists all of them")));
    }
    printer.line(summary(common, args, plan, freed));
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
    roots.extend(lock_files::keys(store, root)?);
    Ok(roots)
}

/// The last line: what can go or is gone, and what stays.
fn summary(common: &Common, args: &GcArgs, plan: &GcPlan, freed: u64) -> String {
    let (what, size) = (counts(&plan.garbage), bytes(plan.bytes()));
    let records = if plan.live_actions == 1 { "record" } else { "records" };
    let stays = format!("{} {records} and {} of blobs stay", plan.live_actions, bytes(plan.live_bytes));
    match args.apply {
        _ if plan.garbage.is_empty() => format!("Nothing to remove; {stays}."),
        true if freed == plan.bytes() => format!("Removed {what}, {size}; {stays}."),
        // What somebody uses again stays.
        true => format!("Removed {} of {size}, which {what} had; {stays}.", bytes(freed)),
        false => {
            format!("{what} can be removed, {size}; {stays}. `{}` removes them.", apply_command(common, args))
        }
    }
}

/// `2 records, 3 blobs and 1 run`.
fn counts(garbage: &[Garbage]) -> String {
    let count = |kind| garbage.iter().filter(|garbage| garbage.kind == kind).count();
    let counted = KINDS.iter().map(|(kind, one, several)| (count(*kind), *one, *several));
    let counted = counted.filter(|(n, ..)| *n > 0);
    let said: Vec<_> =
        counted.map(|(n, one, several)| format!("{n} {}", if n == 1 { one } else { several })).collect();
    match said.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => said.concat(),
    }
}

/// The same command with `--apply`.
fn apply_command(common: &Common, args: &GcArgs) -> String {
    let mut words = vec!["kiln gc".to_owned()];
    let of_environment = std::env::var_os("KILN_STORE").map(PathBuf::from);
    let store = common.store.as_ref().filter(|store| of_environment.as_ref() != Some(store));
    words.extend(store.map(|store| format!("--store {}", printable(&store.display().to_string()))));
    words.extend(args.remote.as_ref().map(|name| format!("--remote {}", printable(name))));
    words.extend(args.keep.map(|keep| format!("--keep {}", exact_age(keep))));
    words.extend((args.older != OLDER).then(|| format!("--older {}", exact_age(args.older))));
    words.extend((args.keep_runs != KEEP_RUNS).then(|| format!("--keep-runs {}", args.keep_runs)));
    words.push("--apply".to_owned());
    words.join(" ")
}

/// An age as it can be given: `36h`.
fn exact_age(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.iter().find(|(length, _)| seconds > 0 && seconds.is_multiple_of(*length));
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

/// The entries that are shown. Scripts get all of them in another form.
fn shown(args: &GcArgs, plan: &GcPlan, origin: &dyn Fn(Digest) -> String) -> Shown {
    let shown = plan.garbage.iter().take(if args.json { 0 } else { MOST });
    shown.map(|garbage| row(garbage, origin)).collect()
}

/// What it is, where it lies, its bytes and its age; of a record also its stage and its run.
fn row(garbage: &Garbage, origin: &dyn Fn(Digest) -> String) -> Vec<String> {
    let kind = KINDS.iter().find(|(kind, ..)| *kind == garbage.kind).map_or("", |(_, one, _)| one);
    // The place within the store: its kind, and the name.
    let most = if matches!(garbage.kind, Kind::View | Kind::Run | Kind::Leftover) { 2 } else { 3 };
    let parts: Vec<_> = garbage.path.iter().map(|part| printable(&part.to_string_lossy())).collect();
    let path = parts[parts.len().saturating_sub(most)..].join("/");
    let origin = garbage.key.map(origin).unwrap_or_default();
    vec![kind.into(), path, bytes(garbage.bytes), age(garbage.age), origin]
}

/// The names of stages by the keys of their records, as the runs of this store have them.
fn stages_of(store: Option<&Store>) -> HashMap<Digest, String> {
    store.and_then(|store| store.history().stages().ok()).unwrap_or_default()
}

/// The stage of a record, or its kind where no run here knows the stage, and its run.
fn origin(stages: &HashMap<Digest, String>, key: &Digest, action: Option<Action>) -> String {
    let kind = |action: &Action| {
        let kind = action.key_inputs.value()["kind"].as_str().unwrap_or_default().to_owned();
        printable(&kind)
    };
    let stage = stages.get(key).map(|stage| format!("stage {}", printable(stage)));
    let stage = stage.or_else(|| action.as_ref().map(kind));
    let run = action.map(|action| format!("run {}", printable(&action.provenance.run)));
    stage.into_iter().chain(run).collect::<Vec<_>>().join(", ")
}
