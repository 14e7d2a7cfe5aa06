//! What every training stage shares: gradients, optimizer, schedule, checkpoints, token losses.
//!
//! Purpose: the parts of a training step.
//! Invariant: a step's result depends on its number, the seed and the state alone.
//! Must not know: which stage it serves.

pub mod checkpoint;
pub mod corpus;

pub mod footprint;
pub mod lm;
pub mod meter;
pub mod optimizer;
pub mod origin;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod state;
pub mod state_file;
pub mod trainer;

pub use checkpoint::Checkpoints;
pub use lm::{add_lm_loss, lm_loss, micro_batch};
pub use optimizer::OptimizerParams;
pub use schedule::{Decay, Schedule};
pub use trainer::Trainer;

#[cfg(test)]
mod tests;
