//! Which stage goes when: a pure state machine, without clocks, threads, disks or processes.
//!
//! [`event`] has what a run reports while it goes on; [`budget`] counts cores, memory and GPUs;
//! [`scheduler`] takes events and gives commands, in the words of [`types`]; `again`
//! is the way back of stages that were done. The executor carries the commands out.

mod again;
pub mod budget;
pub mod event;
pub mod scheduler;
pub mod types;

#[cfg(test)]
mod simulation;

pub use event::{Event, Reporter, RunReport, SharedResults, StageEvent, StageReport};
