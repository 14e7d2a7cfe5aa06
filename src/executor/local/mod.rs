//! Stages on this machine, each in a process of its own.
//!
//! The way through: [`Local::prepare`] makes the execution folder (`command`, `provider`, `download`, `environment`) ->
//! `start` has the spawner start it -> `poll` (`watch`) reads its events and waits for its end.

mod command;
mod download;
mod environment;
mod events;
mod lines;
mod provider;
mod watch;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::attempt::{AttemptError, Executor, Exit, Made, Request, Stop};
use super::log::Masks;
use super::machine::Claim;
use super::sandbox::{Method, Strict};
use super::shared::SharedInputs;
use super::supervise::Spawner;
use super::supervise::launch::Launch;
use crate::cas::How;
use crate::cas::types::ArtifactRef;
use crate::spec::types::{Sandbox, Work};
pub(crate) use events::{EventReader, Sink};
pub(crate) use lines::Lines;
use watch::Started;

/// How long descendants may outlive the leader when a stage does not say.
const LINGER: std::time::Duration = std::time::Duration::from_secs(30);

/// The executor of this machine.
#[derive(Debug, Default)]
pub struct Local {
    spawner: Mutex<Option<Spawner>>,
    /// How strict sandboxes are made here, once it is known.
    method: OnceLock<Method>,
    /// Held for reading while files are written that a stage may execute, and for writing while this process forks: until
    /// it executes its program, a child has all open files too, and the kernel executes no file that anybody has open
    /// for writing ("Text file busy").
    writing: RwLock<()>,
}

/// An attempt that can start.
#[derive(Debug)]
pub struct Prepared {
    launch: Launch,
    stdin: Option<File>,
    /// Whether stdout is for events.
    events: bool,
    /// Replaces the values of secrets in the log.
    pub masks: Masks,
    made: Made,
    claim: Claim,
}

impl Executor for Local {
    type Prepared = Prepared;
    type Handle = Started;

    fn prepare(&self, request: &Request<'_>) -> Result<Prepared, AttemptError> {
        let scratch = request.scratch;
        let io = |what| move |source| AttemptError::Io { what, source };
        // Before anything is written, so that no copy has to be waited for.
        self.with_spawner(|_| Ok(())).map_err(io("start a process"))?;
        let writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        if scratch.root().exists() {
            scratch.reset().map_err(io("clear the scratch folder"))?;
        }
        let stage = request.stage();
        let inputs = request.job.inputs.keys().any(|name| !stage.places.contains_key(name));
        request.context.spares.make(scratch, inputs).map_err(io("make the execution folder"))?;
        let claim = request.context.machine.claim(request.permit);
        let how = match &stage.work {
            Work::Command { sandbox, .. } if *sandbox != Sandbox::Off => How::Copies,
            _ => How::Links,
        };
        let shared = SharedInputs::look(request.context, request.job, how);
        let mut prepared = match &stage.work {
            Work::Command { .. } => command::prepare(request, &claim)?,
            Work::Kind { .. } => provider::prepare(request, &claim)?,
            Work::Download(download) => download::prepare(request, download)?,
        };
        drop(writing);
        prepared.made.shared = Arc::new(shared);
        prepared.launch.cores.clone_from(&claim.cores);
        let linger = request.stage().linger.unwrap_or(LINGER).as_millis();
        prepared.launch.linger_ms = u64::try_from(linger).unwrap_or(u64::MAX);
        prepared.claim = claim;
        if let Some(confinement) = &mut prepared.launch.confinement {
            confinement.method = self.method(&confinement.strict)?;
        }
        Ok(prepared)
    }

    fn start(&self, request: &Request<'_>, prepared: Prepared) -> Result<(Started, Made), AttemptError> {
        let Prepared { launch, stdin, events, masks, made, claim } = prepared;
        let io = |what| move |source| AttemptError::Io { what, source };
        let log = request.log.file();
        let piped = |wanted: bool| -> std::io::Result<(Option<_>, OwnedFd)> {
            if !wanted {
                return Ok((None, log.try_clone()?.into()));
            }
            let (reader, writer) = std::io::pipe()?;
            let reader = OwnedFd::from(reader);
            rustix::io::ioctl_fionbio(&reader, true)?;
            Ok((Some(tokio::net::unix::pipe::Receiver::from_owned_fd(reader)?), writer.into()))
        };
        let pipes = || Ok((piped(events || !masks.is_empty())?, piped(!masks.is_empty())?));
        let ((stdout, out), (stderr, err)) = pipes().map_err(io("make a pipe"))?;
        let stdin = stdin.as_ref().map(AsFd::as_fd);
        let spawn = |spawner: &Spawner| {
            spawner.spawn(&launch, stdin, [out.as_fd(), err.as_fd()], request.lock.as_fd())
        };
        let process = self.with_spawner(spawn).map_err(io("start a process"))?;
        Ok((Started::new(process, [stdout, stderr], events, claim), made))
    }

    async fn poll(&self, request: &Request<'_>, handle: &mut Started) -> Result<Exit, AttemptError> {
        handle.wait(request).await
    }

    fn cancel(&self, handle: &Started, how: Stop) {
        match how {
            Stop::Ask => handle.process().stop(),
            Stop::Kill => handle.process().kill(),
        }
    }

    fn adopt(&self, _request: &Request<'_>) -> Option<(Started, Made)> {
        // An attempt on this machine ends with its runner.
        None
    }
}

impl Local {
    /// Uses the spawner, which is started when it is first needed, and again when somebody has killed it.
    fn with_spawner<T>(&self, work: impl Fn(&Spawner) -> io::Result<T>) -> io::Result<T> {
        let mut known = self.spawner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spawner) = &*known
            && let Ok(done) = work(spawner)
        {
            return Ok(done);
        }
        let _forking = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        work(known.insert(Spawner::start()?))
    }

    /// How strict sandboxes are made here; tried out once.
    fn method(&self, strict: &Strict) -> Result<Method, AttemptError> {
        match self.method.get() {
            Some(method) => Ok(*method),
            None => {
                let _forking = self.writing.write().unwrap_or_else(PoisonError::into_inner);
                let method = strict.prepare()?;
                Ok(*self.method.get_or_init(|| method))
            }
        }
    }
}

/// A file to be read from its start.
fn readable(path: PathBuf, bytes: &[u8]) -> std::io::Result<File> {
    fs::write(&path, bytes)?;
    OpenOptions::new().read(true).open(path)
}

/// The outputs of a stage by name, at these paths.
fn made(outputs: BTreeMap<String, PathBuf>, inputs: Vec<(PathBuf, ArtifactRef)>) -> Made {
    Made { outputs, inputs: Arc::new(inputs), shared: Arc::default() }
}
