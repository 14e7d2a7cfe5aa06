//! The files of a model.
//!
//! Purpose: `config` is the shape of a decoder, `rope` its angles; `hugging_face` (with `fields`, `scaling` and `window`) reads and
//! writes `config.json`, `safetensors` the weights; `source` is any file of weights,
//! `peft` an adapter.
//! Invariant: what is read is a shape that this code knows to the last field that changes what a model computes.
//! Must not know: what a model computes, tensors in memory.

pub mod config;
mod fields;
pub mod hugging_face;
pub mod peft;
pub mod rope;
pub mod safetensors;
mod scaling;
mod source;
mod window;

pub use config::{Activation, Biases, Family, ModelConfig, ShapeError, SlidingWindow};
pub use hugging_face::{ConfigError, Described, Head};
pub use rope::{Rope, Scaling, Yarn};
pub use source::TensorSource;

#[cfg(test)]
mod tests;
