//! `kiln plan`.
//!
//! Purpose: a plan as a table for people and as `kiln.plan/1` for scripts.
//! Invariant: what it says is what the planner decided; it executes nothing and takes no lock.
//! Must not know: how decisions are made.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::cli::args::{Common, PlanArgs};
use crate::cli::context::Context;
use crate::cli::pipeline::lock;
use crate::cli::printer::{CHANGED, FAINT, GOOD, Printer, paint};
use crate::cli::{CliError, Exit};
use crate::plan::types::{Cause, Plan, Reason, StagePlan, State, Summary};
use crate::report::text::{about, pad, reason, seconds, widest};

/// The format of a plan in JSON.
pub const PLAN_FORMAT: &str = "kiln.plan/1";

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; a store that fails.
pub fn run(common: &Common, args: &PlanArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let plan = context.plan(targets, &args.force)?;
    if args.locked {
        lock::locked(&context, &plan, targets.is_empty())?;
    }
    if args.pipeline.json {
        printer.json(&to_json(&plan))?;
    } else {
        to_text(&plan, printer);
    }
    let pending = args.detailed_exitcode && !plan.summary().is_fresh();
    Ok(if pending { Exit::Changes } else { Exit::Ok })
}

/// A plan as `kiln.plan/1`.
pub fn to_json(plan: &Plan) -> Value {
    let file = plan.file.display().to_string();
    let stages: Vec<_> = plan.stages.iter().map(|s| stage_to_json(s, &file)).collect();
    json!({
        "schema": PLAN_FORMAT,
        "pipeline": plan.pipeline,
        "stages": stages,
        "summary": plan.summary(),
    })
}

fn stage_to_json(stage: &StagePlan, file: &str) -> Value {
    let outputs: Map<_, _> = stage
        .outputs
        .iter()
        .map(|(name, o)| {
            let digest = o.artifact.map(|a| a.digest);
            (name.clone(), json!({ "type": o.artifact_type, "digest": digest }))
        })
        .collect();
    let reasons: Vec<_> = stage.reasons.iter().map(|r| reason_to_json(r, file)).collect();
    json!({
        "name": stage.name,
        "kind": stage.kind,
        "state": stage.state,
        "key": stage.key,
        "reasons": reasons,
        "waits_on": stage.waits_on,
        "outputs": outputs,
    })
}

/// A reason as in `kiln.plan/1`.
pub fn reason_to_json(reason: &Reason, file: &str) -> Value {
    let known = reason.at.line > 0;
    json!({
        "what": reason.what,
        "old": reason.old,
        "new": reason.new,
        "from": reason.from,
        "file": known.then_some(file),
        "line": known.then_some(reason.at.line),
        "column": known.then_some(reason.at.column),
    })
}

/// A plan as lines for people.
pub fn to_text(plan: &Plan, printer: &mut Printer) {
    let details = details(plan);
    let name_width = widest(plan.stages.iter().map(|s| s.name.as_str()), 40);
    let shown = |(s, d): &(&StagePlan, &Cow<'static, str>)| last_seconds(s).is_some().then_some(d.len());
    let detail_width = plan.stages.iter().zip(&details).filter_map(|p| shown(&p)).max().unwrap_or(0).min(64);
    for (stage, detail) in plan.stages.iter().zip(&details) {
        let (style, mark) = match stage.state {
            State::Cached => (GOOD, "= cached"),
            State::Fetch => (GOOD, "= fetch "),
            State::Run => (CHANGED, "~ run   "),
            State::Maybe => (CHANGED, "~ maybe "),
            State::People => (CHANGED, "? people"),
        };
        let time = last_seconds(stage).map(forecast).unwrap_or_default();
        let detail = pad(detail, detail_width);
        let name = pad(&stage.name, name_width);
        let line = format!("  {name}  {}  {detail}  {time}", paint(style, mark));
        printer.line(line);
        for note in &stage.notes {
            printer.line(format!("  {}  {}", pad("", name_width), paint(FAINT, format!("note: {note}"))));
        }
    }
    printer.line(summary_line(plan));
}

/// What stands behind each stage: where it is, or why it is stale.
fn details(plan: &Plan) -> Vec<Cow<'static, str>> {
    let mut explained = false;
    let detail = |stage: &StagePlan| match stage.state {
        State::Cached | State::Fetch => {
            let output = stage.outputs.values().find_map(|o| o.artifact);
            output.map_or("".into(), |a| format!("{}  local", a.digest.short()).into())
        }
        State::Maybe => {
            // Said once: it holds for all of them.
            let hint = if explained { "" } else { " (kept if its bytes do not change)" };
            explained = true;
            format!("{}{hint}", reasons(stage)).into()
        }
        State::Run | State::People => reasons(stage).into(),
    };
    plan.stages.iter().map(detail).collect()
}

/// The reasons of a stage on one line.
fn reasons(stage: &StagePlan) -> String {
    const MOST: usize = 2;
    let mut all: Vec<_> = stage.reasons.iter().filter(|r| r.cause != Cause::Waits).map(reason).collect();
    if !stage.waits_on.is_empty() {
        all.insert(0, format!("waits on {}", stage.waits_on.join(", ")));
    }
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}

/// How long a stage may take: as long as the last time.
fn forecast(last: f64) -> String {
    if last < 0.95 { "<1s".to_owned() } else { format!("~{}", seconds(last)) }
}

/// How long a stage that may run took the last time.
fn last_seconds(stage: &StagePlan) -> Option<f64> {
    let runs = matches!(stage.state, State::Run | State::Maybe);
    stage.last.as_ref().filter(|_| runs).map(|action| action.provenance.seconds)
}

/// `Plan: 2 cached, 1 to run, 3 maybe, 1 for people. About 16m and labelling.`
fn summary_line(plan: &Plan) -> String {
    let Summary { cached, fetch, run, maybe, people } = plan.summary();
    let counts =
        [(cached, "cached"), (fetch, "to fetch"), (run, "to run"), (maybe, "maybe"), (people, "for people")];
    let said: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let counts = if said.is_empty() { "no stages".to_owned() } else { said.join(", ") };
    let known: Vec<_> = plan.stages.iter().filter_map(last_seconds).collect();
    let forecast = match known.iter().sum::<f64>() {
        _ if known.is_empty() => String::new(),
        sum => format!(" About {}{}.", about(sum), if people > 0 { " and labelling" } else { "" }),
    };
    format!("Plan: {counts}.{forecast}")
}
