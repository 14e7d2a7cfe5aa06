//! The life of one stage: `life` reads from its lock to its commit, `watch` waits for its attempts,
//! `outputs` takes what it has made.

mod life;
mod outputs;
mod watch;

pub use life::{Emit, StageRun, run_stage};
