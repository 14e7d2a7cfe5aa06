//! The pipeline file: YAML -> typed pipeline with positions, all errors in one pass.
//!
//! The way through: `yaml` (YAML -> `node`, a tree with positions) -> `environment` and `overrides` (what the
//! caller changes) -> `load` (sections) -> `stage`, `command_stage`, `params` (one stage) -> [`types`].

mod catalog;
pub mod command;
mod command_stage;
pub mod diagnostic;
mod environment;
mod fields;
mod load;
pub mod node;
mod overrides;
mod params;
pub mod schema;
mod source;
mod stage;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod types;
pub mod units;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use load::{Damage, LoadOptions, Loaded, Providers, load};
