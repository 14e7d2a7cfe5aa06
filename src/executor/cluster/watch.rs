//! One look at all jobs for all who wait for one.
//!
//! Purpose: ask the cluster at intervals and pass the answer to every stage that has a job there.
//! Invariant: there is one question at a time, however many jobs there are; while nothing changes, questions become rarer;
//! a cluster that does not answer is asked again, ever more rarely, and nobody takes that for an answer.
//! Must not know: stages, what a job does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::engine::{self, ClusterError, Job};
use crate::spec::executors::ExecutorSpec;

/// The time between two questions at first.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time between two questions.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest time between two questions while there are no answers.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// What is known of all jobs.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The jobs by name, as of the last answer.
    pub jobs: Arc<HashMap<String, Job>>,
    /// The number of the last question that was answered.
    pub answered: u64,
    /// The number of the last question.
    pub asked: u64,
    /// Why the last question has no answer.
    pub error: Option<ClusterError>,
}

/// Asks, for as long as it lives.
pub struct Watch {
    looks: watch::Receiver<Look>,
    wake: Arc<Notify>,
    asked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Begins to ask. Call it inside of the runtime.
    pub fn start(spec: ExecutorSpec) -> Self {
        let (sender, looks) = watch::channel(Look::default());
        let (wake, asked) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(ask(spec, sender, Arc::clone(&wake), Arc::clone(&asked)));
        Self { looks, wake, asked, task }
    }

    /// What is known, now and later.
    pub fn looks(&self) -> watch::Receiver<Look> {
        self.looks.clone()
    }

    /// Has the next question asked soon: something was submitted.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// An answer to a question that was asked after this call. `on_error` gets why there was none so far, each time.
    pub async fn fresh(&self, mut on_error: impl FnMut(&ClusterError)) -> Look {
        let wanted = self.asked.load(Ordering::SeqCst) + 1;
        let mut looks = self.looks.clone();
        self.wake();
        loop {
            let look = looks.borrow_and_update().clone();
            if look.answered >= wanted {
                return look;
            }
            if let Some(error) = look.error.as_ref().filter(|_| look.asked >= wanted) {
                on_error(error);
                if !error.is_passing() {
                    return look;
                }
            }
            if looks.changed().await.is_err() {
                return look;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(spec: ExecutorSpec, sender: watch::Sender<Look>, wake: Arc<Notify>, asked: Arc<AtomicU64>) {
    let mut pause = SHORTEST;
    // Nobody has submitted anything yet.
    wake.notified().await;
    while !sender.is_closed() {
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = engine::jobs(&spec).await;
        let mut changed = false;
        sender.send_modify(|look| {
            look.asked = number;
            match answer {
                Ok(jobs) => {
                    changed = *look.jobs != jobs;
                    (look.answered, look.error) = (number, None);
                    if changed {
                        look.jobs = Arc::new(jobs);
                    }
                    pause = if changed { SHORTEST } else { (pause * 3 / 2).min(LONGEST) };
                }
                Err(error) => {
                    look.error = Some(error);
                    pause = (pause * 2).min(LONGEST_SILENCE);
                }
            }
        });
        // However much happens, there is no more than one question in the shortest time.
        tokio::time::sleep(SHORTEST).await;
        let more = pause.saturating_sub(SHORTEST);
        if tokio::time::timeout(more, wake.notified()).await.is_ok() {
            pause = SHORTEST;
        }
    }
}
