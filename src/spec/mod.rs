//! The pipeline file: YAML -> typed pipeline with spans, all errors in one pass.
//!
//! The way through: `document` (YAML -> a tree with spans; what the environment and the caller change in it)
//! -> `load` (the sections of the file) -> `stage` (one stage) with `params` (against the kind's JSON Schema)
//! -> [`types`].

mod catalog;
pub mod code;
pub mod command;
pub mod diagnostic;
pub(crate) mod document;
mod download;
pub mod endings;
pub mod executors;
pub(crate) mod fields;
mod load;
mod params;
pub mod remotes;
pub mod schema;
mod source;
mod stage;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod types;
mod units;

pub use code::Code;
pub use diagnostic::{Diagnostic, Diagnostics};
pub(crate) use load::load_text;
pub use load::{LoadOptions, Loaded, Providers, Unresolved, load};
