//! A whole run.
//!
//! Purpose: the one entry point: begin a record, watch for signals, dispatch, and leave behind the
//! record and the lock file.
//! Invariant: whatever happens to a stage, the run ends with a report and its record says the same.
//! Must not know: how a pipeline was read, how a run is shown.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::control::Control;
use super::lockfile;
use super::message::Message;
use super::pool::Pool;
use super::record::Recorder;
use super::resources::Budget;
use super::scheduler::Dispatcher;
use super::stage::sweep;
use super::types::{Both, Listener, RunEvent, RunReport, StageReport};
use super::workshop::Workshop;
use crate::graph::Graph;
use crate::plan::{Plan, Planner};
use crate::provider::{Known, environment};
use crate::store::{Run, RunOutcome, StageOutcome, Store, StoreError};

/// How many messages may wait for the dispatcher before those who send them wait.
const BACKLOG: usize = 1024;

/// How to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The most stages at a time; as many as the machine bears when none.
    pub jobs: Option<u32>,
    /// Whether what does not need a failed stage goes on.
    pub keep_going: bool,
    /// `auto`, `cpu` or `cuda`.
    pub device: String,
}

/// What is to be run.
pub struct Wanted<'a> {
    /// The pipeline's graph.
    pub graph: &'a Graph,
    /// The store.
    pub store: &'a Store,
    /// The planner that made `plan`; it decides on the stages that wait.
    pub planner: &'a Planner,
    /// What is to be done, as far as it can be known.
    pub plan: &'a Plan,
    /// The providers of the pipeline's kinds.
    pub providers: &'a Known,
}

/// Brings the planned stages up to date.
///
/// # Errors
/// The store refuses to begin a run. A stage that fails is no error: the report tells.
pub fn run(
    wanted: Wanted<'_>,
    options: &Options,
    listener: &mut dyn Listener,
) -> Result<RunReport, StoreError> {
    let began = Instant::now();
    let pipeline = wanted.graph.pipeline();
    sweep(wanted.store);
    let run = wanted.store.runs().begin(&pipeline.name, &pipeline.file().to_string_lossy())?;
    wanted.store.watch()?;
    let mut recorder = Recorder::new(&run);
    let mut both = Both(&mut recorder, listener);
    let begun = RunEvent::Begun { run: run.id(), pipeline: &pipeline.name, stages: wanted.plan.stages.len() };
    both.hear(&begun);
    let (stages, interrupted) = dispatch(wanted, options, &run, &mut both);
    if let Err(e) = lockfile::update(pipeline, &stages) {
        tracing::warn!("the lock file was not written: {e}");
    }
    let report = RunReport {
        run: run.id().to_owned(),
        pipeline: pipeline.name.clone(),
        outcome: outcome(&stages, interrupted),
        seconds: began.elapsed().as_secs_f64(),
        stages,
    };
    both.hear(&RunEvent::Over(&report));
    Ok(report)
}

fn dispatch(
    wanted: Wanted<'_>,
    options: &Options,
    run: &Run,
    listener: &mut dyn Listener,
) -> (Vec<StageReport>, bool) {
    let Wanted { graph, store, planner, plan, providers } = wanted;
    let control = Control::default();
    let shop = Workshop {
        graph,
        store,
        run,
        control: &control,
        providers,
        device: &options.device,
        sources: planner.sources(),
        environment: environment::caller(),
    };
    let (tell, messages) = sync_channel(BACKLOG);
    let stages = std::thread::scope(|scope| {
        let signals = watch_signals(scope, tell.clone());
        let budget = Budget::of_this_machine(options.jobs);
        let pool = Pool::new(scope, &shop, tell);
        let dispatcher = Dispatcher::new(&shop, planner, pool, (budget, options.keep_going), listener, plan);
        let stages = dispatcher.run(plan, &messages);
        // Executors that still talk must not wait for someone to listen.
        drop(messages);
        if let Some(signals) = signals {
            signals.close();
        }
        stages
    });
    (stages, control.stopping())
}

/// Tells the dispatcher of Ctrl-C and its like, on a thread of its own.
fn watch_signals<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    tell: SyncSender<Message>,
) -> Option<Handle> {
    let mut signals = match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(signals) => signals,
        Err(e) => {
            tracing::warn!("signals are not caught, so Ctrl-C ends stages without a checkpoint: {e}");
            return None;
        }
    };
    let handle = signals.handle();
    scope.spawn(move || signals.forever().try_for_each(|_| tell.send(Message::Signal)));
    Some(handle)
}

fn outcome(stages: &[StageReport], interrupted: bool) -> RunOutcome {
    let any = |outcome| stages.iter().any(|stage| stage.outcome == outcome);
    if any(StageOutcome::Failed) {
        RunOutcome::Failed
    } else if any(StageOutcome::Skipped) || interrupted && stages.is_empty() {
        RunOutcome::Interrupted
    } else {
        RunOutcome::Ok
    }
}
