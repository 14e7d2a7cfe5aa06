//! A whole run: `entry` starts it, `driver` owns its state and carries out what the scheduler says.
//!
//! `preflight` looks at what stages need, `paths` finds the longest ones, `signals` hears Ctrl-C, `sweep` removes
//! what dead runs have left.

mod driver;
mod entry;
mod message;
mod paths;
mod preflight;
mod signals;
mod sweep;

pub use entry::{Options, RunError, Wanted, run};
pub use preflight::preflight;
