//! The life of one stage: `life` reads from its lock to its commit, `outputs` takes what it has made.

mod life;
mod outputs;

pub use life::{Emit, StageRun, run_stage};
