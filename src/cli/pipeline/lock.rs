//! `kiln lock` and `--locked`.
//!
//! Purpose: says what differs from the lock file, and merges lock files for git.
//! Invariant: a lock file is never written here, but for the result of a merge.
//! Must not know: what a stanza looks like.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cas::disk;
use crate::cli::args::{Common, LockArgs, LockCommand, LockMergeArgs, PipelineArgs};
use crate::cli::context::Context;
use crate::cli::printer::{BAD, Printer, paint};
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::plan::Plan;
use crate::report::lockfile::{Difference, LockFile, check_version, compare, compare_outputs, merge};
use crate::report::text::{printable, table, value};
use crate::spec::diagnostic::ERRORS_FORMAT;

/// What can be done about outputs that are not those of the lock file.
const NEXT: &str = "`kiln verify STAGE` tells whether a stage makes the same bytes each time, and `kiln run` without \
                    --locked writes the new digests";

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; a file that cannot be read or written.
pub fn run(common: &Common, args: &LockArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    match &args.command {
        LockCommand::Check(args) => check(common, args, printer),
        LockCommand::Merge(args) => merge_files(args, printer),
    }
}

fn check(common: &Common, args: &PipelineArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.split();
    let context = Context::open(common, args)?;
    let plan = context.plan(targets, &[])?;
    let lock = locked(&context, &plan, targets.is_empty())?;
    let differences = compare_outputs(&lock, &plan);
    if !differences.is_empty() {
        let message = format!("the outputs in the store are not those of {}; {NEXT}", lock.path.display());
        return Err(CliError::Locked { message, differences });
    }
    if args.json {
        printer.json(&json!({ "schema": "kiln.lock/1", "file": lock.path, "differences": [] }))?;
    } else {
        printer.line(format!("{} matches: {} stages.", lock.path.display(), plan.stages.len()));
    }
    Ok(Exit::Ok)
}

/// The lock file, which must match the plan; `whole` says that the plan has all stages.
///
/// # Errors
/// It does not match, or there is none.
pub fn locked(context: &Context, plan: &Plan, whole: bool) -> Result<LockFile, CliError> {
    let lock = LockFile::of(context.graph.pipeline().file())?;
    if !lock.exists {
        let message = format!("there is no lock file {}; `kiln run` writes it", lock.path.display());
        return Err(CliError::Locked { message, differences: Vec::new() });
    }
    let differences = compare(&lock, plan, whole);
    if differences.is_empty() {
        return Ok(lock);
    }
    let message = format!(
        "{} does not match the pipeline; nothing was run (`kiln run` without --locked updates it)",
        lock.path.display()
    );
    Err(CliError::Locked { message, differences })
}

/// Differences as lines: stage, field, value in the lock file, value now.
pub fn listing(differences: &[Difference]) -> String {
    let show = |side: &Option<Value>| side.as_ref().map_or_else(|| "(none)".to_owned(), shown);
    let row = |d: &Difference| {
        vec![
            format!("  {}", printable(&d.stage)),
            printable(&d.field),
            show(&d.locked),
            "->".into(),
            show(&d.now),
        ]
    };
    let head = ["  stage", "field", "locked", "", "now"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(differences.iter().map(row)).collect();
    table(&rows).into_iter().map(|line| line + "\n").collect()
}

/// A value; of a digest the first digits, and the mark of a folder or of an executable file.
fn shown(side: &Value) -> String {
    match side.as_str().and_then(|text| text.split_at_checked(64)) {
        Some((hex, mark)) if mark.len() <= 1 && hex.parse::<Digest>().is_ok() => {
            format!("{}{mark}", &hex[..8])
        }
        _ => value(side),
    }
}

/// Differences as `kiln.errors/1`.
pub fn errors_json(message: &str, differences: &[Difference]) -> Value {
    let error = |difference: Option<&Difference>| {
        let mut error = json!({
            "code": "locked", "message": message, "file": null, "line": null, "column": null, "hint": null,
        });
        if let (Some(error), Some(Value::Object(more))) =
            (error.as_object_mut(), difference.map(Difference::to_json))
        {
            error.extend(more);
        }
        error
    };
    let mut errors: Vec<_> = differences.iter().map(|difference| error(Some(difference))).collect();
    if errors.is_empty() {
        errors.push(error(None));
    }
    json!({ "schema": ERRORS_FORMAT, "errors": errors })
}

/// Says on stderr which outputs are not those of the lock file.
pub fn complain(lock: &LockFile, differences: &[Difference], printer: &Printer) {
    let head =
        format!("{} the outputs are not those of {}; {NEXT}", paint(BAD, "error:"), lock.path.display());
    printer.complain(format!("{head}\n{}", listing(differences)));
}

fn merge_files(args: &LockMergeArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let merged = merge(&read(&args.base, true)?, &read(&args.ours, false)?, &read(&args.theirs, false)?);
    let ours = args.ours.display();
    disk::replace(&args.ours, merged.text.as_bytes()).map_err(CliError::io(format!("write {ours}")))?;
    // Git names a temporary file; the other name is for people.
    let file = args.path.as_ref().unwrap_or(&args.ours).display();
    for stage in &merged.conflicts {
        let stage = printable(stage);
        printer.complain(format!("conflict: both sides changed the stage `{stage}` in {file}\n"));
    }
    if !merged.conflicts.is_empty() {
        printer.complain("Resolve the pipeline file; then `kiln run` writes the lock file anew.\n");
    }
    Ok(if merged.conflicts.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// A file of a merge. Git gives an empty one as the base where both sides added the file.
fn read(path: &Path, may_be_empty: bool) -> Result<LockFile, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::io(format!("read {}", path.display())))?;
    let is_new = may_be_empty && text.is_empty();
    if !is_new && !LockFile::is_ours(&text) {
        return Err(CliError::Call(format!("{} is not a lock file of Kiln", path.display())));
    }
    check_version(path, &text)?;
    Ok(LockFile::read(path.to_owned(), text))
}
