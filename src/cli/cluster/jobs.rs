//! `kiln attach` and `kiln cancel`.
//!
//! Purpose: go on with the jobs that detached runs of a pipeline have left, or cancel them.
//! Invariant: neither submits a job. What a job has finished when it is cancelled stays, and so do checkpoints.
//! Must not know: how a job is followed.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use crate::cas::Store;
use crate::cli::args::{Common, JobsArgs, RunArgs};
use crate::cli::context::Context;
use crate::cli::pipeline::run;
use crate::cli::printer::Printer;
use crate::cli::{CliError, Exit};
use crate::digest::Digest;
use crate::executor::cluster::engine::{self, ClusterError, Job};
use crate::executor::cluster::intent::{self, Intent};
use crate::executor::cluster::mail::Mail;
use crate::executor::cluster::outbox::{self, Said};
use crate::plan::Plan;
use crate::report::text::printable;
use crate::spec::executors::ExecutorSpec;
use crate::state::Lock;

const NO_JOB: &str = "No stage has a job on a cluster.";

/// Runs `kiln attach`.
///
/// # Errors
/// As `kiln run`.
pub fn attach(common: &Common, args: &JobsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let context = Context::open(common, &args.pipeline)?;
    let jobs = Jobs::of(&context, args)?;
    for intent in &jobs.others {
        printer.line(other(intent));
    }
    if jobs.by_stage.is_empty() {
        printer.line(NO_JOB);
        return Ok(Exit::Ok);
    }
    let mut pipeline = args.pipeline.clone();
    let file = pipeline.split().0.map(|file| file.display().to_string());
    pipeline.names = file.into_iter().chain(jobs.by_stage.into_iter().map(|(stage, _)| stage)).collect();
    let args = RunArgs { pipeline, keep_going: true, only_follows: true, ..RunArgs::default() };
    run::run(common, &args, printer)
}

/// Runs `kiln cancel`.
///
/// # Errors
/// A wrong pipeline or call; the cluster does not answer or refuses.
pub fn cancel(common: &Common, args: &JobsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let context = Context::open(common, &args.pipeline)?;
    let intents = Jobs::of(&context, args)?.all();
    let mut cancelled = Vec::new();
    for (spec, of_cluster) in clusters(&intents) {
        let jobs = asked(engine::jobs(&spec))?;
        let alive = of_cluster.iter().filter_map(|intent| {
            let job = jobs.get(&intent.name()).filter(|job| job.is_alive())?;
            Some((&intent.stage, job.id.clone()))
        });
        let alive: Vec<_> = alive.collect();
        let ids: Vec<_> = alive.iter().map(|(_, id)| id.clone()).collect();
        asked(engine::cancel(&spec, &ids))?;
        // One that this answer lacks may be there all the same.
        for intent in of_cluster.iter().filter(|intent| !jobs.contains_key(&intent.name())) {
            asked(engine::cancel_named(&spec, &intent.name()))?;
        }
        cancelled.extend(alive);
    }
    // All of them first: what cannot be forgotten now keeps no job alive.
    let forgotten: Vec<_> = intents.iter().map(|intent| forget(&context.store, intent)).collect();
    if args.pipeline.json {
        let jobs: Vec<_> =
            cancelled.iter().map(|(stage, job)| json!({ "stage": stage, "job": job })).collect();
        printer.json(&json!({ "schema": "kiln.cancel/1", "cancelled": jobs }))?;
    } else {
        for (stage, job) in &cancelled {
            printer.line(format!("cancelled  {}  job {job}", printable(stage)));
        }
        if cancelled.is_empty() {
            printer.line(NO_JOB);
        }
    }
    let failed: Vec<_> = forgotten.into_iter().filter_map(Result::err).collect();
    failed.iter().for_each(|error| printer.warn(error.to_string()));
    Ok(if failed.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Forgets a job, unless a runner follows it, which sees what became of it, or has submitted another one meanwhile.
fn forget(store: &Arc<Store>, intent: &Intent) -> Result<(), CliError> {
    let Lock::Acquired(_lock) = store.try_lock(&intent::lock(&intent.key), &intent.stage)? else {
        return Ok(());
    };
    if intent::read(store, &intent.key).is_none_or(|known| known.submission != intent.submission) {
        return Ok(());
    }
    if let Some(remote) = &intent.remote {
        let removed = Mail::in_remote(Arc::clone(store), remote, &intent.key).remove(&[&intent.submission]);
        removed.map_err(|e| CliError::Failed(e.to_string()))?;
    }
    Ok(intent::forget(store, &intent.key)?)
}

/// The jobs of a pipeline, or of the named stages of it.
struct Jobs {
    /// Those of stages as they are now, which may have had another name when their jobs were submitted.
    by_stage: Vec<(String, Intent)>,
    /// Those of stages that are not there any more, or that have changed.
    others: Vec<Intent>,
}

impl Jobs {
    fn of(context: &Context, args: &JobsArgs) -> Result<Self, CliError> {
        let (_, names) = args.pipeline.split();
        let (mut jobs, all) =
            (Self { by_stage: Vec::new(), others: Vec::new() }, intent::all(&context.store));
        let is_old = |name: &String| all.iter().any(|intent| intent.stage == *name);
        let now: Vec<_> = names.iter().filter(|name| !is_old(name)).cloned().collect();
        context.graph.targets(&now).map_err(CliError::Pipeline)?;
        if all.is_empty() {
            return Ok(jobs);
        }
        let plan = context.plan(&[], &[])?;
        for intent in all {
            // Several stages may be one action.
            let mut stages = plan.stages.iter().filter(|planned| planned.key == Some(intent.key));
            let is_wanted = |name: &String| names.is_empty() || names.contains(name);
            if let Some(stage) = stages.clone().find(|planned| is_wanted(&planned.name)) {
                jobs.by_stage.push((stage.name.clone(), intent));
            } else if stages.next().is_none()
                && intent.pipeline == context.graph.pipeline().name
                && is_wanted(&intent.stage)
            {
                jobs.others.push(intent);
            }
        }
        Ok(jobs)
    }

    fn all(self) -> Vec<Intent> {
        self.by_stage.into_iter().map(|(_, intent)| intent).chain(self.others).collect()
    }
}

/// The jobs of stages of a plan that have changed since, or have gone.
pub fn of_other_versions(context: &Context, plan: &Plan) -> Vec<Intent> {
    let mut all = intent::all(&context.store);
    let wants = |intent: &Intent| plan.stages.iter().any(|planned| planned.name == intent.stage);
    let is_known = |intent: &Intent| context.graph.index(&intent.stage).is_some();
    all.retain(|intent| {
        let is_current = plan.stages.iter().any(|planned| planned.key == Some(intent.key));
        let may_be_current = plan.stages.iter().any(|p| p.name == intent.stage && p.key.is_none());
        intent.pipeline == plan.pipeline
            && !is_current
            && !may_be_current
            && (wants(intent) || !is_known(intent))
    });
    all
}

/// What is said of a job whose stage has changed since.
pub fn other(intent: &Intent) -> String {
    let job = intent.job.as_deref().unwrap_or("?");
    let (stage, executor) = (printable(&intent.stage), printable(&intent.executor));
    format!("job {job} of {executor} is for another version of `{stage}`; `kiln cancel` cancels it")
}

/// The job of a stage, and what it has printed so far.
pub fn log_of(store: &Arc<Store>, pipeline: Option<&str>, stage: &str) -> Option<(Intent, String)> {
    let is_its =
        |intent: &Intent| intent.stage == stage && pipeline.is_none_or(|name| name == intent.pipeline);
    let intent = intent::all(store).into_iter().find(is_its)?;
    let mail = match &intent.remote {
        Some(remote) => Mail::in_remote(Arc::clone(store), remote, &intent.key),
        None => Mail::in_store(store, &intent.key),
    };
    let mut text = String::new();
    let read = outbox::read_all(&mail, &intent.submission, &mut |said| {
        if let Said::Log(part) = said {
            text += &part;
        }
    });
    read.ok().map(|_| (intent, text))
}

/// An answer of the cluster.
///
/// # Errors
/// It does not answer.
pub fn asked<T>(question: impl Future<Output = Result<T, ClusterError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CliError::io("start the runtime"))?;
    runtime.block_on(question).map_err(|e| CliError::Failed(e.to_string()))
}

/// What a cluster says of a job.
pub enum Found {
    /// Where it stands.
    Job(Job),
    /// That it does not know it.
    Nothing,
    /// Nothing at all.
    NoAnswer,
}

/// Where the jobs of these intents stand, by key.
pub fn states(intents: &[Intent]) -> HashMap<Digest, Found> {
    let mut states = HashMap::new();
    for (spec, intents) in clusters(intents) {
        match asked(engine::jobs(&spec)) {
            Ok(jobs) => states.extend(intents.iter().map(|intent| {
                let job = jobs.get(&intent.name()).cloned();
                (intent.key, job.map_or(Found::Nothing, Found::Job))
            })),
            Err(error) => {
                tracing::warn!("{error}");
                states.extend(intents.iter().map(|intent| (intent.key, Found::NoAnswer)));
            }
        }
    }
    states
}

/// The clusters on which these jobs are, each with its own.
fn clusters(intents: &[Intent]) -> Vec<(ExecutorSpec, Vec<&Intent>)> {
    let mut clusters: Vec<(ExecutorSpec, Vec<&Intent>)> = Vec::new();
    for intent in intents {
        let spec = intent.spec(&[]);
        match clusters.iter_mut().find(|(known, _)| known.address() == spec.address()) {
            Some((_, all)) => all.push(intent),
            None => clusters.push((spec, vec![intent])),
        }
    }
    clusters
}
