//! The life of one stage: `life` reads from its lock to its commit, `watch` waits for its attempts,
//! `outputs` takes what it has made, `elsewhere` is about others who may do its work, and `reserve` has room for outputs
//! when the disk is full.

mod elsewhere;
mod life;
mod outputs;
pub mod reserve;
mod watch;

pub use elsewhere::take_over;
pub use life::{Emit, StageRun, run_stage};
