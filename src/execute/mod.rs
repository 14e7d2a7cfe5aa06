//! Brings what a plan says about: scheduling, processes, records.
//!
//! The way through: [`run`] -> `scheduler` (the dispatcher, which owns the state) -> `pool` (threads)
//! -> `stage` (lock, try, take in) -> `attempt` (one process) -> `process`; `keeper` keeps what was made.
//! What happens is reported as [`crate::sched::Event`]s.

pub mod environment;
pub mod provider;

mod attempt;
mod control;
mod conversation;
mod fence;
mod job;
mod keeper;
mod listen;
mod message;
mod pool;
mod process;
mod resources;
#[allow(clippy::module_inception)]
mod run;
mod scheduler;
mod stage;
mod workshop;

pub use conversation::{Conversation, ConversationError, Reply};
pub use provider::{Known, Provider, ProviderError, Providers};
pub use run::{Options, Wanted, run};
