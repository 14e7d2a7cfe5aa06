//! A decoder in burn's operations, on any device, with the gradients of its autodiff.
//!
//! Purpose: what computes on a GPU, and the reference that the kernels of the CPU are held to.
//! Invariant: every operation is burn's own or a fused form of it (`kernels`); padding on either side changes nothing.
//! Must not know: losses, optimizers, files.

mod cache;
mod decoder;
mod layers;

pub use cache::Cache;
pub use decoder::{Decoder, Parameters, Rows, Tape};
