//! A whole run.
//!
//! Purpose: the one entry point: start the runtime, watch for signals, drive the scheduler, and hand what
//! happens to the reporters, which have a thread of their own.
//! Invariant: whatever happens to a stage or to a reporter, the run ends with a report.
//! Must not know: how a pipeline is read, how a run is shown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::driver::Driver;
use super::message::Message;
use super::preflight::Ready;
use super::uploads::Uploads;
use super::{signals, sweep};
use crate::cas::{Store, StoreError};
use crate::executor::backlog::Backlog;
use crate::executor::cancel::Cancellation;
use crate::executor::cluster::{Placement, settle};
use crate::executor::commit::Committer;
use crate::executor::context::RunContext;
use crate::executor::machine::Machine;
use crate::executor::orphans;
use crate::executor::spares::Spares;
use crate::executor::stage::reserve;
use crate::graph::Graph;
use crate::plan::{Plan, Planner};
use crate::provider::Known;
use crate::sched::{Event, Reporter, RunReport, StageReport};
use crate::state::{RunDir, RunOutcome, StageOutcome};

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The most stages at a time; as many as there are cores when none.
    pub jobs: Option<u32>,
    /// Whether what does not need a failed stage goes on.
    pub keep_going: bool,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
    /// Which stages run on a cluster.
    pub placement: Placement,
    /// What is said first.
    pub notes: Vec<String>,
}

/// What is to be run.
pub struct Wanted<'a> {
    /// The graph of the pipeline.
    pub graph: Arc<Graph>,
    /// The store.
    pub store: Arc<Store>,
    /// The planner that made `plan`; it decides on the stages that wait.
    pub planner: Arc<Planner>,
    /// What is to be done, as far as it can be known.
    pub plan: &'a Plan,
    /// The folder of the run, which has begun.
    pub run: Arc<RunDir>,
    /// The providers of the kinds of the pipeline.
    pub providers: Arc<Known>,
    /// What `preflight` found.
    pub ready: Ready,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that stages need is missing.
    #[error("{}", .0.join("\nerror: "))]
    Preflight(Vec<String>),
    /// The runtime cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
}

/// Runs the stages of a plan that are stale.
///
/// # Errors
/// The run could not begin. A stage that fails is not an error: the report says so.
pub fn run(
    wanted: Wanted<'_>,
    options: &Options,
    reporters: Vec<Box<dyn Reporter + '_>>,
) -> Result<RunOutcome, RunError> {
    wanted.store.watch()?;
    // Nothing is removed from the store until the run has ended.
    let _in_use = wanted.store.share()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(RunError::Runtime)?;
    let (events, queue) = mpsc::unbounded_channel();
    std::thread::scope(|scope| {
        let backlog = Backlog::default();
        let waiting = backlog.clone();
        scope.spawn(move || report(queue, reporters, &waiting));
        let outcome = runtime.block_on(drive(wanted, options, events, backlog));
        // Tasks that still wait for another runner are dropped here.
        drop(runtime);
        Ok(outcome)
    })
}

async fn drive(
    wanted: Wanted<'_>,
    options: &Options,
    events: mpsc::UnboundedSender<Vec<Event>>,
    backlog: Backlog,
) -> RunOutcome {
    let began = Instant::now();
    let cancellation = Cancellation::default();
    let machine = Machine::look();
    let capacity = machine.capacity(options.jobs);
    let plan = wanted.plan;
    let pipeline = wanted.graph.pipeline().name.clone();
    let store = wanted.store;
    let context = Arc::new(RunContext {
        committer: Committer::start(Arc::clone(&store)),
        graph: wanted.graph,
        store: Arc::clone(&store),
        planner: wanted.planner,
        providers: wanted.providers,
        run: wanted.run,
        device: options.device.clone(),
        caller: wanted.ready.caller,
        masks: wanted.ready.masks,
        spares: Spares::new(&store.root().join("work")),
        backlog,
        cancellation: cancellation.clone(),
        machine,
        uploads: Uploads::new(Arc::clone(&store)),
    });
    let run = context.run.id().to_owned();
    let stages = plan.stages.len();
    let _ = events.send(vec![Event::RunStarted { run: run.clone(), pipeline: pipeline.clone(), stages }]);
    let notes = options.notes.iter().map(|message| Event::Note { message: message.clone() });
    let _ = events.send(notes.collect());
    let mut driver = Driver::new(
        Arc::clone(&context),
        plan,
        capacity,
        options.placement.clone(),
        options.keep_going,
        events.clone(),
    );
    // Before anything that may take time: a signal that nobody watches for ends the runner without a report.
    signals::watch(driver.sender());
    let _ = events.send(settled(&context, plan, &mut driver).await);
    if !plan.summary().is_fresh() {
        orphans::sweep(&store).await;
        sweep::sweep(&store).await;
        reserve::make(store.root());
    }
    let stages = driver.run().await;
    let shared = {
        let stop = async {
            driver.signalled().await;
            cancellation.stop();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            shared = context.uploads.finish(&cancellation) => shared,
            () = stop => Vec::new(),
        }
    };
    let _ = events.send(shared);
    let outcome = outcome(&stages, cancellation.is_stopping());
    let seconds = began.elapsed().as_secs_f64();
    let _ = events.send(vec![Event::RunFinished(RunReport { run, pipeline, outcome, seconds, stages })]);
    outcome
}

/// What jobs have said that ended while no runner was there; nothing where a signal comes first.
async fn settled(context: &Arc<RunContext>, plan: &Plan, driver: &mut Driver) -> Vec<Event> {
    tokio::select! {
        settled = settle(context, plan) => settled,
        () = driver.signalled() => {
            let _ = driver.sender().send(Message::Signal);
            Vec::new()
        }
    }
}

/// Hands events to the reporters until there will be no more. One that panics is left out from then on.
fn report(
    mut queue: mpsc::UnboundedReceiver<Vec<Event>>,
    mut reporters: Vec<Box<dyn Reporter + '_>>,
    backlog: &Backlog,
) {
    while let Some(events) = queue.blocking_recv() {
        reporters.retain_mut(|reporter| {
            let told = catch_unwind(AssertUnwindSafe(|| {
                events.iter().for_each(|event| reporter.on_event(event));
                reporter.flush();
            }));
            if told.is_err() {
                tracing::error!(
                    "a reporter panicked and is left out for the rest of the run; this is a bug in kiln"
                );
            }
            told.is_ok()
        });
        backlog.reported(events.len());
    }
}

fn outcome(stages: &[Arc<StageReport>], interrupted: bool) -> RunOutcome {
    let any = |outcome| stages.iter().any(|stage| stage.outcome == outcome);
    if any(StageOutcome::Failed) {
        RunOutcome::Failed
    } else if any(StageOutcome::Detached) {
        RunOutcome::Detached
    } else if any(StageOutcome::Skipped) || interrupted && stages.is_empty() {
        RunOutcome::Interrupted
    } else {
        RunOutcome::Ok
    }
}
