//! The scheduler in a simulated world: random graphs, failures, interrupts, limits, other runners, jobs of clusters and
//! lost outputs, in random order.
//!
//! Invariant checked: every stage ends exactly once (one revival apart), the budget is never exceeded,
//! inputs exist before a stage starts, the run always finishes, and a stage is not passed over for ever.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::budget::{Capacity, Permit};
use super::scheduler::Scheduler;
use super::types::{Command, End, Input, Life, Slot, Verdict, Wanted, Why};
use crate::spec::types::Resources;

/// How a simulated world behaves.
struct World {
    rng: Rng,
    wanted: Vec<Wanted>,
    capacity: Capacity,
    /// Events that may come next, in any order.
    pending: Vec<Input>,
    running: BTreeMap<Slot, Permit>,
    /// How many jobs go on without the runner, by cluster.
    left: BTreeMap<usize, u32>,
    /// How each stage ended, with the number of times.
    ends: BTreeMap<Slot, Vec<End>>,
    revivals: Vec<u32>,
    /// Stages that were done and are to be done again.
    again: BTreeSet<Slot>,
    /// Stages that were at work when an input of them became another one.
    outdated: BTreeSet<Slot>,
    /// Starts of others since a stage became the first in the queue without starting.
    finished: bool,
    interrupts: u32,
    failures: f64,
}

fn graph(rng: &mut Rng) -> Vec<Wanted> {
    let n = rng.usize(1..40);
    let mut wanted = vec![Wanted::default(); n];
    for below in 1..n {
        for _ in 0..rng.usize(0..3) {
            let above = rng.usize(0..below);
            if !wanted[below].dependencies.contains(&above) {
                wanted[below].dependencies.push(above);
                wanted[above].dependents.push(below);
            }
        }
    }
    for stage in &mut wanted {
        let memory = if rng.f64() < 0.2 { rng.u64(0..200) } else { 0 };
        stage.need = Resources { cpus: rng.u32(0..4), memory, gpus: rng.u32(0..6) / 4, time: None };
        stage.critical_path = rng.u64(0..50);
    }
    for slot in 0..n {
        let above = |at: &usize| wanted[*at].cached;
        wanted[slot].cached = rng.f64() < 0.2 && wanted[slot].dependencies.iter().all(above);
    }
    wanted
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut wanted = graph(&mut rng);
        let jobs = rng.bool().then(|| rng.u32(1..6));
        let sites = (0..rng.usize(0..3)).map(|_| rng.u32(1..4)).collect::<Vec<_>>();
        for stage in wanted.iter_mut().filter(|_| !sites.is_empty()) {
            stage.site = rng.bool().then(|| rng.usize(0..sites.len()));
        }
        let capacity = Capacity { cores: rng.u32(1..5), memory: 100, gpus: rng.u32(0..3), jobs, sites };
        let n = wanted.len();
        Self {
            failures: if rng.bool() { 0.0 } else { rng.f64() * 0.3 },
            rng,
            wanted,
            capacity,
            pending: Vec::new(),
            running: BTreeMap::new(),
            left: BTreeMap::new(),
            ends: BTreeMap::new(),
            revivals: vec![0; n],
            again: BTreeSet::new(),
            outdated: BTreeSet::new(),
            finished: false,
            interrupts: 0,
        }
    }

    fn has_outputs(&self, slot: Slot) -> bool {
        let last = self.ends.get(&slot).and_then(|ends| ends.last());
        self.wanted[slot].cached && last.is_none()
            || matches!(last, Some(End::Cached | End::Fetched | End::Ran))
    }

    fn end(&mut self, slot: Slot, end: End) {
        self.ends.entry(slot).or_default().push(end);
    }

    fn carry_out(&mut self, command: Command) {
        assert!(!self.finished, "a command came after the end");
        match command {
            Command::Decide(slot, epoch) => {
                let verdict = match self.rng.u32(0..10) {
                    0..=1 => Verdict::Cached,
                    2 => Verdict::Fetch,
                    3 if self.rng.f64() < self.failures => Verdict::Failed,
                    _ => Verdict::Run,
                };
                self.pending.push(Input::Decided(slot, epoch, verdict));
            }
            Command::Fetch(slot) => {
                let failed = self.rng.bool();
                let input = if failed { Input::FetchFailed(slot) } else { Input::Ended(slot, End::Fetched) };
                self.pending.push(input);
            }
            Command::Start(slot, permit) => self.started(slot, permit),
            Command::Skip(slot, why) => {
                if let Why::Needs(above) = why {
                    assert_eq!(self.ends[&above].last(), Some(&End::Failed));
                }
                self.end(slot, End::Skipped);
            }
            Command::FailMissing(slot, producer) => {
                assert!(self.revivals[producer] == 1);
                self.end(slot, End::Failed);
            }
            Command::Stop | Command::Kill => {}
            Command::Finish => self.finished = true,
        }
    }

    fn started(&mut self, slot: Slot, permit: Permit) {
        assert_eq!(self.interrupts, 0, "a stage was started after an interrupt");
        for &above in &self.wanted[slot].dependencies.clone() {
            assert!(self.has_outputs(above), "stage {slot} was started before its input {above} was there");
        }
        assert!(self.running.insert(slot, permit).is_none(), "stage {slot} was started twice");
        self.check_budget();
        let dependencies = &self.wanted[slot].dependencies;
        let draw = self.rng.f64();
        self.pending.push(match draw {
            d if d < 0.05 => Input::Held(slot),
            d if d < 0.1 && !dependencies.is_empty() => {
                let producer = dependencies[self.rng.usize(0..dependencies.len())];
                Input::InputMissing { consumer: slot, producer }
            }
            d if d < 0.12 => Input::Again(slot),
            d if d < 0.12 + self.failures => Input::Ended(slot, End::Failed),
            d if self.wanted[slot].site.is_some() => {
                Input::Ended(slot, if d < 0.6 { End::Ran } else { End::Detached })
            }
            _ => Input::ProcessEnded(slot),
        });
    }

    fn check_budget(&self) {
        let jobs = self.capacity.jobs.unwrap_or(u32::MAX) as usize;
        let here = || self.running.iter().filter(|(slot, _)| self.wanted[**slot].site.is_none());
        assert!(here().count() <= jobs);
        let sum = |of: fn(&Permit, Resources) -> u64| -> u64 {
            here().map(|(&slot, permit)| of(permit, self.wanted[slot].need)).sum()
        };
        for (site, most) in self.capacity.sites.iter().enumerate() {
            let there = self.running.keys().filter(|slot| self.wanted[**slot].site == Some(site)).count();
            let left = self.left.get(&site).copied().unwrap_or(0);
            assert!(there as u32 + left <= *most, "{there} and {left} jobs of {most}");
        }
        assert!(sum(|permit, _| permit.gpus.into()) <= self.capacity.gpus.into());
        assert!(sum(|_, need| need.memory.min(100)) <= self.capacity.memory);
        let threads = sum(|permit, _| permit.threads.into());
        let most = u64::from(self.capacity.cores.max(self.capacity.jobs.unwrap_or(0)));
        assert!(threads <= most, "{threads} threads of {most}");
    }

    /// What the world remembers of an event before the scheduler receives it.
    fn note(&mut self, input: &Input, scheduler: &Scheduler) {
        match input {
            Input::ProcessEnded(slot) => {
                self.running.remove(slot);
                let end = if self.rng.f64() < self.failures / 4.0 { End::Failed } else { End::Ran };
                self.pending.push(Input::Ended(*slot, end));
            }
            Input::Ended(slot, end) if self.is_outdated(*slot, *end) => {
                self.running.remove(slot);
                self.again.insert(*slot);
            }
            Input::Ended(slot, end) => {
                self.running.remove(slot);
                if let (End::Detached, Some(site)) = (end, self.wanted[*slot].site) {
                    *self.left.entry(site).or_default() += 1;
                }
                self.end(*slot, *end);
            }
            Input::Again(slot) => {
                self.outdated.remove(slot);
                self.running.remove(slot);
            }
            Input::FetchFailed(slot) => drop(self.outdated.remove(slot)),
            Input::Held(slot) => {
                self.outdated.remove(slot);
                self.running.remove(slot);
                self.pending.push(Input::HolderGone(*slot));
            }
            Input::InputMissing { consumer, producer } => {
                self.running.remove(consumer);
                self.outdated.remove(consumer);
                if self.has_outputs(*producer) && self.revivals[*producer] == 0 {
                    self.revivals[*producer] = 1;
                    self.undo(*producer);
                }
            }
            Input::Interrupt => self.interrupts += 1,
            Input::Decided(slot, epoch, verdict) if scheduler.awaits_decision(*slot, *epoch) => match verdict
            {
                Verdict::Cached => self.end(*slot, End::Cached),
                Verdict::Failed => self.end(*slot, End::Failed),
                Verdict::Fetch | Verdict::Run => {}
            },
            _ => {}
        }
    }

    /// A stage that was done is to be done again.
    fn undo(&mut self, slot: Slot) {
        self.ends.entry(slot).or_default().clear();
        self.wanted[slot].cached = false;
        self.again.insert(slot);
    }

    /// Whether what a stage made is of no use. It is asked for once.
    fn is_outdated(&mut self, slot: Slot, end: End) -> bool {
        self.outdated.remove(&slot) && !matches!(end, End::Failed | End::Detached)
    }

    /// The stage makes other outputs than before.
    fn change_outputs(&mut self, slot: Slot, scheduler: &Scheduler) {
        for below in self.wanted[slot].dependents.clone() {
            if self.has_outputs(below) {
                self.undo(below);
            } else if matches!(scheduler.life(below), Life::Running(_) | Life::Committing | Life::Fetching) {
                self.outdated.insert(below);
            }
        }
    }

    /// Runs to the end.
    fn run(&mut self) {
        let keep_going = self.rng.bool();
        let mut scheduler = Scheduler::new(self.wanted.clone(), self.capacity.clone(), keep_going);
        for command in scheduler.start() {
            self.carry_out(command);
        }
        let interrupt_at = if self.rng.f64() < 0.3 { self.rng.usize(0..60) } else { usize::MAX };
        let mut steps = 0;
        while !self.finished {
            if steps == interrupt_at || (steps > interrupt_at && self.rng.f64() < 0.02) {
                self.pending.push(Input::Interrupt);
            }
            steps += 1;
            assert!(steps < 10_000, "the run does not end");
            assert!(!self.pending.is_empty(), "nothing can happen, and the run has not ended");
            let next = self.rng.usize(0..self.pending.len());
            let input = self.pending.swap_remove(next);
            if let Input::Ended(slot, End::Ran) = input
                && self.again.contains(&slot)
                && !self.outdated.contains(&slot)
                && self.rng.bool()
            {
                self.change_outputs(slot, &scheduler);
                for command in scheduler.handle(Input::OutputsChanged(slot)) {
                    self.carry_out(command);
                }
            }
            self.note(&input, &scheduler);
            for command in scheduler.handle(input) {
                self.carry_out(command);
            }
        }
        for slot in 0..self.wanted.len() {
            let ends = self.ends.get(&slot).map_or(0, Vec::len);
            let expected = usize::from(!self.wanted[slot].cached);
            assert_eq!(ends, expected, "stage {slot} ended {ends} times: {:?}", self.ends.get(&slot));
        }
        assert!(self.running.is_empty());
    }
}

fn simulate(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| World::new(seed).run());
        if let Err(panic) = std::panic::catch_unwind(run) {
            println!("the simulation of seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_stage_of_ten_thousand_random_graphs_ends_once_within_the_budget() {
    simulate(0..10_000);
}

#[test]
fn a_large_stage_is_not_starved_by_small_ones() {
    let small = Resources { cpus: 1, memory: 0, gpus: 0, time: None };
    let mut wanted = vec![Wanted { need: small, critical_path: 1, ..Wanted::default() }; 200];
    wanted[100] = Wanted { need: Resources { cpus: 2, ..small }, critical_path: 5, ..Wanted::default() };
    let capacity = Capacity { cores: 2, memory: 0, gpus: 0, jobs: None, sites: Vec::new() };
    let mut scheduler = Scheduler::new(wanted, capacity, false);
    let (mut queue, mut running, mut started) = (scheduler.start(), Vec::new(), Vec::new());
    // One of the two small stages that run always ends later than the other.
    while !queue.is_empty() || !running.is_empty() {
        for command in std::mem::take(&mut queue) {
            match command {
                // The large one is decided last.
                Command::Decide(100, epoch) => running.push(Input::Decided(100, epoch, Verdict::Run)),
                Command::Decide(slot, epoch) => running.insert(0, Input::Decided(slot, epoch, Verdict::Run)),
                Command::Start(slot, _) => {
                    started.push(slot);
                    running.push(Input::Ended(slot, End::Ran));
                }
                _ => {}
            }
        }
        if !running.is_empty() {
            queue = scheduler.handle(running.remove(0));
        }
    }
    let position = started.iter().position(|&slot| slot == 100).unwrap();
    assert!(position < 24, "the large stage was the {position}th to start");
    assert_eq!(started.len(), 200);
}
