//! Which stage goes when: a pure state machine, without clocks, threads, disks or processes.
//!
//! [`event`] has what a run tells its reporters; [`budget`] counts cores, memory and GPUs;
//! [`scheduler`] takes events and gives commands. The executor carries the commands out.

pub mod budget;
pub mod scheduler;

#[cfg(test)]
mod simulation;
