//! A whole run: `entry` starts it, `driver` owns its state and carries out what the scheduler
//! says, `outcomes` reports how stages end.
//!
//! `preflight` looks at what stages need, `paths` finds the longest ones, `signals` hears Ctrl-C, `sweep` removes
//! what dead runs have left, `uploads` sends results to the remotes.

mod driver;
mod entry;
mod message;
mod others;
mod outcomes;
mod paths;
mod preflight;
mod signals;
mod sweep;
mod uploads;

pub use entry::{Options, RunError, Wanted, run};
pub use preflight::preflight;
pub use uploads::Uploads;
