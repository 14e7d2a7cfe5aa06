//! Runs of the `kiln` binary as a black box: commands, crashes, providers.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod crashes;
mod helpers;
mod hostile;
mod providers;
mod results;
mod scheduling;
mod staleness;
