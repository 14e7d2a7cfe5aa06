//! Keeps what stages made.
//!
//! Purpose: one thread that has the store keep the outputs and actions of all stages that wait for
//! it, together, so that they share their syncs.
//! Invariant: a stage has ended only when its outputs are kept; the folders that it worked in go only after,
//! and its lock last.
//! Must not know: how a stage was run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::job::Job;
use super::message::Message;
use super::stage::{Keeping, StageEnd, failed, tidy};
use super::types::Say;
use super::workshop::Workshop;
use super::{fence, out};
use crate::spec::types::Work;
use crate::cas::{Committed, StoreError};

/// How many stages are kept together at most.
pub const MOST: usize = 64;
/// How long a stage waits for others to be kept with, while there is other work to be done.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the keeper is to keep.
#[derive(Default)]
pub struct ToKeep {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    made: Vec<(Box<Job>, Box<Keeping>)>,
    hurry: bool,
    over: bool,
}

impl ToKeep {
    /// Adds what a stage made.
    pub fn put(&self, job: Box<Job>, keeping: Box<Keeping>) {
        let mut state = self.lock();
        state.made.push((job, keeping));
        // Waking a thread for nothing costs more than all else here.
        if state.hurry || matches!(state.made.len(), 1 | MOST) {
            self.changed.notify_one();
        }
    }

    /// Says whether something may be waiting for what is to be kept.
    pub fn hurry(&self, hurry: bool) {
        if hurry != std::mem::replace(&mut self.lock().hurry, hurry) && hurry {
            self.changed.notify_one();
        }
    }

    /// Says that nothing more will come.
    pub fn close(&self) {
        self.lock().over = true;
        self.changed.notify_one();
    }

    /// Waits for something, and for more of it as long as nobody is held up; nothing at the end.
    fn take(&self) -> Vec<(Box<Job>, Box<Keeping>)> {
        let nothing = |state: &mut Waiting| state.made.is_empty() && !state.over;
        let few = |state: &mut Waiting| state.made.len() < MOST && !state.hurry && !state.over;
        let state = self.changed.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, PATIENCE, few);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let most = state.made.len().min(MOST);
        state.made.drain(..most).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what comes until there will be no more, and tells the dispatcher.
pub fn keep(shop: &Workshop<'_>, tell: &SyncSender<Message>, to_keep: &ToKeep) {
    loop {
        let mut batch = to_keep.take();
        if batch.is_empty() {
            return;
        }
        let entries = batch.iter_mut().map(|(_, keeping)| std::mem::take(&mut keeping.entry)).collect();
        let puts = unless_it_panics(|| shop.store.commit(entries)).unwrap_or_default();
        let kept_ones = batch.iter().zip(&puts).filter(|(_, put)| matches!(put, Ok(Some(_))));
        let _ = unless_it_panics(|| remember(shop, kept_ones.map(|((job, _), _)| &**job)));
        let mut puts = puts.into_iter();
        for (job, keeping) in batch {
            let put = puts.next();
            let end = unless_it_panics(|| end(shop, &job, keeping, put, tell));
            if tell.send(Message::Ended(job, end.unwrap_or_else(StageEnd::panicked))).is_err() {
                return;
            }
        }
        // Bit by bit, so that little is left for the end of the run.
        let _ = unless_it_panics(|| shop.store.settle());
    }
}

/// A stage must end whatever happens here: the run waits for it.
fn unless_it_panics<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn end(
    shop: &Workshop<'_>,
    job: &Job,
    keeping: Box<Keeping>,
    put: Option<Result<Option<Committed>, StoreError>>,
    tell: &SyncSender<Message>,
) -> StageEnd {
    let say = |say| drop(tell.send(Message::Said(job.stage, say)));
    match put {
        Some(Ok(put)) => kept(shop, job, keeping, put, &say),
        put => not_kept(shop, job, &keeping.scratch, put.and_then(Result::err)),
    }
}

/// Remembers what these stages were made of, all at once.
fn remember<'a>(shop: &'a Workshop<'_>, jobs: impl Iterator<Item = &'a Job>) {
    let stages: Vec<_> = jobs.map(|job| (shop.graph.stage(job.stage).name.value.as_str(), job.key)).collect();
    if let Err(e) = shop.run.remember(&stages) {
        tracing::warn!("what stages were made of is not remembered: {e}");
    }
}

/// Where the store has an action with other outputs, that one stands.
fn kept(
    shop: &Workshop<'_>,
    job: &Job,
    keeping: Box<Keeping>,
    put: Option<Committed>,
    say: &dyn Fn(Say),
) -> StageEnd {
    let Keeping { mut outputs, summary, scratch, lock, .. } = *keeping;
    let kept = put.is_some();
    if let Some(Committed::Conflict { previous: known, .. }) = put {
        let differ = |name: &&String| known.outputs.get(*name) != outputs.get(*name);
        let names: Vec<_> = outputs.keys().filter(differ).map(|name| format!("`{name}`")).collect();
        let message = format!(
            "{} came out with other bytes than in run {}; the stage is not deterministic, and the \
             earlier result stands",
            names.join(", "),
            known.provenance.run
        );
        say(Say::Note { message });
        outputs = known.outputs;
    }
    put_away(shop, job, &scratch);
    shop.show(job.stage, &outputs);
    if matches!(shop.graph.stage(job.stage).work, Work::Kind { .. }) {
        tidy(&shop.store.work(&job.key), "", true);
    }
    drop(lock);
    StageEnd::Made { outputs, summary, kept }
}

fn not_kept(shop: &Workshop<'_>, job: &Job, scratch: &Path, error: Option<StoreError>) -> StageEnd {
    // With this gone there is nothing to be searched for.
    let _ = fence::remove(scratch);
    tidy(&shop.store.work(&job.key), "", false);
    let log = shop.run.log_path(&shop.graph.stage(job.stage).name.value);
    error.map_or_else(StageEnd::panicked, |error| failed(&log, error.to_string()))
}

/// Puts a folder that a stage needs no more to use, or removes it.
fn put_away(shop: &Workshop<'_>, job: &Job, scratch: &Path) {
    let (pipeline, stage) = (&shop.graph.pipeline().name, &shop.graph.stage(job.stage).name.value);
    if !out::adopt(shop.store, pipeline, stage, scratch)
        && let Err(e) = fence::remove(scratch)
    {
        tracing::warn!(folder = %scratch.display(), "scratch files were not removed: {e}");
    }
}
