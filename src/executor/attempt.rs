//! One attempt at a stage.
//!
//! Purpose: what an executor does for a stage (the trait), and the verdict on how an attempt went.
//! Invariant: an attempt writes only below the scratch folder of its key and to its log.
//! Must not know: whether there will be another attempt, how outputs are committed.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::context::RunContext;
use super::job::Job;
use super::log::Log;
use super::scratch::Scratch;
use super::shared::SharedInputs;
use super::supervise::launch::{Leader, Leftover};
use crate::cas::StoreError;
use crate::cas::types::ArtifactRef;
use crate::plan::PlanError;
use crate::protocol::EXIT_INTERRUPTED;
use crate::sched::StageEvent;
use crate::sched::budget::Permit;
use crate::spec::command::{self, CommandError};
use crate::spec::types::{Run, Sandbox, Stage, Work};
use crate::state::KeyLock;

/// The exit code of a program whose loader did not find a library.
const LIBRARY_MISSING: i32 = 127;

/// Where attempts run.
pub trait Executor: Send + Sync {
    /// An attempt that can start.
    type Prepared: Send;
    /// An attempt that has started.
    type Handle: Send;

    /// Makes everything ready that an attempt needs. Blocks on the disk.
    ///
    /// # Errors
    /// An input is missing or has changed, a command cannot be filled in, or the disk refuses.
    fn prepare(&self, request: &Request<'_>) -> Result<Self::Prepared, AttemptError>;

    /// Starts it.
    ///
    /// # Errors
    /// The machine is out of something.
    fn start(
        &self,
        request: &Request<'_>,
        prepared: Self::Prepared,
    ) -> Result<(Self::Handle, Made), AttemptError>;

    /// Waits until it has ended, and passes on its events meanwhile. Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// It can no longer be watched.
    fn poll(
        &self,
        request: &Request<'_>,
        handle: &mut Self::Handle,
    ) -> impl Future<Output = Result<Exit, AttemptError>> + Send;

    /// Asks it to stop, or kills it.
    fn cancel(&self, handle: &Self::Handle, how: Stop);

    /// An attempt for the same key that an earlier runner has started and that goes on without it.
    fn adopt(&self, request: &Request<'_>) -> Option<(Self::Handle, Made)>;
}

/// How an attempt is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It may write a checkpoint first.
    Ask,
    /// At once.
    Kill,
}

/// What an attempt is given.
pub struct Request<'a> {
    /// The run.
    pub context: &'a RunContext,
    /// The stage to run.
    pub job: &'a Job,
    /// The scratch folder of its key.
    pub scratch: &'a Scratch,
    /// Its log.
    pub log: &'a Log,
    /// The lock of its key.
    pub lock: &'a KeyLock,
    /// What it has acquired of the machine.
    pub permit: &'a Permit,
    /// Receives its events.
    pub emit: &'a (dyn Fn(StageEvent) + Sync),
}

impl<'a> Request<'a> {
    /// The stage as the pipeline says.
    pub fn stage(&self) -> &'a Stage {
        self.context.graph.stage(self.job.stage)
    }
}

/// Where an attempt has made its outputs.
#[derive(Debug, Clone)]
pub struct Made {
    /// The paths of its outputs by name.
    pub outputs: BTreeMap<String, PathBuf>,
    /// The paths of its inputs that lie in the execution folder.
    pub inputs: Arc<Vec<(PathBuf, ArtifactRef)>>,
    /// When the blobs of its inputs were last written that it shares with the store.
    pub shared: Arc<SharedInputs>,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Exit {
    /// How the leader ended; none when the supervisor was killed.
    pub leader: Option<Leader>,
    /// Whether a stop had been asked for before it ended.
    pub asked: bool,
    /// Whether it was out of time.
    pub timed_out: bool,
    /// Descendants that did not end by themselves.
    pub left: Vec<Leftover>,
    /// What a provider said when it failed.
    pub error: Option<String>,
    /// What a provider said when it was done.
    pub done: Option<Vec<(String, f64)>>,
}

/// Why an attempt cannot begin or be watched.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// An input of a stage is not intact.
    #[error("input `{input}` is missing or damaged in the store")]
    InputMissing {
        /// The input.
        input: String,
    },
    /// A source or a file under `uses` is not what the key says.
    #[error("{what} changed after the plan was made; run again")]
    Changed {
        /// What.
        what: String,
    },
    /// A source cannot be found or read.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The command cannot be filled in.
    #[error("cannot fill in `run`: {0}")]
    Command(#[from] CommandError),
    /// A secret is not set.
    #[error(transparent)]
    Environment(#[from] crate::provider::environment::EnvironmentError),
    /// The strict sandbox cannot be had.
    #[error("`sandbox: strict` cannot be had here: {0}")]
    Sandbox(#[from] super::sandbox::SandboxError),
    /// No provider is known for the kind; a bug of the caller.
    #[error("the provider of kind `{0}` was not found when the pipeline was read; run again")]
    NoProvider(String),
    /// The machine refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the machine said.
        source: io::Error,
    },
}

/// What is to be made of an attempt that has ended.
#[derive(Debug)]
pub enum Verdict {
    /// Its outputs are complete.
    Succeeded {
        /// The numbers that matter.
        summary: Vec<(String, f64)>,
    },
    /// It was stopped on request.
    Interrupted,
    /// It failed.
    Failed(String),
}

/// Judges an attempt. An exit of a command counts as a success only if no stop had been asked for while
/// it was alive: whether its outputs are complete then, a command cannot say. A provider says `done`.
pub fn judge(request: &Request<'_>, exit: Exit, made: &Made) -> Verdict {
    let has_events = request.stage().has_events();
    let stopping = request.context.cancellation.is_stopping();
    let done = exit.done.clone().filter(|_| exit.error.is_none());
    let good = match (&exit.leader, exit.timed_out) {
        (Some(Leader::Exit(0)), false) if has_events => done.is_some(),
        (Some(Leader::Exit(0)), false) => !exit.asked,
        _ => false,
    };
    if good && exit.left.is_empty() {
        return match missing_outputs(has_events, made) {
            Some(complaint) => Verdict::Failed(complaint),
            None => Verdict::Succeeded { summary: done.unwrap_or_default() },
        };
    }
    let said_so = has_events && exit.leader == Some(Leader::Exit(EXIT_INTERRUPTED));
    if !exit.timed_out && (said_so || (exit.asked && stopping)) {
        return Verdict::Interrupted;
    }
    Verdict::Failed(complaint(request, &exit))
}

fn missing_outputs(has_events: bool, made: &Made) -> Option<String> {
    let missing: Vec<_> = made
        .outputs
        .iter()
        .filter(|(_, path)| path.symlink_metadata().is_err())
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let hint = if has_events {
        "this is a bug of the provider"
    } else {
        "a command makes each output at the path that `{outputs.NAME}` stands for, or at its `path:`"
    };
    (!missing.is_empty()).then(|| format!("it succeeded but did not create {}; {hint}", missing.join(", ")))
}

fn complaint(request: &Request<'_>, exit: &Exit) -> String {
    let stage = request.stage();
    let how = match &exit.leader {
        _ if exit.timed_out => {
            let limit = stage.timeout.unwrap_or_default().as_secs_f64();
            format!("not done within its `timeout` of {limit} s")
        }
        None => "its supervisor was killed, and the stage with it (out of memory?)".to_owned(),
        Some(Leader::NotStarted { message, missing }) => not_started(stage, message, *missing),
        Some(Leader::Signal(9)) => "killed by signal 9 (out of memory?)".to_owned(),
        Some(Leader::Signal(signal)) => format!("killed by signal {signal}"),
        Some(Leader::Exit(0)) if !exit.left.is_empty() => leftovers(&exit.left),
        Some(Leader::Exit(0)) if exit.error.is_some() => String::new(),
        Some(Leader::Exit(0)) => "it ended with exit code 0 but never said that it was done".to_owned(),
        Some(Leader::Exit(code)) => exit_code(request, *code),
    };
    match &exit.error {
        Some(error) if how.is_empty() => error.clone(),
        Some(error) => format!("{error} ({how})"),
        None => how,
    }
}

fn not_started(stage: &Stage, message: &str, missing: bool) -> String {
    let program = match &stage.work {
        Work::Command { run: Run::Exec(words), .. } => words.first().cloned().unwrap_or_default(),
        Work::Command { shell, .. } => shell.first().cloned().unwrap_or_default(),
        Work::Kind { kind, .. } => format!("the provider of kind {kind}"),
        Work::Download(_) => "kiln".to_owned(),
    };
    let hint = if missing { "; is it on PATH, or a file under `uses`?" } else { "" };
    format!("cannot start `{program}`: {message}{hint}")
}

fn leftovers(left: &[Leftover]) -> String {
    let one = |left: &Leftover| match left.signal {
        Some(signal) => format!("`{}` (process {}) died by signal {signal}", left.name, left.pid),
        None => format!("`{}` (process {}) was still running and was killed", left.name, left.pid),
    };
    let all: Vec<_> = left.iter().take(3).map(one).collect();
    let more = if left.len() > 3 { format!(", and {} more", left.len() - 3) } else { String::new() };
    let advice = match left.iter().all(|left| left.signal.is_some()) {
        true => "wait for them (`wait`) to see what they print",
        false => "wait for them (`wait`), or give them longer with `linger`",
    };
    format!(
        "processes that it left in the background did not end by themselves: {}{more}; {advice}",
        all.join(", ")
    )
}

fn exit_code(request: &Request<'_>, code: i32) -> String {
    let stage = request.stage();
    let Work::Command { run, shell, uses, cwd, sandbox } = &stage.work else {
        let hint = if code == LIBRARY_MISSING { " (a library that it needs is missing)" } else { "" };
        return format!("exit code {code}{hint}");
    };
    let mut text = format!("exit code {code}");
    if let Some(hint) = command::explain_exit(code, run, shell) {
        text = format!("{text}: {hint}");
    }
    if *sandbox == Sandbox::Off {
        return text;
    }
    let places = stage.places.values().map(|place| place.value.clone());
    let declared: Vec<_> = uses.iter().map(|used| used.value.clone()).chain(places).collect();
    let (root, cwd) = (&request.context.graph.pipeline().root, cwd.as_ref().map(|cwd| cwd.value.as_str()));
    let undeclared = command::undeclared_files(run, root, cwd, &declared);
    if !undeclared.is_empty() {
        text = format!(
            "{text}; it names {} of the project, which the stage does not declare and so does not see: add \
             `uses: [{}]`",
            undeclared.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", "),
            undeclared.join(", ")
        );
    }
    text
}
