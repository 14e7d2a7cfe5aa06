//! The life of one stage: `life` reads from its lock to its commit, `watch` waits for its attempts,
//! `outputs` takes what it has made, and `elsewhere` is about others who may do its work.

mod elsewhere;
mod life;
mod outputs;
mod watch;

pub use elsewhere::take_over;
pub use life::{Emit, StageRun, run_stage};
