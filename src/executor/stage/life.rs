//! The life of one stage, from its lock to its outputs.
//!
//! Purpose: lock, look up, attempts, collect, commit: [`run_stage`] reads top to bottom.
//! Invariant: while work is done for a key its lock is held, by the supervisor too, so that it outlives a
//! killed runner until the last process has ended. There is an action only for the inputs that its key
//! names. What could not be collected stays where it is.
//! Must not know: other stages, when a stage runs, how anything is shown.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::outputs::{self, Collected};
use super::reserve;
use super::watch::watch;
use crate::cas::remote::{FetchError, Lease, Sending};
use crate::cas::types::Action;
use crate::cas::{During, disk};
use crate::executor::attempt::{AttemptError, Executor, Made, Request, Verdict, judge};
use crate::executor::context::RunContext;
use crate::executor::job::{Job, StageEnd};
use crate::executor::local::Local;
use crate::executor::log::Log;
use crate::executor::scratch::Scratch;
use crate::executor::{blocking, orphans};
use crate::graph::Producer;
use crate::sched::StageEvent;
use crate::sched::budget::Permit;
use crate::spec::types::Stage;
use crate::state::{Holder, KeyLock, Lock};

/// The wait before the second attempt; it doubles from one to the next.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// From this size on the files of an input may share their bytes with the store.
const LARGE: u64 = 1 << 20;
/// How many lines of a log are shown.
const TAIL: usize = 20;

/// Receives the events of a stage.
pub type Emit = Arc<dyn Fn(StageEvent) + Send + Sync>;

/// A stage at work.
pub struct StageRun {
    /// The run.
    pub context: Arc<RunContext>,
    /// The stage.
    pub job: Arc<Job>,
    /// The scratch folder of its key.
    pub scratch: Scratch,
    /// What it has acquired of the machine.
    pub permit: Permit,
    /// Where its attempts run.
    pub executor: Arc<Local>,
    /// Receives its events.
    pub emit: Emit,
}

/// Why a stage ends before its outputs are committed.
#[derive(Debug)]
pub enum Early {
    /// It ends in this way.
    End(StageEnd),
    /// It fails.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Early {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// How the work on a stage begins.
pub(super) enum Beginning {
    /// Its outputs are in the store after all.
    Found(Box<Action>),
    /// An earlier run has made its outputs and could not keep them.
    Kept(KeyLock, Box<Collected>),
    /// It must run, with the lease of its action where there are leases.
    Ready(KeyLock, Option<Lease>),
}

/// Runs a stage. `process_ended` is called when it needs the machine no more.
pub async fn run_stage(run: StageRun, process_ended: impl FnOnce() + Send) -> StageEnd {
    let run = Arc::new(run);
    match run.clone().live(process_ended).await {
        Ok(end) | Err(Early::End(end)) => end,
        Err(Early::Failed(error)) => run.failure(error),
    }
}

impl StageRun {
    /// The stage as the pipeline says.
    pub fn stage(&self) -> &Stage {
        self.context.graph.stage(self.job.stage)
    }

    async fn live(self: Arc<Self>, process_ended: impl FnOnce() + Send) -> Result<StageEnd, Early> {
        // The lock is held until the outputs are committed.
        let (_lock, collected, lease) = match self.begin().await? {
            Beginning::Found(action) => return Ok(StageEnd::Found(action)),
            Beginning::Kept(lock, collected) => {
                process_ended();
                (Arc::new(lock), *collected, None)
            }
            Beginning::Ready(lock, lease) => {
                let lock = Arc::new(lock);
                let (made, finished) = self.attempts(&lock).await?;
                process_ended();
                let collected = blocking(&self, move |run| outputs::collect(run, &made, finished)).await?;
                (lock, collected, lease)
            }
        };
        self.commit(collected, lease).await
    }

    /// Takes the lock of the key, and looks what is known. A lock that only orphans of a dead runner hold is
    /// taken from them.
    async fn begin(self: &Arc<Self>) -> Result<Beginning, Early> {
        for _ in 0..3 {
            match blocking(self, Self::lock_and_look_up).await? {
                Ok(beginning) => return Ok(beginning),
                Err(holder) if orphans::is_dead(&holder) => {
                    self.note_orphans(orphans::take_over(&self.context.store, &self.job.key).await);
                }
                Err(holder) => return Err(Early::End(StageEnd::Held { holder, lock: self.job.key })),
            }
        }
        Err(Early::Failed("processes of a dead runner still hold its lock and do not end".to_owned()))
    }

    fn lock_and_look_up(&self) -> Result<Result<Beginning, Holder>, Early> {
        let lock = match self.context.store.try_lock(&self.job.key, &self.stage().name.value)? {
            Lock::Acquired(lock) => lock,
            Lock::HeldBy(holder) => return Ok(Err(holder)),
        };
        if let Some(action) = self.look_up()? {
            // A runner that was killed when it had just committed has left its scratch folder.
            if self.scratch.root().exists() {
                warn_of_scratch(&self.scratch, self.scratch.remove());
            }
            return Ok(Ok(Beginning::Found(Box::new(action))));
        }
        Ok(Ok(match outputs::kept_by_an_earlier_run(self)? {
            Some(collected) => Beginning::Kept(lock, Box::new(collected)),
            None => self.claim(lock)?,
        }))
    }

    fn note_orphans(&self, ended: usize) {
        if ended > 0 {
            let message = format!("ended {ended} process(es) that a dead runner had left behind");
            (self.emit)(StageEvent::Note { message });
        }
    }

    /// The action, if somebody committed it since it was decided that the stage must run.
    pub(super) fn look_up(&self) -> Result<Option<Action>, Early> {
        if self.job.replace {
            return Ok(None);
        }
        let Some(action) = self.context.store.action(&self.job.key)? else { return Ok(None) };
        let names = self.stage().outputs.iter().map(|port| port.name.as_str());
        let missing = self.context.store.outputs_intact(&action, names)?;
        Ok(missing.is_none().then_some(action))
    }

    /// Makes attempts until one succeeds, as often as the stage may be tried.
    async fn attempts(self: &Arc<Self>, lock: &Arc<KeyLock>) -> Result<(Made, outputs::Finished), Early> {
        let mut wait = FIRST_WAIT;
        for number in 1.. {
            let (run, lock) = (Arc::clone(self), Arc::clone(lock));
            let started = format!("{:.3}", jiff::Timestamp::now());
            let clock = std::time::Instant::now();
            let attempted = run.attempt(&lock, number).await;
            if attempted.is_err() {
                self.clear();
            }
            let error = match attempted? {
                (Verdict::Interrupted, _) => {
                    self.clear();
                    return Err(Early::End(StageEnd::Interrupted));
                }
                (Verdict::Succeeded { summary }, made) => {
                    let seconds = clock.elapsed().as_secs_f64();
                    return Ok((made, outputs::Finished { started, seconds, summary }));
                }
                (Verdict::Failed(error), _) => error,
            };
            if number > self.stage().retries {
                self.clear();
                return Err(Early::Failed(error));
            }
            (self.emit)(StageEvent::Retry { attempt: number, error, after: wait.as_secs_f64() });
            if self.context.cancellation.sleep(wait).await {
                self.clear();
                return Err(Early::End(StageEnd::Interrupted));
            }
            wait = LONGEST_WAIT.min(wait * 2);
        }
        Err(Early::End(StageEnd::Interrupted))
    }

    /// One attempt: prepare, start, watch, judge.
    async fn attempt(self: Arc<Self>, lock: &Arc<KeyLock>, number: u32) -> Result<(Verdict, Made), Early> {
        let path = self.context.run.log_path(&self.stage().name.value);
        let (run, key_lock) = (Arc::clone(&self), Arc::clone(lock));
        let opened = blocking(&self, move |this| {
            let log = Log::open(&path).during("open the log", &path)?;
            let request = run.request(&log, &key_lock);
            let resumed = this.prepare_resume();
            this.fetch_inputs()?;
            let prepared = this.executor.prepare(&request)?;
            Ok::<_, AttemptError>((log, prepared, resumed))
        });
        let (log, prepared, resumed) = opened.await.map_err(|error| self.unprepared(error))?;
        let log = log.masked(prepared.masks.clone());
        let request = self.request(&log, lock);
        (self.emit)(StageEvent::Started { key: self.job.key, attempt: number, resumed });
        let (mut handle, made) = match self.executor.adopt(&request) {
            Some(adopted) => adopted,
            None => self.executor.start(&request, prepared)?,
        };
        let exit = watch(&*self.executor, &request, &mut handle).await?;
        Ok((judge(&request, exit, &made), made))
    }

    fn request<'a>(&'a self, log: &'a Log, lock: &'a KeyLock) -> Request<'a> {
        Request {
            context: &self.context,
            job: &self.job,
            scratch: &self.scratch,
            log,
            lock,
            permit: &self.permit,
            emit: &*self.emit,
        }
    }

    /// An attempt that could not be prepared.
    fn unprepared(&self, error: AttemptError) -> Early {
        let input = match &error {
            // What was being fetched was stopped.
            AttemptError::InputMissing { .. } if self.context.cancellation.is_stopping() => {
                return Early::End(StageEnd::Interrupted);
            }
            AttemptError::InputMissing { input } => input,
            AttemptError::Changed { what } => return Early::End(StageEnd::Changed(what.clone())),
            AttemptError::Io { .. } => {
                return Early::Failed(format!("{error}, in {}", self.scratch.root().display()));
            }
            _ => return error.into(),
        };
        self.input_missing(input)
    }

    /// An input that is missing is made again, if a stage makes it.
    pub(super) fn input_missing(&self, input: &str) -> Early {
        let inputs = self.context.graph.inputs(self.job.stage);
        let producer = inputs.iter().find(|given| given.name == input).map(|given| &given.from);
        match producer {
            Some(Producer::Stage { index, .. }) => Early::End(StageEnd::InputMissing(*index)),
            _ => AttemptError::InputMissing { input: input.to_owned() }.into(),
        }
    }

    async fn commit(self: Arc<Self>, collected: Collected, lease: Option<Lease>) -> Result<StageEnd, Early> {
        let Collected { pending, outputs, made, finished } = collected;
        let kept = pending.action.is_some();
        let answer = self.context.committer.commit(pending).await;
        let answer = answer.ok_or_else(|| Early::Failed("the commit panicked (see stderr)".to_owned()))?;
        match answer {
            Ok(committed) => {
                let outputs = outputs::announce(&self, committed, outputs);
                blocking(&self, move |run| {
                    run.discard();
                    run.share(kept, lease);
                })
                .await;
                Ok(StageEnd::Ran { outputs, summary: finished.summary, kept, seconds: None })
            }
            Err(error) => {
                blocking(&self, move |run| Err(outputs::not_committed(run, &made, finished, outputs, error)))
                    .await
            }
        }
    }

    /// Sends the result to the remotes, if later runs may use it. Who waits for the lease finds it there.
    pub(super) fn share(&self, kept: bool, lease: Option<Lease>) {
        let resend = self.context.planner.was_lost_elsewhere(&self.job.key);
        // A record whose blobs were lost there gives way, too.
        let how = Sending { replace: self.job.replace || resend, resend };
        if kept && let Err(e) = self.context.uploads.send(&self.job.key, how, lease) {
            tracing::warn!("a result was not sent to the remotes: {e}");
        }
    }

    /// Brings inputs here that remotes have. What cannot be had is found missing when it is materialized.
    ///
    /// # Errors
    /// The disk here refuses: the stage that makes an input could not write it either.
    pub(super) fn fetch_inputs(&self) -> Result<(), AttemptError> {
        let made = self.context.graph.inputs(self.job.stage);
        let made = made.iter().filter(|input| matches!(input.from, Producer::Stage { .. }));
        let inputs: Vec<_> = made.filter_map(|input| self.job.inputs.get(input.name).copied()).collect();
        if self.context.store.remotes().is_none() {
            return Ok(());
        }
        match self.context.store.fetch(&inputs, &[]) {
            Err(FetchError::Store(error)) if error.is_of_disk() => return Err(error.into()),
            Err(e) if !self.context.cancellation.is_stopping() => {
                (self.emit)(StageEvent::Note { message: format!("an input could not be fetched: {e}") });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether there is a checkpoint to resume from. If so, the metrics of the attempt that left it are
    /// taken over, so that the curve of a stage is whole in its last run.
    fn prepare_resume(&self) -> bool {
        let resumed = self.scratch.has_checkpoint();
        if !self.stage().has_events() {
            return resumed;
        }
        let (marker, ours) =
            (self.scratch.metrics(), self.context.run.metrics_path(&self.stage().name.value));
        if resumed
            && let Ok(earlier) = fs::read_to_string(&marker)
            && Path::new(&earlier) != ours
            && let Err(e) = fs::copy(&earlier, &ours)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("the metrics of the attempt before were not taken over: {e}");
        }
        let _ = fs::create_dir_all(self.scratch.root());
        let _ = fs::write(&marker, ours.as_os_str().as_encoded_bytes());
        resumed
    }

    /// Removes the scratch folder of a stage that is done.
    fn discard(&self) {
        let inputs: Vec<_> = self.job.inputs.values().copied().collect();
        // Large inputs may be hard links, whose removal the store wants to know of.
        let large = inputs.iter().any(|input| input.size > LARGE);
        if !large && self.context.spares.give(&self.scratch) {
            return;
        }
        if let Err(e) = self.context.store.discard(self.scratch.root(), &inputs) {
            tracing::warn!("scratch files were not removed: {e}");
        }
    }

    /// Leaves nothing of the stage but a checkpoint.
    fn clear(&self) {
        warn_of_scratch(&self.scratch, self.scratch.clear());
        outputs::label(self);
    }

    /// A failure, with the last lines of the log. On a full disk there may be none, and the program of a stage may have
    /// said so there.
    pub(super) fn failure(&self, mut error: String) -> StageEnd {
        if reserve::is_full(self.scratch.root()) {
            error = format!("{error}; the disk is full: {}", self.scratch.root().display());
        }
        let log = self.context.run.log_path(&self.stage().name.value);
        let tail = disk::tail(&log, TAIL).unwrap_or_default();
        let log = log.exists().then_some((log, tail));
        StageEnd::Failed { error, log }
    }
}

fn warn_of_scratch(scratch: &Scratch, removed: io::Result<()>) {
    if let Err(e) = removed {
        tracing::warn!(folder = %scratch.root().display(), "scratch files were not removed: {e}");
    }
}
