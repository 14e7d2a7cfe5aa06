//! One decoder for the GPT-2 and LLaMA families.
//!
//! Purpose: what a model is (`config`, `presets`), how it computes (`decoder`, `layers`, `cache`),
//! and how it is kept on disk (`io`).
//! Invariant: a model folder is complete: shape, weights, tokenizer.
//! Must not know: how models are trained or what they are asked.

pub mod cache;
pub mod config;
pub mod decoder;
pub mod io;
pub mod layers;
pub mod presets;

pub use cache::Cache;
pub use config::{Family, ModelConfig, ModelParams};
pub use decoder::{Decoder, Rows};

#[cfg(test)]
mod tests;
