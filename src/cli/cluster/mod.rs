//! Commands about clusters: `jobs` are those of a project, `trial` tries an executor, `exec` is the job itself;
//! `executors` says which there are.

pub mod exec;
pub mod executors;
pub mod jobs;
pub mod trial;
