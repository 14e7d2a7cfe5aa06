//! Tests of whole pipeline files.

mod commands;
mod errors;
mod executors;
mod files;
mod numbers;
mod providers;
