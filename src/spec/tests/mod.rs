//! Tests of whole pipeline files.

mod commands;
mod files;
mod numbers;
mod providers;
