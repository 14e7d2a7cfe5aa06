//! The threads that run stages.
//!
//! Purpose: as many threads as stages are at work at once, each of which takes a job, runs it and tells the
//! dispatcher.
//! Invariant: a thread lives as long as the run does, for the processes it starts die with it; what
//! happens on it reaches the dispatcher, even a panic.
//! Must not know: which job comes next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::job::Job;
use super::keeper::{Order, keep};
use super::stage::{StageEnd, Step, Workshop, execute};
use super::types::Say;
use crate::plan::StageIx;

/// What the dispatcher hears.
#[derive(Debug)]
pub enum Message {
    /// A stage says something.
    Said(StageIx, Say),
    /// A stage's process ended; the machine is free while its outputs are kept.
    Freed(StageIx),
    /// The work on a stage ended.
    Ended(Box<Job>, StageEnd),
    /// The user or the system asks to stop.
    Signal,
}

/// The threads of a run.
pub struct Pool<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    shop: &'env Workshop<'env>,
    tell: SyncSender<Message>,
    jobs: Sender<Job>,
    queue: Arc<Mutex<Receiver<Job>>>,
    keeper: Sender<Order>,
    /// What the keeper was last told.
    hurry: bool,
    /// How many threads wait for a job that has not been sent.
    idle: Arc<AtomicUsize>,
    /// How many jobs have not ended.
    busy: usize,
}

impl<'scope, 'env> Pool<'scope, 'env> {
    /// No thread yet but the one that keeps what is made; they tell their dispatcher through `tell`.
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        shop: &'env Workshop<'env>,
        tell: SyncSender<Message>,
    ) -> Self {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let (keeper, made) = channel();
        let told = tell.clone();
        scope.spawn(move || keep(shop, &told, &made));
        Self { scope, shop, tell, jobs, queue, keeper, hurry: true, idle: Arc::default(), busy: 0 }
    }

    /// Runs a job on a thread that is free, or on a new one.
    pub fn run(&mut self, job: Job) {
        self.busy += 1;
        if self.idle.try_update(Relaxed, Relaxed, |idle| idle.checked_sub(1)).is_err() {
            let hand = Hand {
                shop: self.shop,
                tell: self.tell.clone(),
                queue: Arc::clone(&self.queue),
                keeper: self.keeper.clone(),
                idle: Arc::clone(&self.idle),
            };
            self.scope.spawn(move || hand.work());
        }
        // It fails only when every thread is gone, and then nobody waits for the job either.
        let _ = self.jobs.send(job);
    }

    /// Says whether something may wait for the outputs that are to be kept.
    pub fn hurry(&mut self, hurry: bool) {
        if std::mem::replace(&mut self.hurry, hurry) != hurry {
            let _ = self.keeper.send(Order::Hurry(hurry));
        }
    }

    /// A thread told that its job ended.
    pub fn ended(&mut self) {
        self.busy -= 1;
    }

    /// How many jobs are at work.
    pub fn busy(&self) -> usize {
        self.busy
    }
}

/// A thread that runs stages.
struct Hand<'env> {
    shop: &'env Workshop<'env>,
    tell: SyncSender<Message>,
    queue: Arc<Mutex<Receiver<Job>>>,
    keeper: Sender<Order>,
    idle: Arc<AtomicUsize>,
}

impl Hand<'_> {
    fn work(self) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            let say = |say| drop(self.tell.send(Message::Said(job.stage, say)));
            let free = || drop(self.tell.send(Message::Freed(job.stage)));
            let step = catch_unwind(AssertUnwindSafe(|| execute(self.shop, &job, &say, &free)));
            let told = match step.unwrap_or_else(|_| Step::Ended(StageEnd::panicked())) {
                Step::Ended(end) => self.tell.send(Message::Ended(Box::new(job), end)).is_ok(),
                Step::Keep(keeping) => self.keeper.send(Order::Keep(Box::new(job), keeping)).is_ok(),
            };
            if !told {
                return;
            }
            self.idle.fetch_add(1, Relaxed);
        }
    }
}
