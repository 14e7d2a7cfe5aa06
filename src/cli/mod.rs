//! The command line: parse, one call per command, exit codes.
//!
//! `args` has what can be typed, `context` finds the pipeline, the store and the providers, and `printer`
//! is the only way to stdout. Each command has a file with its name: `pipeline/` has those that read,
//! compare or run a pipeline, `results/` those that show what runs made (`generate` and `chat` share
//! `converse`), `remotes/` those that share them, `care/` those that check and clean a store, and `setup/` those that need no pipeline.

pub mod args;
pub mod context;
pub mod error;
pub mod main;
pub mod printer;

mod care;
mod cluster;
mod pipeline;
mod remotes;
mod results;
mod root;
mod setup;

pub use error::{CliError, Exit};
