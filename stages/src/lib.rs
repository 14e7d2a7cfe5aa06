//! The training stages of Kiln on burn.
//!
//! Purpose: the library behind the worker `kiln-stages`. `stages` has one file a kind; they are made
//! of `data` (text), `model` and `kernels` (the decoder), `train` and `rl` (learning),
//! `generate`, `gold`, `rank` and `evaluate`; `dialogue` makes rows of prompts and answers. `context` is what a running stage is given, `bundle` a
//! model's folder, `adapter` that of one whose parameters are frozen, `import` somebody else's, `export` one for other programs, `device` the machine, `converse` a chat, `compare` what a model computes for other implementations, `rng` every draw.
//! Invariant: imports run one way: `kiln_formats`, rng, kernels, data <- model <- generate, train <- rl <-
//! stages; of the runner only `kiln::protocol` is seen.
//! Must not know: pipelines, stores, plans.

pub mod adapter;
pub mod bundle;
pub mod compare;
pub mod context;
pub mod converse;
pub mod data;
pub mod device;
pub mod dialogue;
pub mod evaluate;
pub mod export;
pub mod generate;
pub mod gold;
pub mod import;
pub mod inspect;
pub mod kernels;
pub mod model;
pub mod rank;
pub mod rl;
pub mod rng;
pub mod stages;
#[cfg(test)]
mod testing;
pub mod train;
