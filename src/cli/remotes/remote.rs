//! `kiln remote`.
//!
//! Purpose: lists the remotes with who names them, adds one to the user's file or removes
//! it there, and checks that they answer.
//! Invariant: only `add` and `remove` write, and only the user's file.
//! Must not know: how a remote is reached.

use serde_json::{Value, json};

use crate::cas::remote::{Access, Address, Remotes};
use crate::cli::args::{Common, PipelineArgs, RemoteAddArgs, RemoteArgs, RemoteCommand, RemoteRemoveArgs};
use crate::cli::context::Context;
use crate::cli::printer::{BAD, FAINT, GOOD, Printer, paint};
use crate::cli::remotes::config::{self, Known};
use crate::cli::remotes::usage;
use crate::cli::{CliError, Exit};
use crate::report::text::{pad, printable, printable_error, widest};
use crate::spec::fields::{NAME_RULE, is_name};
use crate::spec::remotes::access_word;
use crate::spec::types::RemoteSpec;

/// What is said where there is no remote.
const NONE: &str = "There are no remotes; `kiln remote add NAME URL` adds one.";

/// Runs the command.
///
/// # Errors
/// A wrong file or call; the disk refuses.
pub fn run(common: &Common, args: &RemoteArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    match &args.command {
        RemoteCommand::List(args) => list(&load(common, args)?, args.json, printer),
        RemoteCommand::Add(args) => add(args, printer),
        RemoteCommand::Remove(args) => remove(args, printer),
        RemoteCommand::Check(_) if common.offline => {
            Err(CliError::Call("`--offline` uses no remote, so none can be checked".into()))
        }
        RemoteCommand::Check(args) => check(&load(common, args)?, args.json, printer),
        RemoteCommand::Du(args) => usage::du(common, args, printer),
    }
}

/// The remotes of the pipeline, if there is one, of the user and of the environment.
///
/// # Errors
/// A file is wrong.
pub fn load(common: &Common, args: &PipelineArgs) -> Result<Vec<Known>, CliError> {
    // What cannot be opened is there all the same.
    let common = Common { offline: true, ..common.clone() };
    let of_pipeline = match Context::open(&common, args) {
        Ok(context) => context.graph.pipeline().remotes.clone(),
        // There is no pipeline here.
        Err(CliError::Call(_)) if args.split().0.is_none() => Vec::new(),
        Err(error) => return Err(error),
    };
    config::known(&of_pipeline)
}

fn list(known: &[Known], json: bool, printer: &mut Printer) -> Result<Exit, CliError> {
    if json {
        let remotes: Vec<_> = known.iter().map(to_json).collect();
        printer.json(&json!({ "schema": "kiln.remotes/1", "remotes": remotes }))?;
        return Ok(Exit::Ok);
    }
    if known.is_empty() {
        printer.line(NONE);
    }
    let urls: Vec<_> = known.iter().map(|known| known.spec.address.to_string()).collect();
    let (width, of_url) = (width(known), widest(urls.iter().map(String::as_str), 60));
    for (Known { spec, from }, url) in known.iter().zip(&urls) {
        let (name, access) = (pad(&printable(&spec.name), width), pad(access_word(spec.access), 10));
        printer.line(format!("{name}  {access}  {}  {}", pad(url, of_url), paint(FAINT, from)));
    }
    Ok(Exit::Ok)
}

/// The columns of the longest name.
fn width(known: &[Known]) -> usize {
    widest(known.iter().map(|known| known.spec.name.as_str()), 30)
}

/// A remote as it is named.
pub fn to_json(known: &Known) -> Value {
    let RemoteSpec { name, address, access, leases } = &known.spec;
    let (url, access) = (address.to_string(), access_word(*access));
    json!({ "name": name, "url": url, "access": access, "leases": leases, "from": known.from })
}

fn add(args: &RemoteAddArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if !is_name(&args.name) {
        let name = printable(&args.name);
        return Err(CliError::Call(format!("`{name}` cannot be the name of a remote: {NAME_RULE}")));
    }
    let address = Address::parse(&args.url).map_err(|e| CliError::Call(e.to_string()))?;
    let access = match (args.read_only, args.write_only) {
        (true, _) => Access::Read,
        (_, true) => Access::Write,
        _ => Access::ReadWrite,
    };
    if address.is_read_only() && access != Access::Read {
        return Err(CliError::Call(format!("{address} can only be read; add it with `--read-only`")));
    }
    let spec = RemoteSpec { name: args.name.clone(), address, access, leases: !args.no_leases };
    let (file, _) = config::edit(|user| {
        match user.remotes.iter_mut().find(|known| known.name == spec.name) {
            Some(known) => *known = spec.clone(),
            None => user.remotes.push(spec.clone()),
        }
        Ok(())
    })?;
    let (name, access) = (printable(&spec.name), access_word(access));
    printer.line(format!("{name}  {access}  {}  added to {}", spec.address, file.display()));
    Ok(Exit::Ok)
}

fn remove(args: &RemoteRemoveArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (name, mut removed) = (printable(&args.name), None);
    let (file, _) = config::edit(|user| {
        let known = user.remotes.iter().position(|known| known.name == args.name).ok_or_else(|| {
            CliError::Call(format!(
                "your own file names no remote `{name}`; `kiln remote list` lists the remotes and who names them"
            ))
        })?;
        removed = Some(user.remotes.remove(known).address.to_string());
        Ok(())
    })?;
    printer.line(format!("{name}  {}  removed from {}", removed.unwrap_or_default(), file.display()));
    Ok(Exit::Ok)
}

/// Asks each remote for its format, and writes it down where there is none and writing is allowed.
fn check(known: &[Known], json: bool, printer: &mut Printer) -> Result<Exit, CliError> {
    let mut answers = Vec::new();
    for known in known {
        let opened = config::open_one(&known.spec).map_err(|e| e.to_string());
        let error = opened.and_then(|remote| {
            let remotes = Remotes::new(vec![remote]).map_err(|e| e.to_string())?;
            remotes.map_or(Ok(()), |remotes| remotes.check().map_err(|e| e.to_string()))
        });
        answers.push((known, error.err()));
    }
    let failed = answers.iter().any(|(_, error)| error.is_some());
    if json {
        let answer = |(known, error): &(&Known, Option<String>)| {
            let mut answer = to_json(known);
            answer["error"] = json!(error);
            answer
        };
        let remotes: Vec<_> = answers.iter().map(answer).collect();
        printer.json(&json!({ "schema": "kiln.remotes/1", "remotes": remotes }))?;
    } else {
        if known.is_empty() {
            printer.line(NONE);
        }
        let width = width(known);
        for (known, error) in &answers {
            let name = pad(&printable(&known.spec.name), width);
            printer.line(match error {
                None => format!("{} {name}  {}", paint(GOOD, "ok    "), known.spec.address),
                Some(error) => format!("{} {name}  {}", paint(BAD, "error:"), printable_error(error)),
            });
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}
