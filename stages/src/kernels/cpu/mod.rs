//! The operations of a decoder on the memory of the host, each with its gradient.
//!
//! Purpose: plain functions on slices of f32, one file an operation; `simd` compiles each for the vector
//! instructions at hand. Matrices are row-major.
//! Invariant: a function adds in an order that its shapes alone decide, so the same slices give the same bytes, on however
//! many threads; all but `panels` and `forms` run on the thread that calls them. Gradients of parameters are added to what is there.
//! Must not know: models, tensors of any library.

#[macro_use]
pub mod simd;

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod forms;
pub mod linear;
pub mod logprobs;
pub mod memory;
pub mod muon;
pub mod norm;
pub mod panels;
pub mod rope;

pub use activation::Activation;
