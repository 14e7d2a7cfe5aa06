//! The threads that run stages.
//!
//! Purpose: as many threads as stages are at work at once, each of which takes a task, does it and tells the
//! dispatcher.
//! Invariant: a thread lives as long as the run does, for the processes it starts die with it; what
//! happens on it reaches the dispatcher, even a panic. A job is begun only with what the dispatcher lent
//! it, or with what a job of the same need that has just ended leaves to it.
//! Must not know: how the order of jobs comes about.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};

use super::job::Job;
use super::keeper::{ToKeep, keep};
use super::message::Message;
use super::stage::{Finished, StageEnd, Step, execute, take_in};
use super::workshop::Workshop;
use crate::plan::StageIx;

/// The threads of a run.
pub struct Pool<'scope, 'env> {
    hand: Hand<'scope, 'env>,
    /// How many jobs were begun and have not ended.
    busy: usize,
}

impl<'scope, 'env> Pool<'scope, 'env> {
    /// No thread yet but the one that keeps what is made; they tell their dispatcher through `tell`.
    pub fn new(
        scope: &'scope Scope<'scope, 'env>,
        shop: &'env Workshop<'env>,
        tell: SyncSender<Message>,
    ) -> Self {
        let hand = Hand { scope, shop, tell, queue: Arc::default(), to_keep: Arc::default() };
        let (told, to_keep) = (hand.tell.clone(), Arc::clone(&hand.to_keep));
        scope.spawn(move || keep(shop, &told, &to_keep));
        Self { hand, busy: 0 }
    }

    /// Runs a job.
    ///
    /// # Errors
    /// There is no thread for it, and the machine gives us no more.
    pub fn run(&mut self, job: Box<Job>) -> Result<(), (Box<Job>, io::Error)> {
        match self.hand.have_done(Task::Run(job)) {
            Err((Task::Run(job), error)) => return Err((job, error)),
            _ => self.busy += 1,
        }
        Ok(())
    }

    /// Lays jobs on the deck: the first is begun when one of the same need ends, then the next.
    /// (So the time between two short stages is not spent on waking the dispatcher and another thread.)
    pub fn deck(&self, jobs: VecDeque<Job>) {
        self.hand.queue.lock().deck = jobs;
    }

    /// Takes back the jobs that lie on the deck.
    pub fn recall(&self) -> VecDeque<Job> {
        std::mem::take(&mut self.hand.queue.lock().deck)
    }

    /// Says whether something may wait for the outputs that are to be kept.
    pub fn hurry(&self, hurry: bool) {
        self.hand.to_keep.hurry(hurry);
    }

    /// A thread told that it began a job from the deck.
    pub fn began(&mut self) {
        self.busy += 1;
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
        self.hand.queue.close();
        self.hand.to_keep.close();
    }
}

/// Something that a thread can do.
enum Task {
    /// Run a job.
    Run(Box<Job>),
    /// Take in what one made.
    TakeIn(Box<Job>, Box<Finished>),
}

/// Tasks that wait for a thread, and threads that wait for a task; each task wakes one.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    deck: VecDeque<Job>,
    idle: usize,
    over: bool,
}

impl Queue {
    /// Adds a task, if there is a thread for it or one `comes`.
    fn push(&self, task: Task, comes: impl FnOnce() -> io::Result<()>) -> Result<(), (Task, io::Error)> {
        let mut state = self.lock();
        if state.idle <= state.tasks.len()
            && let Err(error) = comes()
        {
            return Err((task, error));
        }
        state.tasks.push_back(task);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a task; none when there will be no more.
    fn take(&self) -> Option<Task> {
        let mut state = self.lock();
        state.idle += 1;
        let mut state = self
            .changed
            .wait_while(state, |state| state.tasks.is_empty() && !state.over)
            .unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state.tasks.pop_front()
    }

    fn close(&self) {
        let mut state = self.lock();
        state.over = true;
        state.deck.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that runs stages.
#[derive(Clone)]
struct Hand<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    shop: &'env Workshop<'env>,
    tell: SyncSender<Message>,
    queue: Arc<Queue>,
    to_keep: Arc<ToKeep>,
}

impl Hand<'_, '_> {
    /// Has a task done by a thread that is free, or by a new one. Gives it back when there is none.
    fn have_done(&self, task: Task) -> Result<(), (Task, io::Error)> {
        self.queue.push(task, || {
            let hand = self.clone();
            Builder::new().spawn_scoped(self.scope, move || hand.work()).map(drop)
        })
    }

    fn work(self) {
        while let Some(task) = self.queue.take() {
            self.perform(task);
        }
    }

    fn perform(&self, task: Task) {
        match task {
            Task::Run(job) => self.run(job),
            Task::TakeIn(job, finished) => self.take_in(job, *finished),
        }
    }

    /// Runs a job, and what succeeds it. What each made is taken in while the next one's process runs: where
    /// it is little, by this thread, so that no other need be woken.
    fn run(&self, mut job: Box<Job>) {
        let before = Cell::new(None);
        loop {
            let say = |say| self.tell(Message::Said(job.stage, say));
            let begun = || self.leave_to(job.stage, before.take(), true);
            let step = catch_unwind(AssertUnwindSafe(|| execute(self.shop, &job, &say, &begun)));
            // If it came to no process.
            begun();
            let finished = match step.unwrap_or_else(|_| Step::Ended(StageEnd::panicked())) {
                Step::Finished(finished) => finished,
                Step::Ended(end) => return self.tell(Message::Ended(job, end)),
            };
            let Some(next) = self.successor(&job) else {
                self.tell(Message::Freed(job.stage));
                return self.take_in(job, *finished);
            };
            let little = finished.is_little(&job, self.shop.graph);
            before.set(Some((std::mem::replace(&mut job, next), finished)));
            if !little {
                self.leave_to(job.stage, before.take(), false);
            }
        }
    }

    /// Has taken in what was made by the one before, which left what it had to the stage that was begun.
    fn leave_to(&self, begun: StageIx, before: Option<(Box<Job>, Box<Finished>)>, little: bool) {
        let Some((job, finished)) = before else { return };
        self.tell(Message::Succeeded { ended: job.stage, begun });
        if little {
            return self.take_in(job, *finished);
        }
        if let Err((task, _)) = self.have_done(Task::TakeIn(job, finished)) {
            // No thread to be had: then one after the other.
            self.perform(task);
        }
    }

    /// The next job on the deck, if it can do with what this one had.
    fn successor(&self, job: &Job) -> Option<Box<Job>> {
        let need = |job: &Job| self.shop.graph.stage(job.stage).resources;
        let fits = |next: &mut Job| need(next) == need(job) && !self.shop.control.stopping();
        let next = self.queue.lock().deck.pop_front_if(fits)?;
        Some(Box::new(Job { grant: job.grant.clone(), ..next }))
    }

    fn take_in(&self, job: Box<Job>, finished: Finished) {
        let say = |say| self.tell(Message::Said(job.stage, say));
        match catch_unwind(AssertUnwindSafe(|| take_in(self.shop, &job, finished, &say))) {
            Ok(Ok(keeping)) => self.to_keep.put(job, keeping),
            Ok(Err(end)) => self.tell(Message::Ended(job, end)),
            Err(_) => self.tell(Message::Ended(job, StageEnd::panicked())),
        }
    }

    fn tell(&self, message: Message) {
        // When nobody listens, the run is over.
        let _ = self.tell.send(message);
    }
}
