//! `kiln metrics`.
//!
//! Purpose: shows the last value of every metric of each stage, from the run in which the stage last ran.
//! Invariant: a stage that was cached shows the metrics of the run that made its outputs.
//! Must not know: what a metric means.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cas::{Action, Store};
use crate::cli::args::{Common, MetricsArgs};
use crate::cli::context::Context;
use crate::cli::printer::Printer;
use crate::cli::results::log::stage_file;
use crate::cli::{CliError, Exit};
use crate::plan::StagePlan;
use crate::report::text::{printable, table};
use crate::spec::diagnostic::list_names;
use crate::state::{StageOutcome, StageRecord};

/// The format of metrics in JSON.
pub const METRICS_FORMAT: &str = "kiln.metrics/1";
/// The most bytes of a metrics file that are read.
const MOST_BYTES: u64 = 256 << 20;

/// One line of a metrics file.
#[derive(Deserialize)]
struct Line {
    step: u64,
    values: BTreeMap<String, f64>,
}

/// The last value of a metric.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Last {
    /// The value.
    pub last: f64,
    /// Its step.
    pub step: u64,
}

/// The last value of each metric of a stage, by name.
pub type Metrics = BTreeMap<String, Last>;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; a store that fails.
pub fn run(common: &Common, args: &MetricsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let plan = context.plan(targets, &[])?;
    let wanted = |s: &&StagePlan| targets.is_empty() || targets.contains(&s.name);
    let (mut stages, mut stale) = (Vec::new(), Vec::new());
    for stage in plan.stages.iter().filter(wanted) {
        let metrics = match &stage.last {
            Some(action) => read(&context.store, &stage.name, action)?,
            None => Metrics::new(),
        };
        if !metrics.is_empty() {
            if !stage.state.is_fresh() {
                stale.push(stage.name.as_str());
            }
            stages.push((stage.name.as_str(), metrics));
        }
    }
    if args.pipeline.json {
        let stages: BTreeMap<_, _> = stages.into_iter().collect();
        printer.json(&json!({ "schema": METRICS_FORMAT, "stages": stages, "stale": stale }))?;
    } else if stages.is_empty() {
        printer.line("No metrics yet: no stage that makes them has run.");
    } else {
        let row = |stage: &str, name: &str, m: &Last| {
            vec![stage.to_owned(), printable(name), number(m.last), format!("step {}", m.step)]
        };
        let rows: Vec<_> =
            stages.iter().flat_map(|(stage, all)| all.iter().map(|(name, m)| row(stage, name, m))).collect();
        table(&rows).iter().for_each(|line| printer.line(line));
    }
    if !stale.is_empty() && !args.pipeline.json {
        let names = list_names(stale.iter().copied());
        printer
            .warn(format!("stale, so the numbers are those of an earlier run: {names}; `kiln why` says why"));
    }
    Ok(Exit::Ok)
}

/// Four significant digits, as many as people compare.
pub fn number(x: f64) -> String {
    match x.abs() {
        a if a != 0.0 && !(1e-4..1e7).contains(&a) => format!("{x:.3e}"),
        a if a >= 1000.0 || x.fract() == 0.0 => format!("{x:.0}"),
        a => format!(
            "{x:.*}",
            if a >= 100.0 {
                1
            } else if a >= 10.0 {
                2
            } else {
                4
            }
        ),
    }
}

/// The metrics of the stage whose outputs an action has; none when they are not here.
///
/// # Errors
/// They cannot be read.
pub fn read(store: &Store, stage: &str, action: &Action) -> Result<Metrics, CliError> {
    let mut metrics = Metrics::new();
    let Some(path) = file(store, stage, action) else { return Ok(metrics) };
    let opened = File::open(&path).map_err(CliError::io(format!("read {}", path.display())))?;
    for line in BufReader::new(opened.take(MOST_BYTES)).lines() {
        let line = line.map_err(CliError::io(format!("read {}", path.display())))?;
        // The last line of a killed run may be incomplete.
        let Ok(Line { step, values }) = serde_json::from_str(&line) else { continue };
        metrics.extend(values.into_iter().map(|(name, last)| (name, Last { last, step })));
    }
    Ok(metrics)
}

/// The metrics file of the run that made the outputs of an action, if it wrote one.
fn file(store: &Store, stage: &str, action: &Action) -> Option<PathBuf> {
    let (runs, id) = (store.history(), action.provenance.run.as_str());
    // A bad id in a record must not lead out of the folder.
    let record = runs.read(id).ok()?;
    let doer = match record.as_ref().map(|record| &record.stages).filter(|stages| !stages.is_empty()) {
        Some(stages) => maker(stages, action)?,
        // A run that was killed says nothing of its stages.
        None => stage,
    };
    Some(stage_file(&runs, id, "metrics", doer, "jsonl")).filter(|path| path.is_file())
}

/// The stage of a run that made the outputs of an action: the same work may have been done for a stage of another
/// name, and an action of another store may name a run that has the id of one here.
pub fn maker<'r>(stages: &'r BTreeMap<String, StageRecord>, action: &Action) -> Option<&'r str> {
    let made = |done: &StageRecord| {
        done.key == Some(action.key) && done.outcome == StageOutcome::Ran && done.outputs == action.outputs
    };
    stages.iter().find(|(_, done)| made(done)).map(|(name, _)| name.as_str())
}
