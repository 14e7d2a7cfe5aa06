//! Stages that are done and must be done again.
//!
//! Purpose: the way back: outputs that prove missing are made again, and where they come out as other ones, what was done
//! with the old ones is done again.
//! Invariant: a stage is revived once; nothing that was made from outdated inputs stays done.
//! Must not know: why outputs are missing, what is in them.

use super::scheduler::Scheduler;
use super::types::{Command, End, Life, Slot};

impl Scheduler {
    /// The producer makes its outputs again, once; whatever has not begun waits for it.
    pub(super) fn input_missing(&mut self, consumer: Slot, producer: Slot) {
        self.leave_work(consumer);
        (self.stages[consumer].life, self.stages[consumer].outdated) = (Life::Pending, false);
        if self.has_outputs(producer) {
            if self.stages[producer].revived {
                self.out.push(Command::FailMissing(consumer, producer));
                return self.finish(consumer, End::Failed);
            }
            self.revive(producer);
        }
        self.stages[consumer].waits_for = self.missing_dependencies(consumer);
        self.make_ready(consumer);
    }

    /// A stage that had outputs has other ones now: what was done with the old ones is done again.
    pub(super) fn outputs_changed(&mut self, slot: Slot) {
        for below in self.stages[slot].wanted.dependents.clone() {
            match self.stages[below].life {
                Life::Done(End::Cached | End::Fetched | End::Ran) => self.undo(below),
                Life::Running(_) | Life::Committing | Life::Fetching => self.stages[below].outdated = true,
                _ => {}
            }
        }
    }

    fn revive(&mut self, producer: Slot) {
        self.stages[producer].revived = true;
        self.undo(producer);
    }

    /// A stage that was done is to be done again; whatever has not begun waits for it.
    fn undo(&mut self, slot: Slot) {
        self.done -= 1;
        for below in self.stages[slot].wanted.dependents.clone() {
            match self.stages[below].life {
                Life::Done(_) => continue,
                Life::Ready(_) => {
                    let place = self.place(below);
                    self.undecided.remove(&place);
                    self.decided.remove(&place);
                    self.held.remove(&below);
                    self.stages[below].life = Life::Pending;
                }
                _ => {}
            }
            self.stages[below].waits_for += 1;
        }
        self.wait_again(slot);
    }

    pub(super) fn wait_again(&mut self, slot: Slot) {
        self.stages[slot].life = Life::Pending;
        self.stages[slot].waits_for = self.missing_dependencies(slot);
        self.make_ready(slot);
    }
}
