//! What every training stage shares: gradients, optimizer, schedule, checkpoints, token losses.
//!
//! Purpose: the parts of a training step.
//! Invariant: a step's result depends on its number, the seed and the state alone.
//! Must not know: which stage it serves.

pub mod adamw;
pub mod checkpoint;
pub mod corpus;
pub mod grads;
pub mod lm;
pub mod origin;
pub mod run;
pub mod schedule;
pub mod state_file;

pub use adamw::{AdamW, AdamWParams};
pub use checkpoint::Checkpoints;
pub use grads::Grads;
pub use lm::{TokenRow, lm_grads, lm_loss};
pub use schedule::{Decay, Schedule};

#[cfg(test)]
mod tests;
