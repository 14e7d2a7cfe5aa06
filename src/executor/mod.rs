//! What carries stages out: the run, the life of a stage, attempts, processes.
//!
//! The way through: [`run`] (owns the state, asks the scheduler) -> [`stage`] (lock, look up, attempts, collect,
//! commit) -> [`attempt`] (the trait of executors, and the verdict) -> [`local`] (execution folder, process) ->
//! [`supervise`] (spawner and supervisors), [`sandbox`], [`cgroup`]; [`download`] is the process of a source behind a URL.
//! [`commit`] commits the outputs of several stages together; [`orphans`] ends what a dead runner has left. A stage of a
//! cluster goes another way from [`stage`] on: [`cluster`].

pub mod attempt;
pub mod backlog;
pub mod cancel;
pub mod cgroup;
pub mod cluster;
pub mod commit;
pub mod context;
pub mod download;
pub mod job;
pub mod local;
pub mod log;
pub mod machine;
pub mod orphans;
pub mod run;
pub mod sandbox;
pub mod scratch;
pub mod shared;
pub mod spares;
pub mod stage;
pub mod supervise;

pub use run::{Options, RunError, Wanted, preflight, run};
pub use stage::take_over;

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
