//! `kiln pin`.
//!
//! Purpose: keeps the results of stages and of all that they need, in the store or in a remote.
//! Invariant: only results that are there are pinned.
//! Must not know: how garbage is found.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::cas::care::Pin;
use crate::cas::remote::Remotes;
use crate::cli::args::{Common, PinAddArgs, PinArgs, PinCommand, PinListArgs, PinRemoveArgs, PipelineArgs};
use crate::cli::care::gc::store_and_remotes;
use crate::cli::context::Context;
use crate::cli::printer::Printer;
use crate::cli::remotes::config;
use crate::cli::{CliError, Exit};
use crate::report::text::{pad, printable, printable_error, widest};

/// Runs the command.
///
/// # Errors
/// A wrong call or file; a stage that has no result; the disk or the remote fails.
pub fn run(common: &Common, args: &PinArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    match &args.command {
        PinCommand::Add(args) => add(common, args, printer),
        PinCommand::List(args) => list(common, args, printer),
        PinCommand::Remove(args) => remove(common, args, printer),
    }
}

fn add(common: &Common, args: &PinAddArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if !Pin::is_name(&args.name) {
        return Err(CliError::Call(format!(
            "`{}` is not a name for a pin; it has letters, digits, `.`, `_` and `-`",
            printable(&args.name)
        )));
    }
    let context = Context::open(common, &args.pipeline)?;
    let _in_use = context.store.share_if_there()?;
    let plan = context.plan(args.pipeline.split().1, &[])?;
    let stale: Vec<_> = plan
        .stages
        .iter()
        .filter(|stage| !stage.state.is_fresh())
        .map(|stage| format!("`{}`", printable(&stage.name)))
        .collect();
    if !stale.is_empty() {
        let message = format!("{} has no result to pin; `kiln run` makes it", stale.join(", "));
        return Err(CliError::Failed(message));
    }
    let keys: BTreeSet<_> = plan.stages.iter().filter_map(|stage| stage.key).collect();
    let (pin, count) = (Pin::of(keys.clone()), keys.len());
    let place = match &args.remote {
        None => {
            context.store.pin(&args.name, &pin)?;
            "the store".to_owned()
        }
        Some(name) => {
            let remotes = one_writable(common, &args.pipeline, name)?;
            for remote in remotes.iter() {
                remotes.pin(remote, &args.name, &pin).map_err(failed)?;
            }
            let keys: Vec<_> = keys.into_iter().collect();
            let absent =
                remotes.lookup(&keys, context.store.trust()).iter().filter(|one| one.is_none()).count();
            if absent > 0 {
                tracing::warn!("{absent} of {count} results are not in `{name}`; `kiln push` sends them");
            }
            format!("the remote `{name}`")
        }
    };
    let plural = if count == 1 { "" } else { "s" };
    printer.line(format!("Pinned {count} result{plural} as {} in {place}.", args.name));
    Ok(Exit::Ok)
}

fn list(common: &Common, args: &PinListArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let pipeline = PipelineArgs::default();
    let pins: BTreeMap<String, Pin> = match &args.remote {
        None => store_and_remotes(common, &pipeline)?.pins()?,
        Some(name) => {
            let remotes = one_remote(common, &pipeline, name)?;
            let pins = remotes.iter().map(|remote| remotes.pins(remote)).collect::<Result<Vec<_>, _>>();
            pins.map_err(failed)?.into_iter().flatten().collect()
        }
    };
    if args.json {
        let pins: Vec<_> = pins.iter().map(|(name, pin)| json!({ "name": name, "keys": pin.keys })).collect();
        printer.json(&json!({ "schema": "kiln.pins/1", "pins": pins }))?;
        return Ok(Exit::Ok);
    }
    if pins.is_empty() {
        printer.line("There are no pins; `kiln pin add NAME` keeps the results of a pipeline.");
    }
    let width = widest(pins.keys().map(String::as_str), 40);
    for (name, pin) in &pins {
        let count = pin.keys.len();
        let plural = if count == 1 { "" } else { "s" };
        printer.line(format!("{}  {count} result{plural}", pad(&printable(name), width)));
    }
    Ok(Exit::Ok)
}

fn remove(common: &Common, args: &PinRemoveArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let pipeline = PipelineArgs::default();
    let removed = match &args.remote {
        None => Pin::is_name(&args.name) && store_and_remotes(common, &pipeline)?.unpin(&args.name)?,
        Some(name) => {
            let remotes = one_writable(common, &pipeline, name)?;
            let unpin = |remote| remotes.unpin(remote, &args.name);
            let removed = remotes.iter().map(unpin).collect::<Result<Vec<_>, _>>().map_err(failed)?;
            removed.contains(&true)
        }
    };
    if !removed {
        let name = printable(&args.name);
        return Err(CliError::Failed(format!("there is no pin `{name}`; `kiln pin list` lists them")));
    }
    printer.line(format!("Removed the pin {}.", args.name));
    Ok(Exit::Ok)
}

/// As [`one_remote`], if it may be written.
///
/// # Errors
/// It may not; or as [`one_remote`].
pub fn one_writable(common: &Common, args: &PipelineArgs, name: &str) -> Result<Remotes, CliError> {
    let remotes = one_remote(common, args, name)?;
    match remotes.has_writable() {
        true => Ok(remotes),
        false => Err(CliError::Call(format!(
            "the remote `{name}` is read-only; `kiln remote add {name} URL` without --read-only allows writing, if it \
             can be written at all"
        ))),
    }
}

/// The remote of this name, of the pipeline, the user or the environment.
///
/// # Errors
/// There is none; it cannot be opened.
pub fn one_remote(common: &Common, args: &PipelineArgs, name: &str) -> Result<Remotes, CliError> {
    if common.offline {
        return Err(CliError::Call(format!(
            "`--offline` uses no remote, so `{}` cannot be used",
            printable(name)
        )));
    }
    let of_pipeline = match Context::open(common, args) {
        Ok(context) => context.graph.pipeline().remotes.clone(),
        // There is no pipeline here.
        Err(CliError::Call(_)) if args.names.is_empty() => Vec::new(),
        Err(error) => return Err(error),
    };
    let known = config::known(&of_pipeline)?;
    let Some(found) = known.iter().find(|known| known.spec.name == name) else {
        let names: Vec<_> = known.iter().map(|known| known.spec.name.as_str()).collect();
        let known = if names.is_empty() {
            "there are none".into()
        } else {
            format!("there is: {}", names.join(", "))
        };
        return Err(CliError::Call(format!("there is no remote `{}`; {known}", printable(name))));
    };
    let remotes = Remotes::new(vec![config::open_one(&found.spec)?]);
    let remotes = remotes.map_err(CliError::io("start a thread for remotes"))?;
    remotes.ok_or_else(|| CliError::Call(format!("there is no remote `{name}`")))
}

/// A remote that failed.
pub fn failed(error: crate::cas::remote::RemoteError) -> CliError {
    CliError::Failed(printable_error(&error.to_string()))
}
