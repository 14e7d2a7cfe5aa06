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
use crate::report::text::printable;
use crate::spec::executors::ExecutorSpec;
use crate::state::Lock;

/// Runs `kiln attach`.
///
/// # Errors
/// As `kiln run`.
pub fn attach(common: &Common, args: &JobsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let intents = intents(common, args)?;
    if intents.is_empty() {
        printer.line("No stage has a job on a cluster.");
        return Ok(Exit::Ok);
    }
    let mut pipeline = args.pipeline.clone();
    let file = pipeline.split().0.map(|file| file.display().to_string());
    pipeline.names = file.into_iter().chain(intents.into_iter().map(|intent| intent.stage)).collect();
    let args = RunArgs { pipeline, keep_going: true, only_follows: true, ..RunArgs::default() };
    run::run(common, &args, printer)
}

/// Runs `kiln cancel`.
///
/// # Errors
/// A wrong pipeline or call; the cluster does not answer.
pub fn cancel(common: &Common, args: &JobsArgs, printer: &mut Printer) -> Result<Exit, CliError> {
    let context = Context::open(common, &args.pipeline)?;
    let intents = of_pipeline(&context, args)?;
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
        cancelled.extend(alive);
        of_cluster.iter().try_for_each(|intent| forget(&context.store, intent))?;
    }
    if args.pipeline.json {
        let jobs: Vec<_> =
            cancelled.iter().map(|(stage, job)| json!({ "stage": stage, "job": job })).collect();
        printer.json(&json!({ "schema": "kiln.cancel/1", "cancelled": jobs }))?;
        return Ok(Exit::Ok);
    }
    for (stage, job) in &cancelled {
        printer.line(format!("cancelled  {}  job {job}", printable(stage)));
    }
    if cancelled.is_empty() {
        printer.line("No stage has a job on a cluster.");
    }
    Ok(Exit::Ok)
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

fn intents(common: &Common, args: &JobsArgs) -> Result<Vec<Intent>, CliError> {
    of_pipeline(&Context::open(common, &args.pipeline)?, args)
}

/// The jobs of a pipeline, or of the named stages of it.
fn of_pipeline(context: &Context, args: &JobsArgs) -> Result<Vec<Intent>, CliError> {
    let (_, names) = args.pipeline.split();
    let (graph, pipeline) = (&context.graph, &context.graph.pipeline().name);
    graph.targets(names).map_err(CliError::Pipeline)?;
    let mut all = intent::all(&context.store);
    all.retain(|intent| {
        let named = names.is_empty() || names.contains(&intent.stage);
        intent.pipeline == *pipeline && graph.index(&intent.stage).is_some() && named
    });
    Ok(all)
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
    let read = outbox::read(&mail, &intent.submission, 0, &mut |said| {
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
