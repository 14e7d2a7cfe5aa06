//! The arithmetic of reward modelling and PPO.
//!
//! Purpose: reward and value models, the pairwise loss, advantages, PPO's losses, KL
//! estimates, the fixed and the adaptive KL coefficient.
//! Invariant: every formula stands in its file, with its paper, and has a fixture computed by hand.
//! Must not know: tokenizers, files, the loop that uses it.

pub mod advantage;
pub mod health;
pub mod kl;
pub mod losses;
pub mod metrics;
pub mod pairs;
pub mod reward_model;
pub mod rollout;
pub mod update;

pub use reward_model::RewardModel;

#[cfg(test)]
mod tests;
