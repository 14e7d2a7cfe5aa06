//! The threads that run stages.
//!
//! Purpose: as many threads as stages are at work at once, each of which takes a job, runs it and tells the
//! dispatcher.
//! Invariant: a thread lives as long as the run does, for the processes it starts die with it; what
//! happens on it reaches the dispatcher, even a panic.
//! Must not know: which job comes next.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SendError, Sender, SyncSender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use super::job::Job;
use super::keeper::{Order, keep};
use super::stage::{Keeping, StageEnd, Step, Workshop, execute};
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
    queue: Arc<Queue>,
    keeper: Sender<Order>,
    /// What the keeper was last told.
    hurry: bool,
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
        let (keeper, made) = channel();
        let told = tell.clone();
        scope.spawn(move || keep(shop, &told, &made));
        Self { scope, shop, tell, queue: Arc::default(), keeper, hurry: true, busy: 0 }
    }

    /// Runs a job on a thread that is free, or on a new one.
    pub fn run(&mut self, job: Job) {
        self.busy += 1;
        if self.queue.push(job) {
            return;
        }
        let hand = Hand {
            shop: self.shop,
            tell: self.tell.clone(),
            queue: Arc::clone(&self.queue),
            keeper: self.keeper.clone(),
        };
        self.scope.spawn(move || hand.work());
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

impl Drop for Pool<'_, '_> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Jobs that wait for a thread, and threads that wait for a job; each job wakes one.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    idle: usize,
    over: bool,
}

impl Queue {
    /// Adds a job; false when there is no thread for it.
    fn push(&self, job: Job) -> bool {
        let mut state = self.lock();
        state.jobs.push_back(job);
        self.changed.notify_one();
        state.idle >= state.jobs.len()
    }

    /// Waits for a job; none when there will be no more.
    fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        state.idle += 1;
        let mut state = self
            .changed
            .wait_while(state, |state| state.jobs.is_empty() && !state.over)
            .unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state.jobs.pop_front()
    }

    fn close(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that runs stages.
struct Hand<'env> {
    shop: &'env Workshop<'env>,
    tell: SyncSender<Message>,
    queue: Arc<Queue>,
    keeper: Sender<Order>,
}

impl Hand<'_> {
    fn work(self) {
        while let Some(job) = self.queue.take() {
            let say = |say| drop(self.tell.send(Message::Said(job.stage, say)));
            let free = || drop(self.tell.send(Message::Freed(job.stage)));
            let step = catch_unwind(AssertUnwindSafe(|| execute(self.shop, &job, &say, &free)));
            let told = match step.unwrap_or_else(|_| Step::Ended(StageEnd::panicked())) {
                Step::Ended(end) => self.tell.send(Message::Ended(Box::new(job), end)).is_ok(),
                Step::Keep(keeping) => self.keep(job, keeping),
            };
            if !told {
                return;
            }
        }
    }

    fn keep(&self, job: Job, keeping: Box<Keeping>) -> bool {
        match self.keeper.send(Order::Keep(Box::new(job), keeping)) {
            // The keeper is gone, which only a bug can bring about; the run must not wait for it.
            Err(SendError(Order::Keep(job, _))) => {
                self.tell.send(Message::Ended(job, StageEnd::panicked())).is_ok()
            }
            _ => true,
        }
    }
}
