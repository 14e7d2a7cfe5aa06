//! `kiln why STAGE`.
//!
//! Purpose: shows the upstream stages where staleness begins, with old and new values and their position.
//! Invariant: a stage whose result is neither here nor in a remote has at least one root cause, and all of them are
//! reasons of the planner.
//! Must not know: how reasons are found.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::cas::Store;
use crate::cas::types::Action;
use crate::cli::args::{Common, WhyArgs};
use crate::cli::context::Context;
use crate::cli::pipeline::plan::reason_to_json;
use crate::cli::printer::{CHANGED, FAINT, GOOD, Printer, STRONG, paint};
use crate::cli::results::origin::origin;
use crate::cli::{CliError, Exit};
use crate::plan::types::{Cause, Plan, Reason, StagePlan};
use crate::report::text::{bytes, change, printable, seconds, subject, table};

/// The format of an answer in JSON.
pub const WHY_FORMAT: &str = "kiln.why/1";

/// Why a stage is stale.
struct Answer<'a> {
    asked: &'a StagePlan,
    /// Where staleness begins, in the order of the plan.
    roots: Vec<&'a StagePlan>,
    /// The stages from there down to the stage in question, in the order of the plan.
    then: Vec<&'a str>,
}

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; a store that fails.
pub fn run(common: &Common, args: &WhyArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, names) = args.pipeline.split();
    let [name] = names else {
        return Err(CliError::Call("`kiln why` takes one stage: kiln why [FILE] STAGE".into()));
    };
    let context = Context::open(common, &args.pipeline)?;
    let plan = context.plan(names, &[])?;
    let asked = plan.stage(name).ok_or_else(|| CliError::Call(format!("there is no stage `{name}`")))?;
    let answer = trace(&plan, asked);
    if args.pipeline.json {
        printer.json(&to_json(&answer, &plan))?;
    } else if asked.state.is_fresh() {
        fresh_to_text(&context.store, asked, printer);
    } else {
        to_text(&context.store, &answer, &plan, printer);
    }
    Ok(Exit::Ok)
}

/// Walks up from a stage to where staleness begins.
fn trace<'a>(plan: &'a Plan, asked: &'a StagePlan) -> Answer<'a> {
    let by_name: HashMap<_, _> = plan.stages.iter().map(|s| (s.name.as_str(), s)).collect();
    let (mut seen, mut next) = (BTreeSet::new(), vec![asked]);
    while let Some(stage) = next.pop() {
        if !stage.state.is_fresh() && seen.insert(stage.name.as_str()) {
            next.extend(stage.waits_on.iter().filter_map(|above| by_name.get(above.as_str())));
        }
    }
    let touched = || plan.stages.iter().filter(|s| seen.contains(s.name.as_str()));
    let roots: Vec<_> = touched().filter(|s| own_reasons(s).next().is_some()).collect();
    let then = touched().filter(|s| !s.waits_on.is_empty()).map(|s| s.name.as_str()).collect();
    Answer { asked, roots, then }
}

/// The reasons in the stage itself.
fn own_reasons(stage: &StagePlan) -> impl Iterator<Item = &Reason> {
    stage.reasons.iter().filter(|r| r.cause != Cause::Waits)
}

/// How many params and inputs of a stage did not change since its last run, and the run.
struct Unchanged<'a> {
    params: usize,
    inputs: usize,
    last: &'a Action,
}

fn unchanged(stage: &StagePlan) -> Option<Unchanged<'_>> {
    let last = stage.last.as_ref()?;
    let key_inputs = last.key_inputs.value();
    let count = |section: &str| key_inputs.get(section).map_or(0, leaves);
    let gone = |cause| own_reasons(stage).filter(|r| r.cause == cause && r.old.is_some()).count();
    let waiting = stage.waits_on.len();
    Some(Unchanged {
        params: count("params").saturating_sub(gone(Cause::Param)),
        inputs: count("inputs").saturating_sub(gone(Cause::Input) + waiting),
        last,
    })
}

/// How many single values an object holds.
fn leaves(value: &Value) -> usize {
    match value {
        Value::Object(map) => map.values().map(leaves).sum(),
        _ => 1,
    }
}

fn to_json(answer: &Answer, plan: &Plan) -> Value {
    let file = plan.file.display().to_string();
    let root = |stage: &&StagePlan| {
        let reasons: Vec<_> = own_reasons(stage).map(|r| reason_to_json(r, &file)).collect();
        let same = unchanged(stage);
        json!({
            "name": stage.name,
            "reasons": reasons,
            "unchanged": same.as_ref().map(|u| json!({ "params": u.params, "inputs": u.inputs })),
            "compared_with": same.as_ref().map(|u| &u.last.provenance.run),
        })
    };
    json!({
        "schema": WHY_FORMAT,
        "stage": answer.asked.name,
        "state": answer.asked.state,
        "roots": answer.roots.iter().map(root).collect::<Vec<_>>(),
        "then": answer.then,
        "notes": answer.asked.notes,
    })
}

fn fresh_to_text(store: &Store, stage: &StagePlan, printer: &mut Printer) {
    let place = match &stage.remote {
        Some((remote, size)) => {
            format!("; its result is in the remote `{}` ({})", printable(remote), bytes(*size))
        }
        None => String::new(),
    };
    printer.line(format!("{} is {}{place}", paint(STRONG, &stage.name), paint(GOOD, "fresh")));
    if let Some(last) = &stage.last {
        printer.line(format!("made {} in {}", origin(store, last), seconds(last.provenance.seconds)));
    }
    stage.notes.iter().for_each(|note| printer.line(format!("note: {note}")));
}

fn to_text(store: &Store, answer: &Answer, plan: &Plan, printer: &mut Printer) {
    let causes: usize = answer.roots.iter().map(|s| own_reasons(s).count()).sum();
    let plural = if causes == 1 { "" } else { "s" };
    let name = paint(STRONG, &answer.asked.name);
    printer.line(format!("{name} is {} because of {causes} root cause{plural}", paint(CHANGED, "stale")));
    let mut rows = Vec::new();
    for stage in &answer.roots {
        for reason in own_reasons(stage) {
            let at = match reason.span.start.line {
                0 => String::new(),
                line => format!("{}:{line}:{}", plan.file.display(), reason.span.start.column),
            };
            rows.push(vec![format!("  {}", stage.name), subject(reason), change(reason), at]);
        }
    }
    table(&rows).iter().for_each(|line| printer.line(line));
    if !answer.then.is_empty() {
        printer.line(format!("  then: {}", answer.then.join(", ")));
    }
    for stage in &answer.roots {
        for note in &stage.notes {
            printer.line(format!("note: {}: {}", stage.name, printable(note)));
        }
    }
    let mut compared: Vec<_> = answer.roots.iter().filter_map(|s| Some((*s, unchanged(s)?))).collect();
    compared.dedup_by_key(|(_, u)| (u.params, u.inputs, u.last.provenance.run.clone()));
    let several = compared.len() > 1;
    for (stage, same) in &compared {
        let whose = if several { format!(" in {}", stage.name) } else { String::new() };
        printer.line(format!(
            "unchanged{whose}: {}, {}",
            counted(same.params, "param"),
            counted(same.inputs, "input")
        ));
        let run = format!("compared with what was made {}", origin(store, same.last));
        printer.line(paint(FAINT, run));
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
