//! Tests of whole pipeline files.

mod commands;
mod errors;
mod files;
mod numbers;
mod providers;
