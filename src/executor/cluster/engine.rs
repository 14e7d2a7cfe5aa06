//! The engines of clusters: what is asked of each of them, and what they answer.
//!
//! Purpose: submit a job, look at all jobs of this user at once, cancel, and ask how a job ended, whatever the engine.
//! Invariant: this is all that the rest of Kiln knows of an engine. An error says whether to wait and to ask again is right.
//! Must not know: stages, keys, how an engine is spoken to.

use std::collections::HashMap;
use std::time::Duration;

use super::{ray, slurm};
use crate::spec::executors::{Engine, ExecutorSpec};
use crate::spec::types::Resources;

/// Why an engine gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// A command of Slurm is not on this machine.
    #[error(
        "cannot start `{0}`: {1}; is Slurm on this machine? (`kiln run --executor local` runs the stages here)"
    )]
    Missing(&'static str, String),
    /// It does not answer.
    #[error("{who} does not answer: {why}")]
    Unreachable {
        /// Who was asked.
        who: String,
        /// What came instead of an answer.
        why: String,
    },
    /// The cluster takes no more jobs of this user now.
    #[error("the cluster takes no more jobs now: {0}")]
    Full(String),
    /// It refuses.
    #[error("{who} refuses: {why}")]
    Refused {
        /// Who was asked.
        who: String,
        /// Why, in its words.
        why: String,
    },
}

impl ClusterError {
    /// Whether to wait and to try again is right.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Full(_))
    }
}

/// A job to submit.
#[derive(Debug, Clone)]
pub struct Submission<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is about, for people.
    pub comment: &'a str,
    /// What it needs.
    pub resources: Resources,
    /// Where the system's messages of the job go; a path on the node.
    pub output: &'a str,
    /// Its script.
    pub script: &'a str,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits, or will run again.
    Queued,
    /// It waits and will never run by itself.
    Held,
    /// It runs.
    Running,
    /// It has ended.
    Ended(Cause),
}

/// Why a job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its script has ended, well or not.
    Exit,
    /// It used more memory than it asked for.
    Memory,
    /// It used more time than it asked for.
    Time,
    /// Somebody cancelled it.
    Cancelled,
    /// Its node failed, or another job took its place, and the engine did not queue it again.
    Lost,
}

/// A job of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// The state as the engine calls it.
    pub state: String,
    /// Why it waits, as the engine says.
    pub reason: String,
    /// Where it runs.
    pub nodes: String,
}

impl Job {
    /// Whether it waits or runs.
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }
}

/// How the script of a job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines that it printed, where the engine keeps them.
    pub printed: Vec<String>,
}

/// Submits a job; gives its id.
///
/// # Errors
/// The engine does not answer, or refuses.
pub async fn submit(spec: &ExecutorSpec, job: &Submission<'_>) -> Result<String, ClusterError> {
    match spec.engine {
        Engine::Slurm => slurm::submit(spec, job).await,
        Engine::Ray => ray::submit(spec, job).await,
    }
}

/// All jobs of this user by name, those that have ended a while ago as well. Of several with one name, the newest.
///
/// # Errors
/// The engine does not answer.
pub async fn jobs(spec: &ExecutorSpec) -> Result<HashMap<String, Job>, ClusterError> {
    match spec.engine {
        Engine::Slurm => slurm::jobs().await,
        Engine::Ray => ray::jobs(spec).await,
    }
}

/// Cancels jobs. Those that have ended already are no error.
///
/// # Errors
/// The engine does not answer.
pub async fn cancel(spec: &ExecutorSpec, ids: &[String]) -> Result<(), ClusterError> {
    match spec.engine {
        Engine::Slurm => slurm::cancel(ids).await,
        Engine::Ray => ray::cancel(spec, ids).await,
    }
}

/// Cancels the job of a name, whose id is not known.
///
/// # Errors
/// The engine does not answer.
pub async fn cancel_named(spec: &ExecutorSpec, name: &str) -> Result<(), ClusterError> {
    match spec.engine {
        Engine::Slurm => slurm::cancel_named(name).await,
        // The id of a job is its name.
        Engine::Ray => ray::cancel(spec, &[name.to_owned()]).await,
    }
}

/// How the script of a job ended, while the engine remembers it.
pub async fn exit_of(spec: &ExecutorSpec, id: &str) -> Exit {
    match spec.engine {
        Engine::Slurm => slurm::exit_of(id).await,
        Engine::Ray => ray::exit_of(spec, id).await,
    }
}

/// How long a job of this machine that was told that its time is nearly over may still work.
pub async fn time_until_warning() -> Duration {
    // `timeout`, which tells jobs of Ray, does so in time.
    slurm::time_until_warning().await
}

/// A message in one line, without the name of the program that printed it.
pub(super) fn one_line(text: &str) -> String {
    const MOST: usize = 500;
    let lines = text.lines().map(|line| {
        let line = line.trim();
        line.split_once(": error: ").map_or(line, |(_, rest)| rest)
    });
    let joined = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    joined.chars().filter(|c| !c.is_control()).take(MOST).collect()
}
