//! Keeps what stages made.
//!
//! Purpose: one thread that has the store keep the outputs and actions of all stages that wait for
//! it, together, so that they share their syncs.
//! Invariant: a stage has ended only when its outputs are kept; its checkpoint folder goes only after,
//! and its lock last.
//! Must not know: how a stage was run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::job::Job;
use super::pool::Message;
use super::stage::{Keeping, StageEnd, Workshop, failed, tidy};
use super::types::Say;
use crate::spec::types::Work;
use crate::store::{Put, StoreError};

/// How many stages are kept together at most.
pub const MOST: usize = 64;
/// How long a stage waits for others to be kept with, while there is other work to be done.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the keeper hears.
pub enum Order {
    /// Keep what this stage made.
    Keep(Box<Job>, Box<Keeping>),
    /// Whether something may be waiting for what is to be kept.
    Hurry(bool),
}

/// Keeps what comes until nobody can send any more, and tells the dispatcher.
pub fn keep(shop: &Workshop<'_>, tell: &SyncSender<Message>, orders: &Receiver<Order>) {
    let mut hurry = true;
    loop {
        let mut batch = gather(orders, &mut hurry);
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
    put: Option<Result<Option<Put>, StoreError>>,
    tell: &SyncSender<Message>,
) -> StageEnd {
    let say = |say| drop(tell.send(Message::Said(job.stage, say)));
    match put {
        Some(Ok(put)) => kept(shop, job, keeping, put, &say),
        put => not_kept(shop, job, put.and_then(Result::err)),
    }
}

/// Waits for something to keep, and for more of it as long as nobody is held up; nothing at the end.
fn gather(orders: &Receiver<Order>, hurry: &mut bool) -> Vec<(Box<Job>, Box<Keeping>)> {
    let (mut batch, mut until) = (Vec::new(), None);
    while batch.len() < MOST {
        let order = match until {
            None => orders.recv().ok(),
            Some(_) if *hurry => orders.try_recv().ok(),
            Some(until) => {
                orders.recv_timeout(Instant::saturating_duration_since(&until, Instant::now())).ok()
            }
        };
        match order {
            Some(Order::Keep(job, keeping)) => {
                batch.push((job, keeping));
                until.get_or_insert_with(|| Instant::now() + PATIENCE);
            }
            Some(Order::Hurry(now)) => *hurry = now,
            None => break,
        }
    }
    batch
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
    put: Option<Put>,
    say: &dyn Fn(Say),
) -> StageEnd {
    let Keeping { mut outputs, summary, lock, .. } = *keeping;
    let kept = put.is_some();
    if let Some(Put::Differs(known)) = put {
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
    shop.show(job.stage, &outputs);
    if matches!(shop.graph.stage(job.stage).work, Work::Kind { .. }) {
        tidy(&shop.store.work(&job.key), "", true);
    }
    drop(lock);
    StageEnd::Made { outputs, summary, kept }
}

fn not_kept(shop: &Workshop<'_>, job: &Job, error: Option<StoreError>) -> StageEnd {
    tidy(&shop.store.work(&job.key), "", false);
    let log = shop.run.log_path(&shop.graph.stage(job.stage).name.value);
    error.map_or_else(StageEnd::panicked, |error| failed(&log, error.to_string()))
}
