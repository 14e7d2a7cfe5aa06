//! Decoders: their shape, their parameters, what they compute, their files.
//!
//! Purpose: `config` and `presets` say what a decoder looks like, `layout` where its parameters stand, `network` what it
//! answers, by `cpu` or by `device`; `batch` is what it reads, `io` a model on disk, `stored` its tensors there, `lora` low-rank adapters.
//! Invariant: both ways to compute give the same numbers within rounding.
//! Must not know: losses, optimizers, stages.

pub mod batch;
pub mod config;
pub mod cpu;
pub mod device;
pub mod io;
pub mod layout;
pub mod lora;
pub mod network;
pub mod presets;
pub mod stored;

pub use batch::{Batch, Readout, TokenRow};
pub use config::{Family, ModelConfig, ModelParams};
pub use io::ModelError;
pub use lora::LoraParams;
pub use network::{Dtype, Execution, Network};

#[cfg(test)]
mod tests;
