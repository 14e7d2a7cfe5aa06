//! What the dispatcher hears.
//!
//! Purpose: the words in which threads tell of what happened to a stage.
//! Invariant: of each job that was begun it is told once that it ended.
//! Must not know: who tells, what the dispatcher does about it.

use super::job::Job;
use super::stage::StageEnd;
use crate::plan::StageIx;
use crate::sched::StageEvent;

/// What the dispatcher hears.
#[derive(Debug)]
pub enum Message {
    /// A stage says something.
    Said(StageIx, StageEvent),
    /// A stage's process ended; the machine is free while its outputs are kept.
    Freed(StageIx),
    /// A stage's process ended, and another stage from the deck was begun with what it had.
    Succeeded {
        /// The one that ended.
        ended: StageIx,
        /// The one that was begun.
        begun: StageIx,
    },
    /// The work on a stage ended.
    Ended(Box<Job>, StageEnd),
    /// The user or the system asks to stop.
    Signal,
}
