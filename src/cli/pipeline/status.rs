//! `kiln status`.
//!
//! Purpose: shows which stages are fresh, stale or running; with `-q` only the exit code tells.
//! Invariant: the planner decides what is fresh and what is stale; a stage is running when a runner holds the
//! lock of its action key now.
//! Must not know: how the planner decides.

use std::collections::HashMap;

use serde_json::json;

use crate::cas::Store;
use crate::cli::args::{Common, StatusArgs};
use crate::cli::cluster::jobs::{self, Found};
use crate::cli::context::Context;
use crate::cli::pipeline::plan::{Resumes, with_resume};
use crate::cli::printer::{CHANGED, GOOD, Printer, STRONG, paint};
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::executor::cluster::engine::Phase;
use crate::executor::cluster::intent::{self, Intent};
use crate::plan::types::{StagePlan, State};
use crate::report::resume::{Progress, ResumePoint, progress, resume_points};
use crate::report::text::{pad, printable, reason, widest};
use crate::state::Holder;

/// The format of a status in JSON.
pub const STATUS_FORMAT: &str = "kiln.status/1";

/// A job of a stage.
struct JobLine {
    word: &'static str,
    id: Option<String>,
    executor: String,
    text: String,
}

struct Line<'a> {
    stage: &'a StagePlan,
    word: &'static str,
    holder: Option<Holder>,
    progress: Option<Progress>,
    resumes: Option<ResumePoint>,
    job: Option<JobLine>,
}

/// Runs the command.
///
/// # Errors
/// A wrong pipeline or call; a store that fails.
pub fn run(common: &Common, args: &StatusArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let (_, targets) = args.pipeline.split();
    let context = Context::open(common, &args.pipeline)?;
    let plan = context.plan(targets, &[])?;
    if args.quiet {
        return Ok(if plan.summary().is_fresh() { Exit::Ok } else { Exit::Changes });
    }
    let resumes = resume_points(&context.store, &plan);
    let keys: Vec<_> = plan.stages.iter().filter_map(|stage| stage.key).collect();
    let intents: Vec<_> =
        intent::all(&context.store).into_iter().filter(|intent| keys.contains(&intent.key)).collect();
    let states = jobs::states(&intents);
    let lines =
        plan.stages.iter().map(|stage| status_of(&context.store, stage, &resumes, (&intents, &states)));
    let lines: Vec<_> = lines.collect::<Result<_, _>>()?;
    let count = |word: &str| lines.iter().filter(|l| l.word == word).count();
    let (fresh, stale, running, people) =
        (count("fresh"), count("stale"), count("running") + count("queued"), count("people"));
    if args.pipeline.json {
        let stages: Vec<_> = lines.iter().map(to_json).collect();
        printer.json(&json!({
            "schema": STATUS_FORMAT,
            "pipeline": plan.pipeline,
            "stages": stages,
            "summary": { "fresh": fresh, "stale": stale, "running": running, "people": people },
        }))?;
        return Ok(Exit::Ok);
    }
    let width = widest(plan.stages.iter().map(|s| s.name.as_str()), 40);
    lines.iter().for_each(|line| printer.line(to_text(line, width)));
    for intent in jobs::of_other_versions(&context, &plan) {
        printer.line(format!("  {}", jobs::other(&intent)));
    }
    let people = if people > 0 { format!(", {people} waiting for people") } else { String::new() };
    printer.line(format!("{fresh} fresh, {stale} stale, {running} running{people}."));
    Ok(Exit::Ok)
}

fn status_of<'a>(
    store: &Store,
    stage: &'a StagePlan,
    resumes: &Resumes,
    (intents, states): (&[Intent], &HashMap<Digest, Found>),
) -> Result<Line<'a>, CliError> {
    let holder = if stage.state == State::Cached { None } else { holder(store, stage)? };
    let intent = intents.iter().find(|intent| Some(intent.key) == stage.key);
    // A stage that is fresh may be made again.
    let job = intent
        .filter(|intent| stage.state != State::Cached || intent.forced)
        .map(|intent| job_of(intent, states.get(&intent.key).unwrap_or(&Found::NoAnswer)));
    let word = match stage.state {
        State::Cached | State::Fetch if let Some(job) = job.as_ref().filter(|job| job.word != "stale") => {
            job.word
        }
        State::Cached | State::Fetch => "fresh",
        _ if holder.is_some() => "running",
        _ if let Some(job) = &job => job.word,
        State::People => "people",
        State::Run | State::Maybe => "stale",
    };
    let resumes = resumes.get(&stage.name).copied().filter(|_| holder.is_none());
    // The same work may be under way for a stage of another name.
    let running = holder.as_ref().map(|holder| holder.stage.as_str()).filter(|name| !name.is_empty());
    let progress = running.zip(stage.key).and_then(|(name, key)| progress(store, name, &key));
    Ok(Line { stage, word, holder, progress, resumes, job })
}

/// Where a job stands.
fn job_of(intent: &Intent, found: &Found) -> JobLine {
    let id = match found {
        Found::Job(job) => Some(job.id.clone()),
        Found::Nothing | Found::NoAnswer => intent.job.clone(),
    };
    let (word, state) = match found {
        Found::Nothing if intent.job.is_none() => ("stale", "which was not submitted".to_owned()),
        Found::Nothing => ("stale", "which the cluster does not know any more".to_owned()),
        Found::NoAnswer => ("queued", "of which the cluster says nothing now".to_owned()),
        Found::Job(job) => match job.phase {
            Phase::Queued | Phase::Held => ("queued", format!("queued ({})", job.reason)),
            Phase::Running => ("running", format!("running on {}", job.nodes)),
            Phase::Ended(_) => {
                ("stale", format!("which has ended ({}); `kiln run` takes the result over", job.state))
            }
        },
    };
    let text = format!("job {} of {}, {state}", id.as_deref().unwrap_or("?"), intent.executor);
    JobLine { word, id, executor: intent.executor.clone(), text }
}

/// The runner that runs the stage now.
fn holder(store: &Store, stage: &StagePlan) -> Result<Option<Holder>, CliError> {
    let Some(key) = stage.key else { return Ok(None) };
    Ok(store.holder(&key)?)
}

fn to_json(line: &Line) -> serde_json::Value {
    json!({
        "name": line.stage.name,
        "state": line.word,
        "key": line.stage.key,
        "holder": line.holder,
        "progress": line.progress,
        "resumes": line.resumes,
        "job": line.job.as_ref().map(|job| json!({ "id": job.id, "executor": job.executor })),
    })
}

fn to_text(line: &Line, width: usize) -> String {
    let style = match line.word {
        "fresh" => GOOD,
        "running" | "queued" => STRONG,
        _ => CHANGED,
    };
    let job = line.job.as_ref().map(|job| printable(&job.text));
    let detail = match (&line.holder, line.stage.reasons.first()) {
        _ if let Some(job) = job => job,
        (Some(holder), _) => {
            let done = line.progress.as_ref().map(|p| format!("{}/{}  {}  ", p.step, p.total, p.note));
            printable(&format!("{}{holder}", done.unwrap_or_default()))
        }
        (None, Some(first)) => match line.resumes {
            Some(point) => with_resume(&reason(first), &line.stage.reasons, point),
            None => reason(first),
        },
        (None, None) => String::new(),
    };
    let gap = " ".repeat("running".len().saturating_sub(line.word.len()));
    let (name, word) = (pad(&line.stage.name, width), paint(style, line.word));
    format!("  {name}  {word}{gap}  {detail}")
}
