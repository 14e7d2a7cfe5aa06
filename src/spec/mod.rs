//! The pipeline file: YAML -> typed pipeline with positions, all errors in one pass.

pub mod types;
