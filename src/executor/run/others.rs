//! What is done while somebody else decides: a user who is asked about jobs, a runner that holds a lock.
//!
//! Invariant: nothing here blocks the driver; each ends in a message to it.
//! Must not know: what becomes of a stage.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use super::driver::Driver;
use super::message::{Answer, Message};
use crate::digest::Digest;
use crate::executor::orphans;
use crate::sched::Event;
use crate::sched::types::{Input, Life, Slot};

/// How often a stage that another runner is at is looked at again.
const HELD_FOR: Duration = Duration::from_millis(100);
/// How often a lease in a remote is asked for again.
const HELD_ELSEWHERE_FOR: Duration = Duration::from_secs(2);

impl Driver {
    /// Whether a stage runs as a job.
    pub(super) fn is_away(&self, slot: Slot) -> bool {
        self.placement.of.get(slot).is_some_and(Option::is_some)
    }

    /// How many stages have jobs now.
    fn jobs(&self) -> usize {
        let has_job =
            |slot: &Slot| self.is_away(*slot) && matches!(self.scheduler.life(*slot), Life::Running(_));
        (0..self.stages.len()).filter(has_job).count()
    }

    /// Asks on a terminal what becomes of the jobs when the run is to stop. A second signal lets them go on.
    pub(super) fn asks(&mut self) -> bool {
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let jobs = self.jobs();
        if jobs == 0 || !terminal || self.context.cancellation.is_stopping() || self.asking {
            return false;
        }
        self.asking = true;
        self.emit(Event::Asking { jobs });
        let sender = self.sender.clone();
        // Nothing waits for this thread: it may read for as long as the process lives.
        std::thread::spawn(move || {
            let mut line = String::new();
            let answer = std::io::stdin().read_line(&mut line).map_or(Answer::Leave, |_| Answer::of(&line));
            let _ = sender.send(Message::Answer(answer));
        });
        true
    }

    /// Does as the user has answered, unless a second signal was the answer.
    pub(super) fn answered(&mut self, answer: Answer) {
        self.asking = false;
        if self.context.cancellation.is_stopping() {
            return;
        }
        match answer {
            Answer::Follow => {}
            Answer::Unclear => _ = self.asks(),
            Answer::Cancel => {
                self.sites.iter().for_each(|site| site.cancel());
                self.stops();
            }
            Answer::Leave => self.stops(),
        }
    }

    /// Has the run stop; the second time, at once.
    pub(super) fn stops(&mut self) {
        let kill = self.context.cancellation.is_stopping();
        let jobs = self.jobs();
        self.feed(Input::Interrupt);
        let running = self.scheduler.at_work().saturating_sub(jobs);
        let cancels = self.sites.iter().any(|site| site.cancels());
        self.emit(Event::Stopping { running, jobs, cancels, kill });
    }

    /// Looks now and then whether the other runner has let go.
    pub(super) fn wait_for_holder(&self, slot: Slot, lock: Digest) {
        let (context, sender) = (Arc::clone(&self.context), self.sender.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(HELD_FOR).await;
                match context.store.holder(&lock) {
                    Ok(Some(holder)) if !orphans::is_dead(&holder) => {}
                    _ => break,
                }
            }
            let _ = sender.send(Message::HolderGone(slot));
        });
    }

    /// Asks for the lease of a stage again after a while.
    pub(super) fn wait_for_lease(&self, slot: Slot) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HELD_ELSEWHERE_FOR).await;
            let _ = sender.send(Message::HolderGone(slot));
        });
    }
}
