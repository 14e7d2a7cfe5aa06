//! `kiln fsck`.
//!
//! Purpose: checks every byte of the store, and repairs from the remotes.
//! Invariant: exit code 1 when something is damaged or missing that could not be repaired.
//! Must not know: how a store is checked.

use std::collections::HashMap;

use crate::cas::care::{Checked, Incomplete};
use crate::cli::args::{CareArgs, Common};
use crate::cli::care::gc::store_and_remotes;
use crate::cli::printer::{BAD, GOOD, Printer, paint};
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::report::text::{bytes, printable};

/// The most damages that are listed for people.
const MOST: usize = 20;

/// Runs the command.
///
/// # Errors
/// There is no store, or it cannot be read.
pub fn run(common: &Common, args: &CareArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    if let Some(name) = args.pipeline.split().1.first() {
        let name = printable(name);
        return Err(CliError::Call(format!(
            "`kiln fsck` checks the whole store and takes no stage; `{name}` is one"
        )));
    }
    let store = store_and_remotes(common, &args.pipeline)?;
    let _in_use = store.share_if_there()?;
    let checked = store.fsck(&mut |_| {})?;
    store.flush_or_warn();
    if args.pipeline.json {
        let mut answer = serde_json::to_value(&checked).map_err(std::io::Error::from)?;
        answer["schema"] = "kiln.fsck/1".into();
        printer.json(&answer)?;
    } else {
        // Without a history records are named by their kinds.
        to_text(&checked, &store.history().stages().unwrap_or_default(), printer);
    }
    Ok(if checked.is_sound() { Exit::Ok } else { Exit::Failed })
}

fn to_text(checked: &Checked, stages: &HashMap<Digest, String>, printer: &mut Printer) {
    for digest in checked.damaged_blobs.iter().take(MOST) {
        printer.line(format!("{} blob {digest} was damaged and is put aside", paint(BAD, "x")));
    }
    for blob in checked.unreadable_blobs.iter().take(MOST) {
        printer.line(format!("{} blob {}: {}", paint(BAD, "x"), blob.digest, printable(&blob.why)));
    }
    for key in checked.damaged_actions.iter().take(MOST) {
        printer.line(format!("{} the record {key} cannot be used and is put aside", paint(BAD, "x")));
    }
    for Incomplete { key, kind, outputs, run } in checked.incomplete.iter().take(MOST) {
        let outputs =
            outputs.iter().map(|name| format!("`{}`", printable(name))).collect::<Vec<_>>().join(", ");
        let stage = stages.get(key).map(|stage| format!("stage {}", printable(stage)));
        printer.line(format!(
            "{} the record {} ({}, run {}) lacks {outputs}; the stage runs again when it is wanted",
            paint(BAD, "x"),
            key.short(),
            stage.unwrap_or_else(|| printable(kind)),
            printable(run)
        ));
    }
    for copy in checked.damaged_copies.iter().take(MOST) {
        let path = printable(&copy.display().to_string());
        printer.line(format!("{} the copy {path} had other bytes and is put aside", paint(BAD, "x")));
    }
    let Checked { damaged_blobs, unreadable_blobs, damaged_actions, incomplete, .. } = checked;
    let all = [damaged_blobs.len(), unreadable_blobs.len(), damaged_actions.len(), incomplete.len()];
    let more: usize = all.iter().map(|n| n.saturating_sub(MOST)).sum();
    if more > 0 {
        printer.line(format!("  and {more} more"));
    }
    printer.line(summary(checked));
}

/// The last line: what was read, and how much of it is damaged.
fn summary(checked: &Checked) -> String {
    let Checked { blobs, actions, damaged_blobs, unreadable_blobs, damaged_actions, incomplete, .. } =
        checked;
    let (size, repaired) = (bytes(checked.bytes), checked.repaired);
    let repaired = if repaired == 0 { String::new() } else { format!(", {repaired} repaired from remotes") };
    if checked.is_sound() {
        let line = format!("{} ({size}) and {} read", counted(*blobs, "blob"), counted(*actions, "record"));
        return format!("{}  {line}{repaired}", paint(GOOD, "ok"));
    }
    let said = |counts: [(usize, &str); 3]| {
        let counts = counts.into_iter().filter(|(n, _)| *n > 0);
        counts.map(|(n, what)| format!("{n} {what}")).collect::<Vec<_>>().join(", ")
    };
    let (damaged, unreadable) = (damaged_blobs.len(), unreadable_blobs.len());
    let intact = format!("intact ({size})");
    let blobs = said([(damaged, "damaged"), (unreadable, "unreadable"), (*blobs, &intact)]);
    let (damaged, incomplete) = (damaged_actions.len(), incomplete.len());
    let intact = actions.saturating_sub(damaged + incomplete);
    let records = said([(damaged, "damaged"), (incomplete, "incomplete"), (intact, "intact")]);
    format!("{}  blobs: {blobs}; records: {records}{repaired}", paint(BAD, "damaged"))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
