//! The command line arguments.
//!
//! `commands` has the commands and their own options, `shared` the options that several commands have.

mod commands;
mod shared;

pub use commands::*;
pub use shared::*;
