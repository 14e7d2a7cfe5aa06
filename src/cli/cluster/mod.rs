//! Commands about clusters: the job itself, and the jobs of a project.

pub mod exec;
pub mod executors;
