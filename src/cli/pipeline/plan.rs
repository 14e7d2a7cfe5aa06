//! `kiln plan`.
//!
//! Purpose: a plan as a table for people and as `kiln.plan/1` for scripts.
//! Invariant: the states and reasons are those of the planner; no stage runs and no lock is taken. A provider
//! may be asked to describe itself.
//! Must not know: how decisions are made.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::args::{Common, PlanArgs};
use crate::cli::cluster::executors;
use crate::cli::context::Context;
use crate::cli::pipeline::{lock, params};
use crate::cli::printer::{CHANGED, FAINT, GOOD, Printer, paint};
use crate::cli::{CliError, Exit};
use crate::plan::types::{Cause, Plan, PlannedOutput, Reason, StagePlan, State, Summary};
use crate::report::resume::{ResumePoint, resume_points};
use crate::report::text::{about, bytes, pad, printable, reason, seconds, widest};

/// The format of a plan in JSON.
pub const PLAN_FORMAT: &str = "kiln.plan/1";

/// The most characters of two reasons; wider ones are counted, and `kiln why` has them all.
const MOST_DETAIL: usize = 64;

/// The stages that resume from a checkpoint, by name.
pub type Resumes = BTreeMap<String, ResumePoint>;

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; a store that fails.
pub fn run(common: &Common, args: &PlanArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    executors::check(&context, &executors::known(context.graph.pipeline())?, None)?;
    let plan = context.plan(targets, &args.force)?;
    params::check(&context, &plan)?;
    if args.locked {
        lock::locked(&context, &plan, targets.is_empty())?;
    }
    let resumes = resume_points(&context.store, &plan);
    if args.pipeline.json {
        printer.json(&to_json(&plan, &resumes))?;
    } else {
        to_text(&plan, &resumes, printer);
    }
    let pending = args.detailed_exitcode && !plan.summary().is_fresh();
    Ok(if pending { Exit::Changes } else { Exit::Ok })
}

/// A plan as `kiln.plan/1`.
pub fn to_json(plan: &Plan, resumes: &Resumes) -> Value {
    let file = plan.file.display().to_string();
    let stages: Vec<_> = plan.stages.iter().map(|s| stage_to_json(s, &file, resumes)).collect();
    let mut answer = json!({ "schema": PLAN_FORMAT, "pipeline": plan.pipeline, "summary": plan.summary() });
    // The macro would copy it.
    answer["stages"] = stages.into();
    answer
}

fn stage_to_json(stage: &StagePlan, file: &str, resumes: &Resumes) -> Value {
    let forecast = forecast(stage);
    let output =
        |o: &PlannedOutput| json!({ "type": o.artifact_type, "digest": o.artifact.map(|a| a.digest) });
    let mut answer = json!({
        "name": stage.name,
        "kind": stage.kind,
        "state": stage.state,
        "key": stage.key,
        "waits_on": stage.waits_on,
        "seconds": forecast.map(|forecast| forecast.seconds),
        "bytes": forecast.map(|forecast| forecast.bytes),
        "resumes": resumes.get(&stage.name),
        "remote": stage.remote.as_ref().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })),
    });
    answer["reasons"] = stage.reasons.iter().map(|r| reason_to_json(r, file)).collect();
    answer["outputs"] = stage.outputs.iter().map(|(name, o)| (name.clone(), output(o))).collect();
    answer
}

/// A reason as in `kiln.plan/1`.
pub fn reason_to_json(reason: &Reason, file: &str) -> Value {
    let known = reason.span.start.line > 0;
    json!({
        "what": reason.what,
        "old": reason.old,
        "new": reason.new,
        "from": reason.from,
        "file": known.then_some(file),
        "line": known.then_some(reason.span.start.line),
        "column": known.then_some(reason.span.start.column),
    })
}

/// A plan as lines for people.
pub fn to_text(plan: &Plan, resumes: &Resumes, printer: &mut Printer) {
    let details = details(plan, resumes);
    let forecasts: Vec<_> = plan.stages.iter().map(forecast_columns).collect();
    let name_width = widest(plan.stages.iter().map(|s| s.name.as_str()), 40);
    let with_forecast = details.iter().zip(&forecasts).filter(|(_, (time, _))| !time.is_empty());
    let detail_width =
        with_forecast.map(|(detail, _)| detail.chars().count()).max().unwrap_or(0).min(MOST_DETAIL + 32);
    let time_width = widest(forecasts.iter().map(|(time, _)| time.as_str()), 20);
    for ((stage, detail), (time, size)) in plan.stages.iter().zip(&details).zip(&forecasts) {
        let (style, mark) = match stage.state {
            State::Cached => (GOOD, "= cached"),
            State::Fetch => (GOOD, "= fetch "),
            State::Run => (CHANGED, "~ run   "),
            State::Maybe => (CHANGED, "~ maybe "),
            State::People => (CHANGED, "? people"),
        };
        let (name, detail) = (pad(&stage.name, name_width), pad(detail, detail_width));
        let time = pad(time, time_width);
        printer.line(format!("  {name}  {}  {detail}  {time}  {size}", paint(style, mark)));
        for note in &stage.notes {
            printer.line(format!(
                "  {}  {}",
                pad("", name_width),
                paint(FAINT, format!("note: {}", printable(note)))
            ));
        }
    }
    printer.line(summary_line(plan));
}

/// The column behind each state: the digest of an output, or why the stage is stale.
fn details(plan: &Plan, resumes: &Resumes) -> Vec<Cow<'static, str>> {
    let mut explained = false;
    let detail = |stage: &StagePlan| match stage.state {
        State::Cached | State::Fetch => {
            let place = match &stage.remote {
                None => "local".to_owned(),
                Some((remote, 0)) => printable(remote),
                Some((remote, size)) => format!("{}, {} to fetch", printable(remote), bytes(*size)),
            };
            let output = stage.outputs.values().find_map(|o| o.artifact);
            output.map_or("".into(), |a| format!("{}  {place}", a.digest.short()).into())
        }
        State::Maybe => {
            // Shown once: it is true of all of them.
            let hint = if explained { "" } else { " (kept if its bytes do not change)" };
            explained = true;
            format!("{}{hint}", reasons(stage)).into()
        }
        State::Run | State::People => match resumes.get(&stage.name) {
            Some(point) => with_resume(&reasons(stage), &stage.reasons, *point).into(),
            None => reasons(stage).into(),
        },
    };
    plan.stages.iter().map(detail).collect()
}

/// Reasons with the step at which the stage resumes. A stage that was interrupted in its first run has no
/// other reason to give.
pub fn with_resume(text: &str, reasons: &[Reason], point: ResumePoint) -> String {
    let resumes = match point {
        ResumePoint { step: Some(step), total: Some(total) } => format!("resumes near step {step}/{total}"),
        _ => "resumes from its checkpoint".to_owned(),
    };
    match reasons {
        [Reason { cause: Cause::NeverRan, .. }] => format!("interrupted, {resumes}"),
        _ => format!("{text}, {resumes}"),
    }
}

/// The reasons of a stage on one line.
fn reasons(stage: &StagePlan) -> String {
    const MOST: usize = 2;
    let is_too_wide = |all: &[String]| all.join(", ").chars().count() > MOST_DETAIL;
    let mut all: Vec<_> = stage.reasons.iter().filter(|r| r.cause != Cause::Waits).map(reason).collect();
    if !stage.waits_on.is_empty() {
        all.insert(0, format!("waits on {}", stage.waits_on.join(", ")));
    }
    let kept = if all.len() > 1 && is_too_wide(&all[..MOST]) { 1 } else { MOST };
    let more = all.len().saturating_sub(kept);
    all.truncate(kept);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}

/// What a stage may take: as much as in its last run.
#[derive(Debug, Clone, Copy)]
struct Forecast {
    seconds: f64,
    bytes: u64,
}

/// What a stage that may run took in its last run.
fn forecast(stage: &StagePlan) -> Option<Forecast> {
    let runs = matches!(stage.state, State::Run | State::Maybe);
    stage.last.as_ref().filter(|_| runs).map(|last| Forecast {
        seconds: last.provenance.seconds,
        bytes: last.outputs.values().map(|artifact| artifact.size).sum(),
    })
}

/// The time and the size of a forecast: `~4m10s` and `1.9 GB`.
fn forecast_columns(stage: &StagePlan) -> (String, String) {
    let columns = forecast(stage).map(|forecast| {
        let time = match forecast.seconds {
            s if s < 0.95 => "<1s".to_owned(),
            s => format!("~{}", seconds(s)),
        };
        (time, bytes(forecast.bytes))
    });
    columns.unwrap_or_default()
}

/// `Plan: 2 cached, 1 to run, 3 maybe, 1 for people. About 16m and labelling.`
fn summary_line(plan: &Plan) -> String {
    let Summary { cached, fetch, run, maybe, people } = plan.summary();
    let counts =
        [(cached, "cached"), (fetch, "to fetch"), (run, "to run"), (maybe, "maybe"), (people, "for people")];
    let said: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let counts = if said.is_empty() { "no stages".to_owned() } else { said.join(", ") };
    let known: Vec<_> = plan.stages.iter().filter_map(|stage| Some(forecast(stage)?.seconds)).collect();
    let forecast = match known.iter().sum::<f64>() {
        _ if known.is_empty() => String::new(),
        sum => format!(" {}{}.", about(sum), if people > 0 { " and labelling" } else { "" }),
    };
    format!("Plan: {counts}.{forecast}")
}
