//! The arithmetic of reward modelling and PPO.
//!
//! Purpose: scorers (reward and value models), the pairwise loss, advantages, PPO's losses, KL
//! estimates, the fixed and the adaptive KL coefficient.
//! Invariant: every formula stands in its file, with its paper, and has a fixture computed by hand.
//! Must not know: tokenizers, the loop that uses it; of files only `scorer` knows.

pub mod advantage;
pub mod health;
pub mod kl;
pub mod loss;
pub mod pairs;
pub mod rollout;
pub mod scorer;
pub mod update;

#[cfg(test)]
mod tests;
