//! The clusters of a run, and which stages run there.
//!
//! Purpose: from what the call, the file and the last run say to the executor of each stage; and what the stages of one
//! cluster share.
//! Invariant: where a stage runs never changes what it makes. A stage that names its executor runs there, unless the call
//! says that everything runs here; one that does not is kept here when it is short.
//! Must not know: how a job is submitted.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::intent::Intent;
use super::watch::Watch;
use crate::executor::machine::Machine;
use crate::graph::Graph;
use crate::plan::{Plan, StagePlan, State};
use crate::sched::budget::Capacity;
use crate::spec::executors::{ExecutorSpec, LOCAL};
use crate::spec::types::{Sandbox, Stage, Work};

/// How many jobs are submitted at a time: each is a process that asks the controller.
const SUBMISSIONS: usize = 4;

/// A cluster of a run.
pub struct Site {
    /// How it is described.
    pub spec: ExecutorSpec,
    /// The program of this runner, as it was when the run began.
    pub program: PathBuf,
    /// Its jobs.
    pub watch: Arc<Watch>,
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
    fn start(spec: &ExecutorSpec, placement: &Placement, watch: Arc<Watch>) -> Arc<Self> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("kiln"));
        Arc::new(Self {
            program,
            watch,
            spec: spec.clone(),
            submitting: Semaphore::new(SUBMISSIONS),
            detaches: placement.detaches,
            only_follows: placement.only_follows,
            cancels: AtomicBool::new(false),
        })
    }

    /// Begins to watch the clusters of a run; those of one engine at one place are looked at together. Call it inside of
    /// the runtime.
    pub fn start_all(placement: &Placement) -> Vec<Arc<Self>> {
        let mut sites: Vec<Arc<Self>> = Vec::new();
        for spec in &placement.executors {
            let known = sites.iter().find(|site| site.spec.address() == spec.address());
            let watch = known.map(|site| Arc::clone(&site.watch));
            let watch = watch.unwrap_or_else(|| Arc::new(Watch::start(spec.clone())));
            sites.push(Self::start(spec, placement, watch));
        }
        sites
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
    /// The stages that would run on a cluster and run here, since they are short, each with its executor.
    pub short: Vec<(String, String)>,
    /// Whether the run ends once its jobs are submitted.
    pub detaches: bool,
    /// Whether the run submits nothing, and goes on with what was submitted before.
    pub only_follows: bool,
}

impl Placement {
    /// Decides for each stage of a plan. `call` is the executor that the call names. Every name is one of `known` or `local`.
    /// A run that detaches keeps no stage here because it is short: it would wait for it.
    pub fn of(
        graph: &Graph,
        plan: &Plan,
        known: &[ExecutorSpec],
        call: Option<&str>,
        detaches: bool,
    ) -> Self {
        let mut placement = Self { detaches, ..Self::default() };
        let here = Machine::look().capacity(None);
        for planned in &plan.stages {
            let stage = graph.stage(planned.stage);
            let default = graph.pipeline().executor.as_ref().map(|name| name.value.as_str());
            let spec = executor(stage, default, call).and_then(|(name, named_itself)| {
                let spec = known.iter().find(|spec| spec.name == name)?;
                if named_itself {
                    return Some(spec);
                }
                if needs_project(stage) {
                    return None;
                }
                let is_short = !detaches && is_short(stage, planned, spec, &here);
                if is_short && planned.state != State::Cached {
                    placement.short.push((stage.name.value.clone(), spec.name.clone()));
                }
                (!is_short).then_some(spec)
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
            let spec = intent.map(|intent| intent.spec(known));
            let index = spec.map(|spec| placement.index(&spec));
            placement.of.push(index);
        }
        placement
    }

    fn index(&mut self, spec: &ExecutorSpec) -> usize {
        let known = self.executors.iter().position(|known| known == spec);
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

/// Whether a stage is better off here: to submit it would take longer than it takes, and this machine has what it needs.
fn is_short(stage: &Stage, planned: &StagePlan, spec: &ExecutorSpec, here: &Capacity) -> bool {
    let need = stage.resources;
    let fits = need.cpus <= here.cores && need.memory <= here.memory && need.gpus == 0;
    fits && planned.seconds.is_some_and(|seconds| seconds < spec.short().as_secs_f64())
}

/// Whether a stage runs in the folder of the project, which a job on another machine does not have.
pub fn needs_project(stage: &Stage) -> bool {
    matches!(stage.work, Work::Command { sandbox: Sandbox::Off, .. })
}
