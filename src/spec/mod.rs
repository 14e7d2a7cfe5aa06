//! The pipeline file: YAML -> typed pipeline with positions, all errors in one pass.
//!
//! The way through: `node` (YAML tree with positions) -> `overrides` and `environment` (what the
//! caller changes) -> `load` (sections) -> `stage`, `params`, `command` (one stage) -> [`types`].

pub mod diagnostic;
pub mod load;
pub mod types;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use load::{Damage, LoadOptions, Loaded, Providers, load};
