//! The command line arguments.
//!
//! `commands` has the commands and their own options, `models` those of commands that use a model, `sharing` those of the
//! commands that share results, `shared` the options that several commands have.

mod cluster;
mod commands;
mod models;
mod shared;
mod sharing;

pub use cluster::{ExecArgs, JobsArgs};
pub use commands::*;
pub use models::*;
pub use shared::*;
pub use sharing::*;
