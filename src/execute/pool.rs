//! The threads that run stages.
//!
//! Purpose: as many threads as stages are at work at once, each of which takes a job, runs it and tells the
//! dispatcher.
//! Invariant: a thread lives as long as the run does, for the processes it starts die with it; what
//! happens on it reaches the dispatcher, even a panic.
//! Must not know: which job comes next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::job::Job;
use super::stage::{StageEnd, Workshop, execute};
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
    threads: usize,
    busy: usize,
}

impl<'scope, 'env> Pool<'scope, 'env> {
    /// No threads yet; they tell their dispatcher through `tell`.
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        shop: &'env Workshop<'env>,
        tell: SyncSender<Message>,
    ) -> Self {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        Self { scope, shop, tell, jobs, queue, threads: 0, busy: 0 }
    }

    /// Runs a job on a thread that is free, or on a new one.
    pub fn run(&mut self, job: Job) {
        self.busy += 1;
        if self.busy > self.threads {
            self.threads += 1;
            let (shop, tell, queue) = (self.shop, self.tell.clone(), Arc::clone(&self.queue));
            self.scope.spawn(move || work(shop, &tell, &queue));
        }
        // It fails only when every thread is gone, and then nobody waits for the job either.
        let _ = self.jobs.send(job);
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

fn work(shop: &Workshop<'_>, tell: &SyncSender<Message>, queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let say = |say| drop(tell.send(Message::Said(job.stage, say)));
        let free = || drop(tell.send(Message::Freed(job.stage)));
        let end = catch_unwind(AssertUnwindSafe(|| execute(shop, &job, &say, &free)));
        let end = end.unwrap_or_else(|_| StageEnd::Failed {
            error: "the runner has a bug: its thread panicked (see stderr)".into(),
            log: None,
        });
        if tell.send(Message::Ended(Box::new(job), end)).is_err() {
            return;
        }
    }
}
