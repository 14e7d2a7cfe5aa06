//! The scheduler: events in, commands out.
//!
//! Purpose: start each wanted stage when its inputs are known and the machine has room for it, the
//! longest path to the end first.
//! Invariant: a stage is always in one state of `Life`; every wanted stage ends, and ends once, save
//! for a stage whose outputs prove missing, which may go back to `Ready` once; the budget is never
//! exceeded; a stage that does not fit is passed over by a bounded number of others.
//! Must not know: digests, files, processes, clocks, or how anything is shown.

use std::collections::BTreeSet;

use super::budget::{Budget, Capacity};
use super::types::{Command, End, Input, Life, Ready, Slot, Verdict, Wanted, Why};

pub(super) struct Stage {
    pub(super) wanted: Wanted,
    pub(super) life: Life,
    /// How many of its dependencies have no outputs yet.
    pub(super) waits_for: usize,
    /// Counts the times that it became ready, so that an old decision is recognised.
    epoch: u32,
    /// How many others started although it stood before them.
    passed_over: u32,
    /// Whether its outputs proved missing once.
    pub(super) revived: bool,
    /// Whether an input of it became another one while it was at work.
    pub(super) outdated: bool,
}

/// The longest path first, then the order of the plan.
pub(super) type Place = (std::cmp::Reverse<u64>, Slot);

/// The state of a run.
pub struct Scheduler {
    pub(super) stages: Vec<Stage>,
    pub(super) undecided: BTreeSet<Place>,
    pub(super) decided: BTreeSet<Place>,
    pub(super) held: BTreeSet<Slot>,
    budget: Budget,
    keep_going: bool,
    /// How many stages are decided ahead of those that run.
    window: usize,
    most_passes: u32,
    deciding: usize,
    /// Stages that are fetching, running or committing.
    at_work: usize,
    pub(super) done: usize,
    failed: Option<Slot>,
    interrupts: u32,
    /// Whether jobs go on without the runner, so that not every stage that waits for room will have it.
    has_detached: bool,
    /// Whether the stages that had not begun were skipped after an interrupt.
    swept: bool,
    finished: bool,
    pub(super) out: Vec<Command>,
}

impl Scheduler {
    /// A scheduler for these stages; [`Self::start`] gives the first commands.
    pub fn new(wanted: Vec<Wanted>, capacity: Capacity, keep_going: bool) -> Self {
        let slots = capacity.cores.max(capacity.jobs.unwrap_or(0)).max(1);
        let jobs: usize = capacity.sites.iter().map(|most| *most as usize).sum();
        let stage = |wanted: Wanted| Stage {
            wanted,
            life: Life::Pending,
            waits_for: 0,
            epoch: 0,
            passed_over: 0,
            revived: false,
            outdated: false,
        };
        Self {
            stages: wanted.into_iter().map(stage).collect(),
            undecided: BTreeSet::new(),
            decided: BTreeSet::new(),
            held: BTreeSet::new(),
            budget: Budget::new(capacity),
            keep_going,
            window: 2 * slots as usize + 16 + jobs,
            most_passes: slots,
            deciding: 0,
            at_work: 0,
            done: 0,
            failed: None,
            interrupts: 0,
            has_detached: false,
            swept: false,
            finished: false,
            out: Vec::new(),
        }
    }

    /// The first commands. Stages that the plan found cached are done at once.
    pub fn start(&mut self) -> Vec<Command> {
        for slot in 0..self.stages.len() {
            if self.stages[slot].wanted.cached {
                self.stages[slot].life = Life::Done(End::Cached);
                self.done += 1;
            }
        }
        for slot in 0..self.stages.len() {
            self.stages[slot].waits_for = self.missing_dependencies(slot);
            self.make_ready(slot);
        }
        self.advance()
    }

    /// Takes what happened and says what is to be done.
    pub fn handle(&mut self, input: Input) -> Vec<Command> {
        match input {
            Input::Decided(slot, epoch, verdict) => self.decided(slot, epoch, verdict),
            Input::FetchFailed(slot) => {
                self.leave_work(slot);
                self.queue_again(slot, Ready::Decided);
            }
            Input::ProcessEnded(slot) => {
                if let Life::Running(permit) = &self.stages[slot].life {
                    self.budget.release(permit);
                    self.stages[slot].life = Life::Committing;
                }
            }
            Input::Ended(slot, end) => {
                self.has_detached |= end == End::Detached;
                match &self.stages[slot].life {
                    Life::Running(permit) if end == End::Detached => {
                        self.budget.leave(permit);
                        self.at_work -= 1;
                    }
                    _ => self.leave_work(slot),
                }
                let is_outdated = std::mem::take(&mut self.stages[slot].outdated);
                if is_outdated && matches!(end, End::Cached | End::Fetched | End::Ran) {
                    self.wait_again(slot);
                } else {
                    self.finish(slot, end);
                }
            }
            Input::Held(slot) => {
                self.leave_work(slot);
                self.queue_again(slot, Ready::Held);
            }
            Input::HolderGone(slot) => {
                if self.held.remove(&slot) && self.stages[slot].life == Life::Ready(Ready::Held) {
                    self.set_ready(slot, Ready::Decided);
                }
            }
            Input::Again(slot) => {
                self.leave_work(slot);
                (self.stages[slot].life, self.stages[slot].outdated) = (Life::Pending, false);
                self.make_ready(slot);
            }
            Input::OutputsChanged(slot) => self.outputs_changed(slot),
            Input::InputMissing { consumer, producer } => self.input_missing(consumer, producer),
            Input::Interrupt => {
                self.interrupts += 1;
                self.out.push(if self.interrupts == 1 { Command::Stop } else { Command::Kill });
            }
        }
        self.advance()
    }

    /// How many stages are at work.
    pub fn at_work(&self) -> usize {
        self.at_work
    }

    /// Whether a decision on a stage is still wanted, rather than one that was overtaken.
    pub fn awaits_decision(&self, slot: Slot, epoch: u32) -> bool {
        self.stages[slot].epoch == epoch && self.stages[slot].life == Life::Ready(Ready::Deciding)
    }

    /// The state of a stage.
    pub fn life(&self, slot: Slot) -> &Life {
        &self.stages[slot].life
    }

    pub(super) fn place(&self, slot: Slot) -> Place {
        (std::cmp::Reverse(self.stages[slot].wanted.critical_path), slot)
    }

    pub(super) fn has_outputs(&self, slot: Slot) -> bool {
        matches!(self.stages[slot].life, Life::Done(End::Cached | End::Fetched | End::Ran))
    }

    pub(super) fn missing_dependencies(&self, slot: Slot) -> usize {
        self.stages[slot].wanted.dependencies.iter().filter(|&&above| !self.has_outputs(above)).count()
    }

    /// Moves a pending stage whose inputs are all known to `Ready`.
    pub(super) fn make_ready(&mut self, slot: Slot) {
        let stage = &mut self.stages[slot];
        if stage.life == Life::Pending && stage.waits_for == 0 {
            stage.epoch += 1;
            self.set_ready(slot, Ready::Undecided);
        }
    }

    pub(super) fn set_ready(&mut self, slot: Slot, ready: Ready) {
        let place = self.place(slot);
        match ready {
            Ready::Undecided => drop(self.undecided.insert(place)),
            Ready::Decided => drop(self.decided.insert(place)),
            Ready::Held => drop(self.held.insert(slot)),
            Ready::Deciding => {}
        }
        self.stages[slot].life = Life::Ready(ready);
    }

    /// Puts a stage that was at work back, unless an input of it was lost meanwhile.
    fn queue_again(&mut self, slot: Slot, ready: Ready) {
        if std::mem::take(&mut self.stages[slot].outdated) {
            self.wait_again(slot);
        } else if self.stages[slot].waits_for == 0 {
            self.set_ready(slot, ready);
        } else {
            self.stages[slot].life = Life::Pending;
        }
    }

    fn decided(&mut self, slot: Slot, epoch: u32, verdict: Verdict) {
        self.deciding -= 1;
        if !self.awaits_decision(slot, epoch) {
            return;
        }
        match verdict {
            Verdict::Cached => self.finish(slot, End::Cached),
            Verdict::Failed => self.finish(slot, End::Failed),
            Verdict::Fetch if !self.is_ending() => {
                self.stages[slot].life = Life::Fetching;
                self.at_work += 1;
                self.out.push(Command::Fetch(slot));
            }
            Verdict::Fetch | Verdict::Run => self.set_ready(slot, Ready::Decided),
        }
    }

    /// Ends the work on a stage, and gives back what it had acquired.
    pub(super) fn leave_work(&mut self, slot: Slot) {
        match &self.stages[slot].life {
            Life::Running(permit) => self.budget.release(permit),
            Life::Committing | Life::Fetching => {}
            Life::Pending | Life::Ready(_) | Life::Done(_) => return,
        }
        self.at_work -= 1;
    }

    pub(super) fn finish(&mut self, slot: Slot, end: End) {
        self.stages[slot].life = Life::Done(end);
        self.done += 1;
        match end {
            End::Cached | End::Fetched | End::Ran => self.count_down(slot),
            End::Failed => {
                self.failed.get_or_insert(slot);
                self.skip_dependents(slot, Why::Needs(slot));
            }
            End::Interrupted | End::Detached | End::Skipped => {}
        }
    }

    fn count_down(&mut self, slot: Slot) {
        for below in self.stages[slot].wanted.dependents.clone() {
            if !matches!(self.stages[below].life, Life::Done(_)) {
                self.stages[below].waits_for -= 1;
                self.make_ready(below);
            }
        }
    }

    /// Skips everything that needs this stage and has not begun.
    fn skip_dependents(&mut self, slot: Slot, why: Why) {
        let mut below = self.stages[slot].wanted.dependents.clone();
        while let Some(slot) = below.pop() {
            if matches!(self.stages[slot].life, Life::Pending) {
                self.skip(slot, why);
                below.extend(self.stages[slot].wanted.dependents.iter());
            }
        }
    }

    fn skip(&mut self, slot: Slot, why: Why) {
        let place = self.place(slot);
        self.undecided.remove(&place);
        self.decided.remove(&place);
        self.held.remove(&slot);
        self.stages[slot].life = Life::Done(End::Skipped);
        self.done += 1;
        self.out.push(Command::Skip(slot, why));
    }

    /// Whether no other stage will be started.
    fn is_ending(&self) -> bool {
        self.interrupts > 0 || (self.failed.is_some() && !self.keep_going)
    }

    /// Gives out all commands that follow from the state.
    fn advance(&mut self) -> Vec<Command> {
        if self.interrupts > 0 {
            if !std::mem::replace(&mut self.swept, true) {
                self.skip_unstarted();
            }
            self.skip_ready();
        } else if self.is_ending() {
            // What turns out to be cached is reported even after a failure.
            self.decide(usize::MAX);
            self.skip_ready();
        } else {
            self.dispatch();
            self.decide(self.window);
        }
        let idle = self.deciding == 0 && self.at_work == 0 && (self.decided.is_empty() || self.has_detached);
        if idle && (self.held.is_empty() || self.is_ending()) {
            let waiting: Vec<_> = self.decided.iter().map(|place| place.1).collect();
            waiting.into_iter().for_each(|slot| self.skip(slot, Why::Full));
            self.skip_unstarted();
            if !std::mem::replace(&mut self.finished, true) {
                self.out.push(Command::Finish);
            }
        }
        std::mem::take(&mut self.out)
    }

    fn decide(&mut self, window: usize) {
        while self.deciding + self.decided.len() < window {
            let Some((_, slot)) = self.undecided.pop_first() else { return };
            self.stages[slot].life = Life::Ready(Ready::Deciding);
            self.deciding += 1;
            self.out.push(Command::Decide(slot, self.stages[slot].epoch));
        }
    }

    /// Starts what fits, by priority. A stage that does not fit lets a few others pass, then none.
    fn dispatch(&mut self) {
        let mut blocked: Vec<Slot> = Vec::new();
        let order: Vec<Place> = self.decided.iter().copied().collect();
        for place in order {
            if self.budget.is_spent() {
                return;
            }
            let slot = place.1;
            let wanted = &self.stages[slot].wanted;
            let permit = match wanted.site {
                Some(site) => self.budget.acquire_job(site),
                None => self.budget.acquire(wanted.need),
            };
            match permit {
                Some(permit) => {
                    self.decided.remove(&place);
                    self.stages[slot].life = Life::Running(permit.clone());
                    self.at_work += 1;
                    self.out.push(Command::Start(slot, permit));
                    if self.stages[slot].wanted.site.is_none() {
                        blocked.iter().for_each(|&slot| self.stages[slot].passed_over += 1);
                    }
                }
                // It waits for a job to end, and not for the machine.
                None if self.stages[slot].wanted.site.is_some() => {}
                None => blocked.push(slot),
            }
            if blocked.iter().any(|&slot| self.stages[slot].passed_over >= self.most_passes) {
                return;
            }
        }
    }

    fn why(&self) -> Why {
        match self.failed {
            Some(slot) if self.interrupts == 0 => Why::After(slot),
            _ => Why::Interrupted,
        }
    }

    /// Skips the stages that wait for room or for another runner, and after an interrupt those that wait
    /// for a decision.
    fn skip_ready(&mut self) {
        let why = self.why();
        let mut slots: Vec<Slot> = self.decided.iter().map(|place| place.1).collect();
        slots.extend(&self.held);
        if self.interrupts > 0 {
            slots.extend(self.undecided.iter().map(|place| place.1));
        }
        slots.into_iter().for_each(|slot| self.skip(slot, why));
    }

    /// Skips every stage that is neither at work nor done.
    fn skip_unstarted(&mut self) {
        let why = self.why();
        let waits = |stage: &Stage| matches!(stage.life, Life::Pending | Life::Ready(_));
        let slots: Vec<_> = (0..self.stages.len()).filter(|&slot| waits(&self.stages[slot])).collect();
        slots.into_iter().for_each(|slot| self.skip(slot, why));
    }
}
