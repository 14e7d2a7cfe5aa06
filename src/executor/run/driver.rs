//! Carries out the commands of the scheduler.
//!
//! Purpose: one loop that owns the state of a run: it asks the planner, starts stages, feeds what happens
//! back to the scheduler and reports it.
//! Invariant: nothing here blocks: disks and planner are used on the blocking pool, stages are tasks.
//! Must not know: how a stage is run, how anything is shown.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::message::{Decided, Message, decide_all, masked};
use super::paths;
use crate::cas::remote::FetchError;
use crate::cas::types::{Action, ArtifactRef};
use crate::digest::{CanonicalJson, Digest};
use crate::executor::cluster::{Placement, Site};
use crate::executor::context::RunContext;
use crate::executor::job::{Job, StageEnd};
use crate::executor::local::Local;
use crate::executor::scratch::Scratch;
use crate::executor::stage::{StageRun, run_as_job, run_stage, take_over};
use crate::graph::Producer;
use crate::plan::{Decision, Plan, PlanError, StageIx};
use crate::sched::budget::{Capacity, Permit};
use crate::sched::scheduler::Scheduler;
use crate::sched::types::{Command, End, Input, Slot, Verdict};
use crate::sched::{Event, StageEvent, StageReport};
use crate::state::StageOutcome;

/// How often the planner is asked again about a stage whose sources change.
const MOST_QUESTIONS: u32 = 5;

/// What is known of a wanted stage.
#[derive(Default)]
pub(super) struct Known {
    pub(super) index: StageIx,
    pub(super) key: Option<Digest>,
    pub(super) key_inputs: Option<CanonicalJson>,
    pub(super) job: Option<Arc<Job>>,
    /// The action that a remote has.
    elsewhere: Option<Arc<Action>>,
    pub(super) outputs: BTreeMap<String, ArtifactRef>,
    pub(super) started: Option<Instant>,
    told_holder: bool,
    /// How often a source had changed before it could begin.
    asked_again: u32,
    pub(super) report: Option<Arc<StageReport>>,
}

/// Owns the state of a run.
pub struct Driver {
    pub(super) context: Arc<RunContext>,
    executor: Arc<Local>,
    pub(super) placement: Placement,
    pub(super) sites: Vec<Arc<Site>>,
    pub(super) has_detached: bool,
    /// Whether the user is being asked what becomes of the jobs.
    pub(super) asking: bool,
    pub(super) scheduler: Scheduler,
    pub(super) stages: Vec<Known>,
    slots: HashMap<StageIx, Slot>,
    /// Where events go, all those of one step together.
    reports: UnboundedSender<Vec<Event>>,
    pub(super) events: Vec<Event>,
    pub(super) sender: UnboundedSender<Message>,
    messages: UnboundedReceiver<Message>,
    commands: Vec<Command>,
    finished: bool,
}

impl Driver {
    /// For the stages of a plan.
    pub fn new(
        context: Arc<RunContext>,
        plan: &Plan,
        capacity: Capacity,
        placement: Placement,
        keep_going: bool,
        reports: UnboundedSender<Vec<Event>>,
    ) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let stages: Vec<_> =
            plan.stages.iter().map(|planned| Known { index: planned.stage, ..Known::default() }).collect();
        let slots = stages.iter().enumerate().map(|(slot, stage)| (stage.index, slot)).collect();
        let wanted = paths::wanted(&context.graph, plan, &slots, &placement);
        let sites = Site::start_all(&placement);
        let most = |site: &Arc<Site>| site.spec.max_jobs().min(capacity.jobs.unwrap_or(u32::MAX)).max(1);
        let capacity = Capacity { sites: sites.iter().map(most).collect(), ..capacity };
        let scheduler = Scheduler::new(wanted, capacity, keep_going);
        let mut driver = Self {
            context,
            executor: Arc::default(),
            placement,
            sites,
            has_detached: false,
            asking: false,
            scheduler,
            stages,
            slots,
            reports,
            events: Vec::new(),
            sender,
            messages,
            commands: Vec::new(),
            finished: false,
        };
        driver.commands = driver.scheduler.start();
        for (slot, planned) in plan.stages.iter().enumerate() {
            if let (crate::plan::State::Cached, Some(action)) = (planned.state, &planned.last) {
                driver.stages[slot].key = planned.key;
                driver.found(slot, action, StageOutcome::Cached);
            }
        }
        driver
    }

    /// Sends messages to this driver.
    pub fn sender(&self) -> UnboundedSender<Message> {
        self.sender.clone()
    }

    /// Runs until every wanted stage has ended; gives their reports in the order of the plan.
    pub async fn run(&mut self) -> Vec<Arc<StageReport>> {
        self.carry_out();
        while !self.finished {
            let Some(message) = self.messages.recv().await else { break };
            self.take(message);
            self.carry_out();
        }
        self.stages.iter_mut().filter_map(|stage| stage.report.take()).collect()
    }

    /// Waits until the user or the system asks to stop, once all stages have ended.
    pub async fn signalled(&mut self) {
        while let Some(message) = self.messages.recv().await {
            if matches!(message, Message::Signal) {
                return;
            }
        }
    }

    pub(super) fn feed(&mut self, input: Input) {
        let commands = self.scheduler.handle(input);
        self.commands.extend(commands);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Decided(answers) => {
                answers.into_iter().for_each(|(slot, epoch, answer)| self.decided(slot, epoch, answer));
            }
            Message::Fetched(slot, fetched) => self.fetched(slot, fetched),
            Message::Stage(slot, event) => self.stage_event(slot, event),
            Message::ProcessEnded(slot) => self.feed(Input::ProcessEnded(slot)),
            Message::Ended(slot, end) => self.ended(slot, end),
            Message::HolderGone(slot) => self.feed(Input::HolderGone(slot)),
            Message::Signal if self.asks() => {}
            Message::Answer(answer) => self.answered(answer),
            Message::Signal => self.stops(),
        }
    }

    fn carry_out(&mut self) {
        while !self.commands.is_empty() {
            let mut decide = Vec::new();
            for command in std::mem::take(&mut self.commands) {
                match command {
                    Command::Decide(slot, epoch) => decide.push((slot, epoch)),
                    Command::Start(slot, permit) => self.start(slot, permit),
                    Command::Skip(slot, why) => self.skip(slot, why),
                    Command::FailMissing(slot, producer) => self.fail_missing(slot, producer),
                    Command::Fetch(slot) => self.fetch(slot),
                    Command::Stop => self.stop(),
                    Command::Kill => self.context.cancellation.kill(),
                    Command::Finish => self.finished = true,
                }
            }
            self.decide(decide);
        }
        if !self.events.is_empty() {
            self.context.backlog.made(self.events.len());
            // The reporters end after the driver.
            let _ = self.reports.send(std::mem::take(&mut self.events));
        }
    }

    fn stop(&self) {
        self.context.cancellation.stop();
        if let Some(remotes) = self.context.store.remotes() {
            remotes.stop();
        }
    }

    /// Asks the planner about stages, one after the other on the blocking pool.
    fn decide(&self, wanted: Vec<(Slot, u32)>) {
        if wanted.is_empty() {
            return;
        }
        let questions: Vec<_> = wanted
            .into_iter()
            .map(|(slot, epoch)| (slot, epoch, self.stages[slot].index, self.made_inputs(slot)))
            .collect();
        let (context, sender) = (Arc::clone(&self.context), self.sender.clone());
        tokio::task::spawn_blocking(move || decide_all(&context, questions, &sender));
    }

    /// The inputs of a stage that other stages have made.
    fn made_inputs(&self, slot: Slot) -> BTreeMap<String, ArtifactRef> {
        let mut inputs = BTreeMap::new();
        for input in self.context.graph.inputs(self.stages[slot].index) {
            if let Producer::Stage { index, output } = input.from
                && let Some(artifact) =
                    self.slots.get(&index).and_then(|&above| self.stages[above].outputs.get(&output.name))
            {
                inputs.insert(input.name.to_owned(), *artifact);
            }
        }
        inputs
    }

    fn decided(&mut self, slot: Slot, epoch: u32, answer: Result<Decided, PlanError>) {
        if !self.scheduler.awaits_decision(slot, epoch) {
            return self.feed(Input::Decided(slot, epoch, Verdict::Run));
        }
        match answer {
            Err(error) => {
                self.finish_failed(slot, error.to_string(), None);
                self.feed(Input::Decided(slot, epoch, Verdict::Failed));
            }
            Ok(Decided { decision: Decision::Cached { key, action }, .. }) => {
                self.stages[slot].key = Some(key);
                self.found(slot, &action, StageOutcome::Cached);
                self.feed(Input::Decided(slot, epoch, Verdict::Cached));
            }
            Ok(Decided { inputs, decision: Decision::Run { key, key_inputs, replace, .. } }) => {
                let stage = &mut self.stages[slot];
                stage.key = Some(key);
                stage.key_inputs = Some(CanonicalJson::of(&key_inputs));
                stage.job = Some(Arc::new(Job { stage: stage.index, key, key_inputs, inputs, replace }));
                self.feed(Input::Decided(slot, epoch, Verdict::Run));
            }
            Ok(Decided { decision: Decision::Fetch { key, found, .. }, .. }) => {
                self.stages[slot].key = Some(key);
                self.stages[slot].elsewhere = Some(found.action);
                self.feed(Input::Decided(slot, epoch, Verdict::Fetch));
            }
        }
    }

    /// Takes over the action that a remote has. Its outputs are fetched only when no other stage reads them, for
    /// then they are what was asked for; else the stages that run fetch what they read.
    fn fetch(&self, slot: Slot) {
        let Some(action) = self.stages[slot].elsewhere.clone() else { return };
        let dependents = self.context.graph.dependents(self.stages[slot].index);
        let is_last = !dependents.iter().any(|below| self.slots.contains_key(below));
        let (context, sender) = (Arc::clone(&self.context), self.sender.clone());
        tokio::task::spawn_blocking(move || {
            let _ = sender.send(Message::Fetched(slot, take_over(&context.store, &action, is_last)));
        });
    }

    fn fetched(&mut self, slot: Slot, fetched: Result<(), FetchError>) {
        match (fetched, self.stages[slot].elsewhere.take(), self.stages[slot].key) {
            (Ok(()), Some(action), _) => {
                self.found(slot, &action, StageOutcome::Fetched);
                self.feed(Input::Ended(slot, End::Fetched));
            }
            // What the disk here refuses it would refuse the stage, too.
            (Err(FetchError::Store(error)), ..) if error.is_of_disk() => {
                self.finish_failed(slot, error.to_string(), None);
                self.feed(Input::Ended(slot, End::Failed));
            }
            (fetched, _, key) => {
                let why = fetched.err().map(|error| error.to_string()).unwrap_or_default();
                // After a stop it is not run either.
                if !self.context.cancellation.is_stopping() {
                    self.stage_event(slot, StageEvent::Note { message: format!("runs, because {why}") });
                }
                key.iter().for_each(|key| self.context.planner.forget_elsewhere(key));
                self.feed(Input::Again(slot));
            }
        }
    }

    fn start(&mut self, slot: Slot, permit: Permit) {
        let Some(job) = self.stages[slot].job.clone() else {
            let error = "the stage was started before it was decided on; this is a bug in kiln".to_owned();
            return self.ended(slot, StageEnd::Failed { error, log: None });
        };
        let (events, ended, sender) = (self.sender.clone(), self.sender.clone(), self.sender.clone());
        let emit = Arc::new(move |event| drop(events.send(Message::Stage(slot, event))));
        let context = Arc::clone(&self.context);
        let scratch = Scratch::at(context.store.work(&job.key));
        let executor = Arc::clone(&self.executor);
        let run = StageRun { context, job, scratch, permit, executor, emit };
        if self.placement.only_follows && !self.is_away(slot) {
            return self.ended(slot, StageEnd::Interrupted);
        }
        let site = self.placement.of.get(slot).copied().flatten().and_then(|site| self.sites.get(site));
        let work = match site {
            Some(site) => tokio::spawn(run_as_job(run, Arc::clone(site))),
            None => tokio::spawn(run_stage(run, move || drop(ended.send(Message::ProcessEnded(slot))))),
        };
        tokio::spawn(async move {
            let end = work.await.unwrap_or_else(|e| StageEnd::Failed {
                error: format!("the runner has a bug: {e} (see stderr)"),
                log: None,
            });
            let _ = sender.send(Message::Ended(slot, end));
        });
    }

    fn stage_event(&mut self, slot: Slot, event: StageEvent) {
        if matches!(event, StageEvent::Started { .. }) {
            self.stages[slot].started.get_or_insert_with(Instant::now);
        }
        let (stage, event) = (self.name(slot), masked(event, &self.context.masks));
        self.emit(Event::Stage { stage, event });
    }

    fn ended(&mut self, slot: Slot, end: StageEnd) {
        match end {
            StageEnd::Held { holder, lock } => {
                if !std::mem::replace(&mut self.stages[slot].told_holder, true) {
                    self.stage_event(slot, StageEvent::Waiting { holder: holder.to_string() });
                }
                self.wait_for_holder(slot, lock);
                self.feed(Input::Held(slot));
            }
            StageEnd::HeldElsewhere(holder) => {
                if !std::mem::replace(&mut self.stages[slot].told_holder, true) {
                    self.stage_event(slot, StageEvent::Waiting { holder });
                }
                self.wait_for_lease(slot);
                self.feed(Input::Held(slot));
            }
            StageEnd::InputMissing(producer) => match self.slots.get(&producer) {
                Some(&producer) => {
                    let lost = self.stages[producer].key;
                    lost.iter().for_each(|key| self.context.planner.forget_elsewhere(key));
                    self.feed(Input::InputMissing { consumer: slot, producer });
                }
                None => {
                    let error = "an input is missing or damaged in the store; run the stage that makes it";
                    self.finish_failed(slot, error.to_owned(), None);
                    self.feed(Input::Ended(slot, End::Failed));
                }
            },
            StageEnd::Changed(what) => self.changed(slot, &what),
            StageEnd::Found(action) => {
                self.found(slot, &action, StageOutcome::Cached);
                self.feed(Input::Ended(slot, End::Cached));
            }
            StageEnd::Ran { outputs, summary, kept, seconds } => {
                self.set_outputs(slot, &outputs);
                let blank = self.report(slot, StageOutcome::Ran);
                let seconds = seconds.unwrap_or(blank.seconds);
                self.finish(slot, StageReport { outputs, summary, kept, seconds, ..blank });
                self.feed(Input::Ended(slot, End::Ran));
            }
            StageEnd::Interrupted => {
                let error = Some("interrupted; run again to go on".to_owned());
                let blank = self.report(slot, StageOutcome::Skipped);
                self.finish(slot, StageReport { error, ..blank });
                self.feed(Input::Ended(slot, End::Interrupted));
            }
            StageEnd::Detached(job) => {
                self.has_detached = true;
                let blank = self.report(slot, StageOutcome::Detached);
                self.finish(slot, StageReport { error: Some(job), ..blank });
                self.feed(Input::Ended(slot, End::Detached));
            }
            StageEnd::Failed { error, log } => {
                self.finish_failed(slot, error, log);
                self.feed(Input::Ended(slot, End::Failed));
            }
        }
    }

    /// A source changed under us: the planner is asked again, a few times.
    fn changed(&mut self, slot: Slot, what: &str) {
        let stage = &mut self.stages[slot];
        stage.asked_again += 1;
        if stage.asked_again > MOST_QUESTIONS {
            let error = format!("{what} changes all the time; run again when nothing writes to it");
            self.finish_failed(slot, error, None);
            return self.feed(Input::Ended(slot, End::Failed));
        }
        self.context.planner.sources().forget(stage.index);
        self.feed(Input::Again(slot));
    }
}
