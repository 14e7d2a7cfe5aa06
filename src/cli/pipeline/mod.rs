//! The commands that read, compare or run a pipeline.

pub mod graph;
pub mod lock;
mod params;
pub mod plan;
pub mod run;
pub mod status;
pub mod why;
