//! The words of the scheduler: the life of a stage, what happens to it, and what is to be done.
//!
//! Must not know: how the scheduler decides.

use super::budget::Permit;
use crate::spec::types::Resources;

/// The position of a stage among the wanted ones.
pub type Slot = usize;

/// A wanted stage.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The stages that it reads from.
    pub dependencies: Vec<Slot>,
    /// The stages that read from it.
    pub dependents: Vec<Slot>,
    /// What it needs of the machine.
    pub need: Resources,
    /// The cluster that it runs on, of those in [`super::budget::Capacity`]; none for this machine.
    pub site: Option<usize>,
    /// The length of the longest path from it to the end, in milliseconds.
    pub critical_path: u64,
    /// True when the plan found it cached.
    pub cached: bool,
}

/// The life of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Life {
    /// An input is not known yet.
    Pending,
    /// Its inputs are known; it waits for a decision, for room, or for another runner.
    Ready(Ready),
    /// Its outputs are on their way from a remote.
    Fetching,
    /// An attempt is under way.
    Running(Permit),
    /// Its process has ended and its outputs are being taken into the store.
    Committing,
    /// It has ended.
    Done(End),
}

/// What a stage with known inputs waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// To be asked about.
    Undecided,
    /// The planner's decision.
    Deciding,
    /// Room on the machine.
    Decided,
    /// Another runner, which is at the same action.
    Held,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its outputs were in the store.
    Cached,
    /// Its outputs came from a remote.
    Fetched,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
    /// It was stopped on request.
    Interrupted,
    /// Its job goes on without the runner.
    Detached,
    /// It was never started.
    Skipped,
}

/// Why a stage is not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A stage that it needs failed.
    Needs(Slot),
    /// Another stage failed, and the run is not to go on after a failure.
    After(Slot),
    /// The run was interrupted.
    Interrupted,
    /// So many jobs go on that there may be no further one.
    Full,
}

/// What the planner decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The outputs are in the store.
    Cached,
    /// The outputs are in a remote.
    Fetch,
    /// The stage must run.
    Run,
    /// The planner could not decide, so the stage failed.
    Failed,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The answer to [`Command::Decide`], with its epoch.
    Decided(Slot, u32, Verdict),
    /// A fetch did not succeed: the stage must run.
    FetchFailed(Slot),
    /// The process of a stage has ended well; the machine has its room back.
    ProcessEnded(Slot),
    /// The work on a stage has ended.
    Ended(Slot, End),
    /// Another runner is at the same action.
    Held(Slot),
    /// The other runner has let go.
    HolderGone(Slot),
    /// A stage that is at work again makes other outputs than before; to be said before it ends.
    OutputsChanged(Slot),
    /// An output of `producer` proves missing or damaged, so `consumer` could not begin.
    InputMissing {
        /// The stage that could not begin.
        consumer: Slot,
        /// The stage that must make its outputs again.
        producer: Slot,
    },
    /// A source of a stage changed before it could begin: the planner must be asked again.
    Again(Slot),
    /// The user or the system asks to stop; the second time, at once.
    Interrupt,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Ask the planner about a stage.
    Decide(Slot, u32),
    /// Get the outputs of a stage from a remote.
    Fetch(Slot),
    /// Run a stage.
    Start(Slot, Permit),
    /// Report a stage that is not started.
    Skip(Slot, Why),
    /// Report that a stage failed, since its producer lost its outputs a second time.
    FailMissing(Slot, Slot),
    /// Ask all running stages to stop.
    Stop,
    /// Kill all running stages.
    Kill,
    /// The run is over.
    Finish,
}
