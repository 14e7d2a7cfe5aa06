//! What carries stages out: the run, the life of a stage, attempts, processes.
//!
//! The way through: [`run`] -> `driver` (owns the state, asks the scheduler) -> `stage` (lock, look up,
//! attempts, collect, commit) -> `attempt` (the trait of executors, and the verdict) -> [`local`] (execution
//! folder, process) -> `supervise` (spawner and supervisors). `outputs` collects, `commit` commits.

pub mod cgroup;
pub mod conversation;
pub mod local;
pub mod sandbox;
pub mod supervise;

mod attempt;
mod cancel;
mod commit;
mod context;
mod driver;
mod events;
mod job;
mod lines;
mod log;
mod machine;
mod orphans;
mod outputs;
mod paths;
mod preflight;
#[allow(clippy::module_inception)]
mod run;
mod scratch;
mod signals;
mod stage;
mod sweep;

pub use run::{Options, RunError, Wanted, run};

/// Does work that blocks on the blocking pool; a panic goes on here.
async fn blocking<T: Send + Sync + 'static, R: Send + 'static>(
    of: &std::sync::Arc<T>,
    work: impl FnOnce(&T) -> R + Send + 'static,
) -> R {
    let of = std::sync::Arc::clone(of);
    match tokio::task::spawn_blocking(move || work(&of)).await {
        Ok(done) => done,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
