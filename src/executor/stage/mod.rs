//! The life of one stage: `life` reads from its lock to its commit, `watch` waits for its attempts,
//! `outputs` takes what it has made, `away` has a job of a cluster do its work, `elsewhere` is about others who may do its work, and `reserve` has room for outputs
//! when the disk is full.

mod away;
mod elsewhere;
mod life;
mod outputs;
pub mod reserve;
mod watch;

pub use away::run_as_job;
pub use elsewhere::take_over;
pub use life::{Emit, StageRun, run_stage};
