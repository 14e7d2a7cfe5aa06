//! The one planner: DAG + actions -> Cached | Run(reasons) | Maybe.
//!
//! `plan`, `status`, `why`, `run` and the report ask [`Planner::decide`] and can never disagree.

pub mod types;
