//! What is done while somebody else decides: a user who is asked about jobs, a runner that holds a lock.
//!
//! Invariant: nothing here blocks the driver; each ends in a message to it.
//! Must not know: what becomes of a stage.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use super::driver::Driver;
use super::message::Message;
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

    /// Asks on a terminal what becomes of the jobs when the run is to stop. A second signal lets them go on.
    pub(super) fn asks(&mut self) -> bool {
        let has_job =
            |slot: &Slot| self.is_away(*slot) && matches!(self.scheduler.life(*slot), Life::Running(_));
        let jobs = (0..self.stages.len()).filter(has_job).count();
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if jobs == 0 || !terminal || self.context.cancellation.is_stopping() || self.asking {
            return false;
        }
        self.asking = true;
        let jobs = if jobs == 1 { "1 stage is".to_owned() } else { format!("{jobs} stages are") };
        self.emit(Event::Asking { jobs });
        let sender = self.sender.clone();
        // Nothing waits for this thread: it may read for as long as the process lives.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line);
            let cancels = read.is_ok() && line.trim().eq_ignore_ascii_case("c");
            let _ = sender.send(Message::Answer { cancels });
        });
        true
    }

    /// Stops as the user has answered, unless a second signal was the answer.
    pub(super) fn answered(&mut self, cancels: bool) {
        if self.context.cancellation.is_stopping() {
            return;
        }
        if cancels {
            self.sites.iter().for_each(|site| site.cancel());
        }
        self.stops();
    }

    /// Has the run stop; the second time, at once.
    pub(super) fn stops(&mut self) {
        let kill = self.context.cancellation.is_stopping();
        self.feed(Input::Interrupt);
        let running = self.scheduler.at_work();
        self.emit(Event::Stopping { running, kill });
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
