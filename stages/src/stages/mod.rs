//! The stages: one file a kind, read top to bottom.
//!
//! Purpose: each file has the kind's params, its ports and its run function; `registry` lists them.
//! Invariant: a stage is a function of its params and inputs; whatever it draws is keyed.
//! Must not know: pipelines, stores, schedules of the runner.

pub mod dpo;
pub mod eval;
pub mod merge;
pub mod model;
mod names;
pub mod ppo;
pub mod pretrain;
pub mod rank;
pub mod registry;
pub mod reward;
pub mod sample;
pub mod sft;
pub mod tokenize;
pub mod tokenizer;
