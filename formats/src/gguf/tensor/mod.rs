//! The values of tensors as bytes.
//!
//! Purpose: the types that a file can have ([`TensorKind`]), and their values unpacked ([`decode`]) and packed ([`encode`]).
//! Invariant: values have the bits that `gguf.quants` of llama.cpp gives.
//! Must not know: files, names, shapes.

mod dequantize;
mod kind;
mod quantize;

pub(super) use dequantize::decode;
pub use kind::TensorKind;
pub(super) use quantize::encode;
