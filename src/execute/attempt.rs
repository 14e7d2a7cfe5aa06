//! One attempt at a stage.
//!
//! Purpose: a staging folder, the process in it, and a verdict on how it went.
//! Invariant: an attempt writes only below its own folder, the stage's checkpoint folder and its log,
//! so an orphan of an earlier one can never reach into a later one.
//! Must not know: keys, the cache, whether there will be another attempt.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::fence;
use super::job::{self, Job};
use super::listen::Ear;
use super::process::{Ending, Launch, Process};
use super::types::Say;
use super::workshop::Workshop;
use crate::plan::PlanError;
use crate::protocol::{EXIT_INTERRUPTED, StageRequest};
use crate::provider::{LIBRARY_MISSING, Provider, stage_environment};
use crate::spec::command::{fill_params, fill_paths};
use crate::spec::types::{Run, Stage, Work};
use crate::store::KeyLock;

/// The folder for mid-stage checkpoints within a stage's work folder.
pub const CHECKPOINT: &str = "checkpoint";

/// Why an attempt cannot begin or be watched.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// An input is not there.
    #[error(transparent)]
    Input(#[from] PlanError),
    /// The command cannot be filled in.
    #[error(transparent)]
    Command(#[from] crate::spec::command::CommandError),
    /// A secret is missing.
    #[error(transparent)]
    Environment(#[from] crate::provider::EnvironmentError),
    /// The program cannot be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the machine said.
        source: io::Error,
    },
    /// Nobody knows the provider; a bug of the caller.
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

/// How an attempt went.
#[derive(Debug)]
pub enum Verdict {
    /// Its outputs are there.
    Made {
        /// Its folder.
        folder: PathBuf,
        /// Where each output is in it.
        outputs: BTreeMap<String, PathBuf>,
        /// The numbers that matter.
        summary: Vec<(String, f64)>,
        /// How long the process took.
        seconds: f64,
    },
    /// It stopped because it was asked to.
    Interrupted,
    /// It failed.
    Failed(String),
}

/// An attempt that is being prepared.
struct Attempt<'a> {
    shop: &'a Workshop<'a>,
    job: &'a Job,
    stage: &'a Stage,
    folder: PathBuf,
    outputs: BTreeMap<String, PathBuf>,
    log: &'a File,
}

/// Tries once; what it made lies in the returned paths until the attempt's folder is removed. `begun` is
/// called when the process runs, or would have.
///
/// # Errors
/// The process could not be started or watched.
pub fn attempt(
    shop: &Workshop<'_>,
    job: &Job,
    lock: &KeyLock,
    log: &File,
    say: &dyn Fn(Say),
    begun: &dyn Fn(),
) -> Result<Verdict, AttemptError> {
    let io = |what| move |source| AttemptError::Io { what, source };
    let stage = shop.graph.stage(job.stage);
    let folder = fence::begin(&shop.store.work(&job.key)).map_err(io("make a staging folder"))?;
    let place = |name: &String| (name.clone(), folder.join(name));
    let outputs = stage.outputs.iter().map(|port| place(&port.name)).collect();
    let attempt = Attempt { shop, job, stage, folder, outputs, log };
    let inputs = job::lay_out(job, shop.graph, (shop.store, shop.sources), &attempt.folder.join(".inputs"))?;
    let (arguments, stdin) = attempt.call(&inputs)?;
    let events = matches!(stage.work, Work::Kind { .. });
    let launch = Launch {
        arguments: &arguments,
        folder: &shop.graph.pipeline().root,
        environment: &attempt.environment()?,
        stdin,
        events,
        log,
        cores: if events { job.grant.cpu_set() } else { None },
        lock,
        dies_with_us: !matches!(stage.work, Work::Command { run: Run::Script(_), .. }),
    };
    attempt.run(launch, say, begun)
}

impl Attempt<'_> {
    /// The arguments of the process, and its stdin.
    fn call(
        &self,
        inputs: &BTreeMap<String, PathBuf>,
    ) -> Result<(Vec<OsString>, Option<File>), AttemptError> {
        match &self.stage.work {
            Work::Command { run, .. } => {
                let run = fill_paths(&fill_params(run, &self.stage.params)?, inputs, &self.outputs)?;
                Ok((words(run), None))
            }
            Work::Kind { kind, .. } => {
                let provider = self.provider().ok_or_else(|| AttemptError::NoProvider(kind.clone()))?;
                let request = self.request(kind, inputs);
                let stdin = self
                    .written(&request)
                    .map_err(|source| AttemptError::Io { what: "write the stage's request", source })?;
                Ok((vec![provider.program.clone().into(), "run".into()], Some(stdin)))
            }
        }
    }

    fn provider(&self) -> Option<&Provider> {
        let Work::Kind { provider, .. } = &self.stage.work else { return None };
        self.shop.providers.get(self.shop.graph.pipeline().providers.get(*provider)?)
    }

    fn request(&self, kind: &str, inputs: &BTreeMap<String, PathBuf>) -> StageRequest {
        let params = self.stage.params.iter().map(|(name, at)| (name.clone(), at.value.clone()));
        StageRequest {
            kind: kind.to_owned(),
            params: serde_json::Value::Object(params.collect()),
            inputs: inputs.clone(),
            outputs: self.outputs.clone(),
            checkpoint: self.shop.store.work(&self.job.key).join(CHECKPOINT),
            threads: self.job.grant.threads,
            device: self.shop.device.to_owned(),
        }
    }

    /// The request as a file, ready to be read: no pipe to fill, and people can run it again.
    fn written(&self, request: &StageRequest) -> io::Result<File> {
        fs::create_dir_all(&request.checkpoint)?;
        let file = self.folder.join(".request.json");
        fs::write(&file, serde_json::to_vec_pretty(request)?)?;
        OpenOptions::new().read(true).open(file)
    }

    /// The stage's own, the threads (unless it sets them itself), the token.
    fn environment(&self) -> Result<Vec<(OsString, OsString)>, AttemptError> {
        let description = self.provider().map(|provider| &provider.description);
        let of_stage = stage_environment(self.stage, description, &self.shop.environment)?.variables;
        let mut all = Vec::new();
        let mut set = |name: &str, value: String| all.push((name.into(), value.into()));
        set("OMP_NUM_THREADS", self.job.grant.threads.to_string());
        if self.job.grant.shared {
            // Spinning on a core that another stage needs costs both dearly.
            set("OMP_WAIT_POLICY", "PASSIVE".into());
        } else {
            // Long enough to bridge the gap between two operations, short enough to cost little
            // where somebody else is busy on this machine: libgomp's own 300,000 took four times as
            // long as this on two cores beside two compilers.
            set("GOMP_SPINCOUNT", "2000".into());
        }
        set(fence::TOKEN, fence::token(&self.folder));
        all.extend(of_stage);
        Ok(all)
    }

    fn run(&self, launch: Launch<'_>, say: &dyn Fn(Say), begun: &dyn Fn()) -> Result<Verdict, AttemptError> {
        let program = launch.arguments.first().map(|word| word.to_string_lossy().into_owned());
        let program = program.unwrap_or_default();
        let began = Instant::now();
        let process = Process::start(launch, self.shop.control);
        begun();
        let process = process.map_err(|source| AttemptError::Start { program, source })?;
        let mut ear = Ear::new(self.log, say);
        let ending = process.wait(self.stage.timeout, |line| ear.line(line));
        let ending = ending.map_err(|source| AttemptError::Io { what: "wait for the process", source })?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(match self.complaint(ending, ear.error) {
            None => {
                let (folder, outputs) = (self.folder.clone(), self.outputs.clone());
                Verdict::Made { folder, outputs, summary: ear.summary, seconds }
            }
            Some(_) if self.was_interrupted(ending) => Verdict::Interrupted,
            Some(complaint) => Verdict::Failed(complaint),
        })
    }

    fn was_interrupted(&self, ending: Ending) -> bool {
        let said_so =
            ending == Ending::Exit(EXIT_INTERRUPTED) && matches!(self.stage.work, Work::Kind { .. });
        said_so || (self.shop.control.stopping() && ending != Ending::TimedOut)
    }

    /// What is wrong with the result, if anything is.
    fn complaint(&self, ending: Ending, error: Option<String>) -> Option<String> {
        let how = match ending {
            Ending::Exit(0) if error.is_none() => return self.missing_outputs(),
            Ending::Exit(0) => String::new(),
            Ending::Exit(127) if matches!(self.stage.work, Work::Command { run: Run::Script(_), .. }) => {
                "exit code 127 (a program was not found)".into()
            }
            Ending::Exit(127) if matches!(self.stage.work, Work::Kind { .. }) => {
                format!("exit code 127 ({LIBRARY_MISSING})")
            }
            Ending::Exit(code) => format!("exit code {code}"),
            Ending::Signal(9) => "killed by signal 9 (out of memory?)".into(),
            Ending::Signal(signal) => format!("killed by signal {signal}"),
            Ending::TimedOut => {
                let limit = self.stage.timeout.unwrap_or_default().as_secs_f64();
                format!("not done within its `timeout` of {limit} s")
            }
        };
        Some(match error {
            Some(error) if how.is_empty() => error,
            Some(error) => format!("{error} ({how})"),
            None => how,
        })
    }

    fn missing_outputs(&self) -> Option<String> {
        let missing: Vec<_> = self
            .outputs
            .iter()
            .filter(|(_, path)| fs::symlink_metadata(path).is_err())
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let hint = match self.stage.work {
            Work::Command { .. } => {
                "a command makes each output at the path that `{outputs.NAME}` stands for"
            }
            Work::Kind { .. } => "this is a bug of the provider",
        };
        (!missing.is_empty())
            .then(|| format!("it ended well but did not make {}; {hint}", missing.join(", ")))
    }
}

fn words(run: Run) -> Vec<OsString> {
    match run {
        Run::Script(script) => ["/bin/sh".into(), "-c".into(), script.into()].to_vec(),
        Run::Exec(list) => list.into_iter().map(OsString::from).collect(),
    }
}

/// Opens a stage's log to append to.
///
/// # Errors
/// The disk refuses.
pub fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
