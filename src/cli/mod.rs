//! The command line: parse, one call a command, exit codes.
//!
//! `args` says what can be typed, `context` finds the pipeline, the store and the providers,
//! `printer` is the one way to stdout, and each command has a file of its name (`generate` and
//! `chat` share `converse`).

pub mod args;
pub mod context;
pub mod error;
pub mod main;
pub mod printer;

mod converse;
mod doctor;
mod graph;
mod init;
mod log;
mod metrics;
mod plan;
mod run;
mod schema;
mod show;
mod status;
mod why;

pub use error::{CliError, Exit};
