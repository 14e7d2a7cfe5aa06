//! `kiln log`.
//!
//! Purpose: shows the runs, newest first; the outcome of each stage of one run; the last log of a stage.
//! Invariant: it reads records and logs only, and plans nothing; no control character of a log reaches the
//! terminal.
//! Must not know: how stages run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cas::Store;
use crate::cli::args::{Common, LogArgs};
use crate::cli::cluster::jobs;
use crate::cli::context::{Context, open_store};
use crate::cli::printer::{FAINT, Printer, paint};
use crate::cli::root::find_root;
use crate::cli::{CliError, Exit};
use crate::report::text::{bytes, printable, printable_lines, seconds, table, time};
use crate::state::{History, RunOutcome, RunRecord, StageOutcome, StageRecord};

/// The format of an answer in JSON.
pub const LOG_FORMAT: &str = "kiln.log/1";
/// The most bytes of a log that are printed, from its end.
const MOST_BYTES: u64 = 16 << 20;

/// Runs the command.
///
/// # Errors
/// A wrong call; a store that fails.
pub fn run(common: &Common, args: &LogArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (file, names) = args.pipeline.split();
    let (store, pipeline) = match file {
        Some(_) => {
            let context = Context::open(common, &args.pipeline)?;
            let name = context.graph.pipeline().name.clone();
            (Arc::clone(&context.store), Some(name))
        }
        None => (Arc::new(open_store(common, &find_root(None)?)?), None),
    };
    let json = args.pipeline.json;
    match names {
        [] => list(&store, pipeline.as_deref(), args.limit, json, printer)?,
        [run] if is_run(run) => one_run(&store, run, json, printer)?,
        [stage] if job_log(&store, pipeline.as_deref(), stage, json, printer)? => {}
        [stage] => stage_log(&store, pipeline.as_deref(), stage, json, printer)?,
        _ => {
            return Err(CliError::Call(
                "`kiln log` takes one stage or one run: kiln log [FILE] [STAGE|RUN]".into(),
            ));
        }
    }
    Ok(Exit::Ok)
}

fn is_run(name: &str) -> bool {
    name.strip_prefix("r-").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The records of runs, newest first; those that cannot be read are left out.
fn newest_first(runs: &History, pipeline: Option<&str>) -> Result<impl Iterator<Item = RunRecord>, CliError> {
    let ids = runs.list()?;
    let pipeline = pipeline.map(str::to_owned);
    let runs = runs.clone();
    let read = move |id: String| runs.read(&id).ok().flatten();
    Ok(ids
        .into_iter()
        .rev()
        .filter_map(read)
        .filter(move |r| pipeline.as_ref().is_none_or(|p| *p == r.pipeline)))
}

fn list(
    store: &Store,
    pipeline: Option<&str>,
    limit: usize,
    json: bool,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let records: Vec<_> = newest_first(&store.history(), pipeline)?.take(limit).collect();
    if json {
        printer.json(&json!({ "schema": LOG_FORMAT, "runs": records }))?;
    } else if records.is_empty() {
        printer.line("No runs yet. Start one with `kiln run`.");
    } else {
        let rows: Vec<_> = records.iter().map(row).collect();
        table(&rows).iter().for_each(|line| printer.line(line));
    }
    Ok(())
}

fn row(record: &RunRecord) -> Vec<String> {
    let count = |outcome| record.stages.values().filter(|s| s.outcome == outcome).count();
    let counts = [
        (StageOutcome::Ran, "ran"),
        (StageOutcome::Failed, "failed"),
        (StageOutcome::Fetched, "fetched"),
        (StageOutcome::Cached, "cached"),
        (StageOutcome::Skipped, "skipped"),
        (StageOutcome::Waiting, "waiting"),
        (StageOutcome::Detached, "on a cluster"),
    ];
    let said: Vec<_> = counts
        .into_iter()
        .map(|(outcome, word)| (count(outcome), word))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let lasted = if record.outcome == RunOutcome::Running { String::new() } else { seconds(record.seconds) };
    vec![
        record.id.clone(),
        time(&record.started),
        printable(&record.pipeline),
        outcome(record.outcome).to_owned(),
        lasted,
        said.join(", "),
        overrides(record),
    ]
}

/// What a run changed of the pipeline's file, as one would type it.
fn overrides(record: &RunRecord) -> String {
    let set = record.set.iter().map(|text| format!("--set {text}"));
    let all: Vec<_> = set.chain(record.unset.iter().map(|path| format!("--unset {path}"))).collect();
    printable(&all.join(" "))
}

fn outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        // A killed runner leaves the record as it was.
        RunOutcome::Running => "running or killed",
        RunOutcome::Ok => "ok",
        RunOutcome::Failed => "failed",
        RunOutcome::Interrupted => "interrupted",
        RunOutcome::Waiting => "waiting",
        RunOutcome::Detached => "detached",
    }
}

fn one_run(store: &Store, id: &str, json: bool, printer: &mut Printer) -> Result<(), CliError> {
    let record = store.history().read(id)?.ok_or_else(|| {
        CliError::Call(format!("there is no record of run `{id}`; `kiln log` lists the runs"))
    })?;
    if json {
        printer.json(&json!({ "schema": LOG_FORMAT, "runs": [record] }))?;
        return Ok(());
    }
    printer.line(row(&record).join("  "));
    let rows: Vec<_> = record.stages.iter().map(|(name, stage)| stage_row(name, stage)).collect();
    table(&rows).iter().for_each(|line| printer.line(line));
    Ok(())
}

fn stage_row(name: &str, stage: &StageRecord) -> Vec<String> {
    let word = match stage.outcome {
        StageOutcome::Cached => "= cached",
        StageOutcome::Fetched => "= fetched",
        StageOutcome::Ran => "+ ran",
        StageOutcome::Failed => "x failed",
        StageOutcome::Skipped => "- skipped",
        StageOutcome::Waiting => "? waiting",
        StageOutcome::Detached => "> on a cluster",
    };
    let numbers: Vec<_> =
        stage.summary.iter().map(|(name, value)| format!("{} {value}", printable(name))).collect();
    let detail = stage.error.as_deref().map(printable).unwrap_or_else(|| numbers.join("  "));
    let took = matches!(stage.outcome, StageOutcome::Ran | StageOutcome::Failed);
    let lasted = if took { seconds(stage.seconds) } else { String::new() };
    vec![format!("  {}", printable(name)), word.to_owned(), lasted, detail]
}

/// Prints what the job of a stage has printed so far, if it has one that no run has taken over; false else.
fn job_log(
    store: &Arc<Store>,
    pipeline: Option<&str>,
    stage: &str,
    json: bool,
    printer: &mut Printer,
) -> Result<bool, CliError> {
    let Some((intent, text)) = jobs::log_of(store, pipeline, stage) else { return Ok(false) };
    if json {
        printer.json(&json!({
            "schema": LOG_FORMAT, "run": intent.run, "stage": stage, "job": intent.job, "text": text,
        }))?;
        return Ok(true);
    }
    let job = intent.job.as_deref().unwrap_or("?");
    let head = match text.is_empty() {
        true => format!("`{stage}` has printed nothing so far in job {job} of {}.", intent.executor),
        false => format!("The log of `{stage}` so far, in job {job} of {}:", intent.executor),
    };
    printer.complain(paint(FAINT, head) + "\n");
    printer.text(printable_lines(&text));
    Ok(true)
}

/// Prints the log of the newest run in which the stage wrote one.
fn stage_log(
    store: &Store,
    pipeline: Option<&str>,
    stage: &str,
    json: bool,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let found = newest_first(&store.history(), pipeline)?
        .map(|record| (stage_file(&store.history(), &record.id, "logs", stage, "log"), record))
        .find(|(path, _)| path.is_file());
    let Some((path, record)) = found else {
        return Err(CliError::Call(format!(
            "no run here has a log of a stage `{stage}`; `kiln log` lists the runs"
        )));
    };
    let (text, skipped) =
        read_end(&path, MOST_BYTES).map_err(CliError::io(format!("read {}", path.display())))?;
    if json {
        let answer: Value = json!({
            "schema": LOG_FORMAT, "run": record.id, "stage": stage,
            "path": path, "skipped": skipped, "text": text,
        });
        printer.json(&answer)?;
        return Ok(());
    }
    let (ran, when, how) = (&record.id, time(&record.started), outcome(record.outcome));
    printer.complain(paint(FAINT, format!("The log of `{stage}` in run {ran} ({when}, {how}):")) + "\n");
    if skipped > 0 {
        printer.line(format!("... {} before this; all of it is in {}", bytes(skipped), path.display()));
    }
    printer.text(printable_lines(&text));
    Ok(())
}

/// The file of a stage in the folder of a run.
pub fn stage_file(runs: &History, run: &str, kind: &str, stage: &str, extension: &str) -> PathBuf {
    runs.folder(run).join(kind).join(format!("{stage}.{extension}"))
}

/// The end of a file, and how many bytes come before it.
fn read_end(path: &Path, most: u64) -> std::io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), skipped))
}
