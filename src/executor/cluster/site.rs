//! The clusters of a run, and which stages run there.
//!
//! Purpose: from what the call, the file and the last run say to the executor of each stage; and what the stages of one
//! cluster share.
//! Invariant: where a stage runs never changes what it makes. A stage that names its executor runs there, unless the call
//! says that everything runs here; one that does not is kept here when it is short.
//! Must not know: how a job is submitted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::intent::Intent;
use super::watch::Watch;
use crate::graph::Graph;
use crate::plan::{Plan, StagePlan};
use crate::spec::executors::{ExecutorSpec, LOCAL};
use crate::spec::types::{Sandbox, Span, Stage, Work};

/// How many jobs are submitted at a time: each is a process that asks the controller.
const SUBMISSIONS: usize = 4;

/// A cluster of a run.
pub struct Site {
    /// How it is described.
    pub spec: ExecutorSpec,
    /// Its jobs.
    pub watch: Watch,
    /// Bounds the submissions at a time.
    pub submitting: Semaphore,
    /// Whether the run ends once its jobs are submitted.
    pub detaches: bool,
    /// Whether the run submits nothing, and goes on with what was submitted before.
    pub only_follows: bool,
    /// Whether a run that stops cancels its jobs.
    cancels: AtomicBool,
}

impl Site {
    /// Begins to watch a cluster. Call it inside of the runtime.
    pub fn start(spec: ExecutorSpec, placement: &Placement) -> Arc<Self> {
        Arc::new(Self {
            spec,
            watch: Watch::start(),
            submitting: Semaphore::new(SUBMISSIONS),
            detaches: placement.detaches,
            only_follows: placement.only_follows,
            cancels: AtomicBool::new(false),
        })
    }

    /// Has the jobs cancelled when the run stops.
    pub fn cancel(&self) {
        self.cancels.store(true, Ordering::SeqCst);
    }

    /// Whether a run that stops cancels its jobs.
    pub fn cancels(&self) -> bool {
        self.cancels.load(Ordering::SeqCst)
    }
}

/// Which stages of a plan run where.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// The clusters that stages run on.
    pub executors: Vec<ExecutorSpec>,
    /// For each stage of the plan the index of its cluster; none where it runs here.
    pub of: Vec<Option<usize>>,
    /// Whether the run ends once its jobs are submitted.
    pub detaches: bool,
    /// Whether the run submits nothing, and goes on with what was submitted before.
    pub only_follows: bool,
}

impl Placement {
    /// Decides for each stage of a plan. `call` is the executor that the call names. Every name is one of `known` or `local`.
    pub fn of(graph: &Graph, plan: &Plan, known: &[ExecutorSpec], call: Option<&str>) -> Self {
        let mut placement = Self::default();
        for planned in &plan.stages {
            let stage = graph.stage(planned.stage);
            let default = graph.pipeline().executor.as_ref().map(|name| name.value.as_str());
            let spec = executor(stage, default, call).and_then(|(name, named_itself)| {
                let spec = known.iter().find(|spec| spec.name == name)?;
                (named_itself || !stays_here(stage, planned, spec)).then_some(spec)
            });
            // Cached stages as well: one runs after all when an output of it proves missing.
            let index = spec.map(|spec| placement.index(spec));
            placement.of.push(index);
        }
        placement
    }

    /// Places the stages alone that have jobs, where these jobs are.
    pub fn of_jobs(plan: &Plan, intents: &[Intent], known: &[ExecutorSpec]) -> Self {
        let mut placement = Self { only_follows: true, ..Self::default() };
        for planned in &plan.stages {
            let intent = intents.iter().find(|intent| Some(intent.key) == planned.key);
            let spec = intent.map(|intent| {
                let known = known.iter().find(|spec| spec.name == intent.executor).cloned();
                known.unwrap_or_else(|| ExecutorSpec::new(&intent.executor, Span::default()))
            });
            let index = spec.map(|spec| placement.index(&spec));
            placement.of.push(index);
        }
        placement
    }

    fn index(&mut self, spec: &ExecutorSpec) -> usize {
        let known = self.executors.iter().position(|known| known.name == spec.name);
        known.unwrap_or_else(|| {
            self.executors.push(spec.clone());
            self.executors.len() - 1
        })
    }
}

/// The name of the executor of a stage, and whether the stage names one itself; none where it runs here.
fn executor<'a>(
    stage: &'a Stage,
    default: Option<&'a str>,
    call: Option<&'a str>,
) -> Option<(&'a str, bool)> {
    let own = stage.executor.as_ref().map(|name| name.value.as_str());
    if call == Some(LOCAL) || own == Some(LOCAL) {
        return None;
    }
    let name = call.or(own).or(default).filter(|name| *name != LOCAL)?;
    Some((name, own.is_some()))
}

/// The stages that a cluster runs, by name, if no other cause keeps them here. `call` is the executor that the call names.
pub fn away(graph: &Graph, call: Option<&str>) -> BTreeSet<String> {
    let pipeline = graph.pipeline();
    let default = pipeline.executor.as_ref().map(|name| name.value.as_str());
    let is_away = |stage: &&Stage| executor(stage, default, call).is_some() && !needs_project(stage);
    pipeline.stages.iter().filter(is_away).map(|stage| stage.name.value.clone()).collect()
}

/// Whether a stage that names no executor is better off here: to submit it would take longer than it takes, or it needs the
/// folder of the project.
fn stays_here(stage: &Stage, planned: &StagePlan, spec: &ExecutorSpec) -> bool {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // The key of an exact stage names its cores, and this machine may have fewer.
    let fits = !stage.exact || stage.resources.cpus as usize <= cores;
    let is_short = planned.seconds.is_some_and(|seconds| seconds < spec.short.as_secs_f64());
    is_short && fits || needs_project(stage)
}

/// Whether a stage runs in the folder of the project, which a job on another machine does not have.
pub fn needs_project(stage: &Stage) -> bool {
    matches!(stage.work, Work::Command { sandbox: Sandbox::Off, .. })
}
