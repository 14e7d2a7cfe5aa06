//! Brings what a plan says about: scheduling, processes, records.
//!
//! The way through: [`run`] -> `scheduler` (the dispatcher, which owns the state) -> `pool` (threads)
//! -> `stage` (lock, try, take in) -> `attempt` (one process) -> `process`; `keeper` keeps what was made.
//! What happens is told in the words of [`types`] to whoever listens; `record` writes it down.

pub mod out;
pub mod types;

mod attempt;
mod control;
mod conversation;
mod fence;
mod job;
mod keeper;
mod listen;
mod lockfile;
mod message;
mod pool;
mod process;
mod record;
mod resources;
#[allow(clippy::module_inception)]
mod run;
mod scheduler;
mod stage;
mod workshop;

pub use conversation::{Conversation, ConversationError, Reply};
pub use run::{Options, Wanted, run};
pub use types::{Listener, RunEvent, RunReport, Say, StageReport};
