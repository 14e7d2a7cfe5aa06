//! The processes of stages, each under a small supervisor of its own.
//!
//! The way through: the runner asks [`Spawner`] for a [`Process`] -> a supervisor that is free gets the request
//! (`request`), else the spawner, one small single-threaded process a run, forks one (`supervisor`) -> the
//! supervisor starts the leader, adopts its descendants and reports when all have ended (`launch`).
//! [`descendants`] finds processes.

pub mod descendants;
pub mod launch;

mod request;
mod spawner;
mod supervisor;

pub use spawner::{Process, SPAWNER, Spawner, serve};
