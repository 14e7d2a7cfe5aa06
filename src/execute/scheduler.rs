//! The dispatcher: which stage runs when.
//!
//! Purpose: brings the wanted stages up to date, in an order that the graph allows and the machine
//! can bear, the longest way to the end first.
//! Invariant: all state of a run is here, on one thread, save for the jobs on the deck, which others may
//! begin without asking; executors send messages, listeners only listen. A stage is decided on, by the one planner, when all its inputs are known and it is its turn
//! to run. Every wanted stage ends exactly once.
//! Must not know: how a stage is run, how anything is shown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::control::{Control, Stop};
use super::job::Job;
use super::keeper;
use super::message::Message;
use super::pool::Pool;
use super::resources::{Budget, Grant};
use super::stage::StageEnd;
use super::types::{Listener, RunEvent, Say, StageReport};
use super::workshop::Workshop;
use crate::digest::Digest;
use crate::graph::Producer;
use crate::plan::types::Cause;
use crate::plan::{Decision, Plan, PlanError, Planner, StageIx, StagePlan, State};
use crate::spec::types::Work;
use crate::store::StageOutcome;
use crate::store::types::{Action, ArtifactRef};

/// How often a stage that another runner is at is looked at again.
const HELD_FOR: Duration = Duration::from_millis(100);

/// How many stages may be keeping their outputs beside those that run: one lot is gathered while
/// another is kept.
const MOST_KEEPING: usize = 2 * keeper::MOST;

/// A place in the queue: the longest way to the end first, then the order of the plan.
type Place = (Reverse<u64>, usize);

/// What is known of a wanted stage.
struct Stage {
    /// Its place among the wanted stages.
    place: Place,
    /// How many of the stages it reads from are not done.
    waits_for: usize,
    key: Option<Digest>,
    started: Option<Instant>,
    told_holder: bool,
    report: Option<StageReport>,
}

/// Owns the state of a run.
pub struct Dispatcher<'a, 'scope, 'env> {
    shop: &'a Workshop<'a>,
    planner: &'a Planner,
    control: &'a Control,
    pool: Pool<'scope, 'env>,
    budget: Budget,
    lent: HashMap<StageIx, Grant>,
    /// The most stages that may run at a time.
    most_stages: usize,
    /// From this many stages at work on none is handed out, those included whose outputs are being kept.
    most_busy: usize,
    keep_going: bool,
    listener: &'a mut dyn Listener,
    stages: HashMap<StageIx, Stage>,
    ready: BTreeMap<Place, Job>,
    held: Vec<(Instant, Job)>,
    /// Stages whose inputs are all known and that must be decided on.
    undecided: BTreeMap<Place, StageIx>,
    /// The first stage that failed.
    failed: Option<String>,
}

impl<'a, 'scope, 'env> Dispatcher<'a, 'scope, 'env> {
    /// For the stages of a plan.
    pub fn new(
        shop: &'a Workshop<'a>,
        planner: &'a Planner,
        pool: Pool<'scope, 'env>,
        (budget, keep_going): (Budget, bool),
        listener: &'a mut dyn Listener,
        plan: &Plan,
    ) -> Self {
        let (ready, held, undecided, failed, lent) = Default::default();
        let stages = stages(shop, plan);
        let control = shop.control;
        let most_stages = budget.most_stages();
        let most_busy = most_stages + MOST_KEEPING;
        Self {
            shop,
            planner,
            control,
            pool,
            budget,
            lent,
            most_stages,
            most_busy,
            keep_going,
            listener,
            stages,
            ready,
            held,
            undecided,
            failed,
        }
    }

    /// Runs until every wanted stage has ended; gives their reports in the order of the plan.
    pub fn run(mut self, plan: &Plan, messages: &Receiver<Message>) -> Vec<StageReport> {
        self.begin(plan);
        loop {
            self.dispatch();
            if self.pool.busy() == 0 && self.held.is_empty() {
                break;
            }
            if let Some(message) = self.next(messages) {
                self.take(message);
                // What came meanwhile, before anything new is handed out.
                messages.try_iter().for_each(|message| self.take(message));
            }
        }
        self.skip_the_rest();
        plan.stages.iter().filter_map(|stage| self.stages.remove(&stage.stage)?.report).collect()
    }

    /// Settles what the plan found cached, and queues what has all its inputs.
    fn begin(&mut self, plan: &Plan) {
        for planned in &plan.stages {
            match (&planned.last, planned.state) {
                (Some(action), State::Cached) => {
                    if let (Some(stage), Some(key)) = (self.stages.get_mut(&planned.stage), planned.key) {
                        stage.key = Some(key);
                    }
                    self.found(planned.stage, action);
                }
                _ => self.decide_later(planned.stage),
            }
        }
    }

    /// Has a stage decided on when it is its turn, if all its inputs are known and it has not ended.
    fn decide_later(&mut self, ix: StageIx) {
        if let Some(stage) = self.stages.get(&ix).filter(|s| s.waits_for == 0 && s.report.is_none()) {
            self.undecided.insert(stage.place, ix);
        }
    }

    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        let Some(soonest) = self.held.iter().map(|(when, _)| *when).min() else {
            return messages.recv().ok();
        };
        match messages.recv_timeout(soonest.saturating_duration_since(Instant::now())) {
            Ok(message) => return Some(message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let now = Instant::now();
        for (when, job) in std::mem::take(&mut self.held) {
            if when > now {
                self.held.push((when, job));
            } else if let Some(place) = self.stages.get(&job.stage).map(|stage| stage.place) {
                self.ready.insert(place, job);
            }
        }
        None
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Said(ix, say) => self.said(ix, &say),
            Message::Signal => {
                let stop = if self.control.stopping() { Stop::Kill } else { Stop::Ask };
                self.control.throw(stop);
                self.tell(&RunEvent::Stopping { running: self.pool.busy() });
            }
            Message::Freed(ix) => self.free(ix),
            Message::Succeeded { ended, begun } => {
                self.pool.began();
                let grant = self.lent.remove(&ended);
                self.lent.extend(grant.map(|grant| (begun, grant)));
            }
            Message::Ended(job, end) => {
                self.pool.ended();
                self.free(job.stage);
                self.ended(*job, end);
            }
        }
    }

    /// Takes back what of the machine a stage had, if it has anything.
    fn free(&mut self, ix: StageIx) {
        if let Some(grant) = self.lent.remove(&ix) {
            self.budget.give_back(grant);
        }
    }

    fn said(&mut self, ix: StageIx, say: &Say) {
        if let (Say::Started { .. }, Some(stage)) = (say, self.stages.get_mut(&ix)) {
            stage.started.get_or_insert_with(Instant::now);
        }
        let graph = self.shop.graph;
        self.tell(&RunEvent::Said { stage: &graph.stage(ix).name.value, say });
    }

    fn ended(&mut self, job: Job, end: StageEnd) {
        let ix = job.stage;
        match end {
            StageEnd::Held(holder) => {
                let stage = self.stages.get_mut(&ix);
                if stage.is_some_and(|stage| !std::mem::replace(&mut stage.told_holder, true)) {
                    self.said(ix, &Say::Waiting { holder: holder.to_string() });
                }
                self.held.push((Instant::now() + HELD_FOR, job));
            }
            StageEnd::Found(action) => self.found(ix, &action),
            StageEnd::Made { outputs, summary, kept } => {
                let blank = self.report(ix, StageOutcome::Ran);
                self.done(ix, StageReport { outputs, summary, kept, ..blank });
            }
            StageEnd::Interrupted => {
                let error = Some("interrupted; run again to go on".into());
                let blank = self.report(ix, StageOutcome::Skipped);
                self.finish(ix, StageReport { error, ..blank });
            }
            StageEnd::Failed { error, log } => self.failed(ix, error, log),
        }
    }

    fn failed(&mut self, ix: StageIx, error: String, log: Option<(std::path::PathBuf, Vec<String>)>) {
        let report = StageReport { error: Some(error), log, ..self.report(ix, StageOutcome::Failed) };
        let name = report.name.clone();
        self.finish(ix, report);
        self.failed.get_or_insert_with(|| name.clone());
        self.skip_below(ix, &format!("`{name}` failed"));
    }

    /// Skips all that needs this stage.
    fn skip_below(&mut self, ix: StageIx, why: &str) {
        let mut below = self.shop.graph.dependents(ix);
        while let Some(ix) = below.pop() {
            if self.stages.get(&ix).is_some_and(|stage| stage.report.is_none()) {
                self.skip(ix, why);
                below.extend(self.shop.graph.dependents(ix));
            }
        }
    }

    fn skip(&mut self, ix: StageIx, why: &str) {
        let blank = self.report(ix, StageOutcome::Skipped);
        self.finish(ix, StageReport { error: Some(why.to_owned()), ..blank });
    }

    fn skip_the_rest(&mut self) {
        let why = match &self.failed {
            _ if self.control.stopping() => "the run was interrupted".to_owned(),
            Some(name) => format!("not started, for `{name}` failed (--keep-going goes on)"),
            None => "what it needs was interrupted".to_owned(),
        };
        let mut rest: Vec<_> =
            self.stages.iter().filter(|(_, s)| s.report.is_none()).map(|(&ix, s)| (s.place.1, ix)).collect();
        rest.sort_unstable();
        rest.into_iter().for_each(|(_, ix)| self.skip(ix, &why));
    }

    /// Decides on the stages that come before the one in this place, whose inputs are known by now, as far
    /// as the first that must run.
    fn decide(&mut self, before: Bound<Place>) {
        while let Some((&place, &ix)) = self.undecided.range((Bound::Unbounded, before)).next() {
            self.undecided.remove(&place);
            if self.stages.get(&ix).is_none_or(|stage| stage.report.is_some()) {
                continue;
            }
            match self.decision(ix) {
                Err(error) => self.failed(ix, error.to_string(), None),
                Ok((_, Decision::Cached { key, action } | Decision::Fetch { key, action, .. })) => {
                    self.set_key(ix, key);
                    self.found(ix, &action);
                }
                Ok((inputs, Decision::Run { key, key_inputs, reasons, .. })) => {
                    self.set_key(ix, key);
                    let forced = reasons.iter().any(|reason| reason.cause == Cause::Forced);
                    let grant = Grant::default();
                    self.ready.insert(place, Job { stage: ix, key, key_inputs, inputs, forced, grant });
                    return;
                }
            }
        }
    }

    fn decision(&mut self, ix: StageIx) -> Result<(BTreeMap<String, ArtifactRef>, Decision), PlanError> {
        let mut inputs = BTreeMap::new();
        for input in self.shop.graph.inputs(ix) {
            let artifact = match input.from {
                Producer::Source(name) => Some(self.planner.sources().source(name)?),
                Producer::Stage { index, output } => {
                    let report = self.stages.get(&index).and_then(|stage| stage.report.as_ref());
                    report.and_then(|report| report.outputs.get(&output.name)).copied()
                }
            };
            inputs.extend(artifact.map(|artifact| (input.name.to_owned(), artifact)));
        }
        let decision = self.planner.decide(ix, &inputs)?;
        Ok((inputs, decision))
    }

    /// Starts what the machine can bear, in the order of the queue.
    fn dispatch(&mut self) {
        self.recall();
        let mut after = Bound::Unbounded;
        while !self.is_ending() && !self.budget.is_spent() && self.pool.busy() < self.most_busy {
            let next = self.ready.range((after, Bound::Unbounded)).next().map(|(&place, _)| place);
            self.decide(next.map_or(Bound::Unbounded, Bound::Excluded));
            let Some((&place, _)) = self.ready.range((after, Bound::Unbounded)).next() else { break };
            after = Bound::Excluded(place);
            let need = self.ready.get(&place).map(|job| self.shop.graph.stage(job.stage).resources);
            let Some(grant) = need.and_then(|need| self.budget.lend(need)) else { continue };
            if let Some(job) = self.ready.remove(&place) {
                self.lent.insert(job.stage, grant.clone());
                if let Err((job, e)) = self.pool.run(Box::new(Job { grant, ..job })) {
                    self.free(job.stage);
                    if self.pool.busy() == 0 {
                        self.failed(job.stage, format!("the machine gives no thread to run it: {e}"), None);
                    } else {
                        // It gets one that becomes free.
                        self.ready.insert(place, *job);
                        break;
                    }
                }
            }
        }
        if !self.is_ending() {
            self.deck();
        }
        if self.is_ending() {
            // After a failure, what turns out to be cached is told of all the same.
            while !self.control.stopping() && !self.undecided.is_empty() {
                self.decide(Bound::Unbounded);
            }
            self.undecided.clear();
            self.ready.clear();
            self.held.clear();
            self.pool.hurry(true);
        }
    }

    /// Lays what comes next on the deck: as much as may end before we hear of it.
    fn deck(&mut self) {
        let mut jobs = VecDeque::new();
        while jobs.len() < self.most_stages && self.pool.busy() + jobs.len() < self.most_busy {
            let next = self.ready.first_key_value().map(|(&place, _)| place);
            self.decide(next.map_or(Bound::Unbounded, Bound::Excluded));
            if self.is_ending() {
                return;
            }
            let Some((_, job)) = self.ready.pop_first() else { break };
            jobs.push_back(job);
        }
        // While something else can be done, nobody is held up by outputs that are not kept yet.
        self.pool.hurry(jobs.is_empty() && self.ready.is_empty() && self.undecided.is_empty());
        self.pool.deck(jobs);
    }

    /// Takes back what lies on the deck, for something more urgent may have come.
    fn recall(&mut self) {
        for job in self.pool.recall() {
            if let Some(stage) = self.stages.get(&job.stage) {
                self.ready.insert(stage.place, job);
            }
        }
    }

    /// Whether no other stage will be started.
    fn is_ending(&self) -> bool {
        self.control.stopping() || (self.failed.is_some() && !self.keep_going)
    }

    /// The stage's action is known: nothing to do.
    fn found(&mut self, ix: StageIx, action: &Action) {
        let provenance = &action.provenance;
        self.shop.show(ix, &action.outputs);
        let (outputs, summary) = (action.outputs.clone(), provenance.summary.clone());
        let blank = self.report(ix, StageOutcome::Cached);
        self.done(ix, StageReport { outputs, summary, saved: provenance.seconds.max(0.0), ..blank });
    }

    /// The stage is up to date: remembers it, and counts down those below.
    fn done(&mut self, ix: StageIx, report: StageReport) {
        if let Some(key) = report.key.filter(|_| report.kept)
            && let Err(e) = self.shop.run.remember(&[(&report.name, key)])
        {
            tracing::warn!(stage = report.name, "what it was made of is not remembered: {e}");
        }
        self.finish(ix, report);
        for below in self.shop.graph.dependents(ix) {
            if let Some(stage) = self.stages.get_mut(&below) {
                stage.waits_for -= 1;
            }
            self.decide_later(below);
        }
    }

    fn finish(&mut self, ix: StageIx, report: StageReport) {
        self.tell(&RunEvent::Ended(&report));
        if let Some(stage) = self.stages.get_mut(&ix) {
            stage.report = Some(report);
        }
    }

    fn set_key(&mut self, ix: StageIx, key: Digest) {
        if let Some(stage) = self.stages.get_mut(&ix) {
            stage.key = Some(key);
        }
    }

    /// A report with what is known of the stage, to be filled in.
    fn report(&self, ix: StageIx, outcome: StageOutcome) -> StageReport {
        let spec = self.shop.graph.stage(ix);
        let stage = self.stages.get(&ix);
        let kind = match &spec.work {
            Work::Kind { kind, .. } => kind.clone(),
            Work::Command { .. } => "command".to_owned(),
        };
        let started = stage.and_then(|stage| stage.started);
        StageReport {
            name: spec.name.value.clone(),
            kind,
            key: stage.and_then(|stage| stage.key),
            outcome,
            seconds: started.map_or(0.0, |started| started.elapsed().as_secs_f64()),
            saved: 0.0,
            outputs: BTreeMap::new(),
            summary: Vec::new(),
            error: None,
            log: None,
            kept: true,
        }
    }

    fn tell(&mut self, event: &RunEvent<'_>) {
        self.listener.hear(event);
    }
}

/// What is known of the wanted stages before anything runs.
fn stages(shop: &Workshop<'_>, plan: &Plan) -> HashMap<StageIx, Stage> {
    let wanted: HashSet<StageIx> = plan.stages.iter().map(|stage| stage.stage).collect();
    let mut ways: HashMap<StageIx, f64> = HashMap::new();
    let mut stages = HashMap::new();
    for (order, planned) in plan.stages.iter().enumerate().rev() {
        let ix = planned.stage;
        let below = shop.graph.dependents(ix);
        let longest = below.iter().filter_map(|ix| ways.get(ix)).copied().fold(0.0, f64::max);
        let way = longest + seconds(planned);
        ways.insert(ix, way);
        let above = shop.graph.dependencies(ix);
        let stage = Stage {
            place: (Reverse((way * 1e3) as u64), order),
            waits_for: above.iter().filter(|ix| wanted.contains(ix)).count(),
            key: None,
            started: None,
            told_holder: false,
            report: None,
        };
        stages.insert(ix, stage);
    }
    stages
}

/// How long a stage may take: as long as last time, else a second.
fn seconds(planned: &StagePlan) -> f64 {
    let last = planned.last.as_ref().map(|action| action.provenance.seconds);
    last.filter(|seconds| seconds.is_finite() && *seconds >= 0.0).unwrap_or(1.0)
}
