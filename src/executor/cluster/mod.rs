//! Stages as jobs of a cluster.
//!
//! The way through: the runner writes a [`request`] with its inputs into the store or a remote, an [`intent`] that names
//! the job, and submits it ([`engine`]) -> [`node`] is the job: it runs the one stage as any runner does, and says how far
//! it is ([`outbox`]) and how it ended ([`end`]) by [`mail`] -> the runner looks at all jobs at once ([`watch`]) and takes
//! the result over. What a stage does while its job runs is in `executor::stage::away`.

pub mod checkpoint;
pub mod end;
pub mod engine;
mod here;
pub mod intent;
pub mod mail;
pub mod node;
pub mod outbox;
mod ray;
pub mod request;
mod sbatch;
pub mod script;
mod sending;
mod settle;
pub mod site;
mod slurm;
pub mod watch;

pub use settle::settle;
pub use site::{Placement, Site};
