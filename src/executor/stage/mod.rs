//! The life of one stage: `life` reads from its lock to its commit, `watch` waits for its attempts,
//! `outputs` takes what it has made, and `reserve` has room for that when the disk is full.

mod life;
mod outputs;
pub mod reserve;
mod watch;

pub use life::{Emit, StageRun, run_stage};
