//! The scheduler: which stage runs when.
//!
//! [`event`] holds what a run reports while it goes on and when it ends.

pub mod event;

pub use event::{Event, Reporter, RunReport, StageEvent, StageReport};
