//! One stage, from its lock to its outputs.
//!
//! Purpose: take the key's lock, see whether somebody did the work meanwhile, end orphans, try; then, when
//! the machine is free again, look at the inputs again and take in what was made.
//! Invariant: while work is done for a key its lock is held; there is an action only when the inputs
//! are still what the key says.
//! Must not know: other stages, when a stage is run, who listens, how outputs are kept.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::attempt::{AttemptError, CHECKPOINT, Verdict, attempt, open_log};
use super::fence;
use super::job::{Job, tail};
use super::types::Say;
use super::workshop::Workshop;
use crate::graph::Graph;
use crate::plan::{Changed, PlanError};
use crate::spec::types::{Stage, Work};
use crate::store::types::{ACTION_FORMAT, Action, ArtifactRef, Provenance};
use crate::store::{Entry, Holder, KeyLock, Lock, Store, StoreError};

/// The wait before the second attempt; it doubles from one to the next.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The most bytes of a file that is hashed in a fraction of a millisecond.
const LITTLE: u64 = 256 << 10;
/// The most such files that are.
const FEW: usize = 8;
/// How many lines of a log are shown.
const TAIL: usize = 20;

/// How the work on a stage ended.
#[derive(Debug)]
pub enum StageEnd {
    /// Another runner is at it.
    Held(Holder),
    /// Another runner did it meanwhile.
    Found(Box<Action>),
    /// It was done.
    Made {
        /// Its outputs.
        outputs: BTreeMap<String, ArtifactRef>,
        /// The numbers that matter.
        summary: Vec<(String, f64)>,
        /// Whether later runs may use it.
        kept: bool,
    },
    /// It was stopped and can be resumed.
    Interrupted,
    /// It failed.
    Failed {
        /// Why.
        error: String,
        /// Its log and the last lines of it, if it came so far.
        log: Option<(PathBuf, Vec<String>)>,
    },
}

impl StageEnd {
    /// For work whose thread panicked.
    pub fn panicked() -> Self {
        Self::Failed { error: "the runner has a bug: its thread panicked (see stderr)".into(), log: None }
    }
}

/// Why a stage failed on the runner's side.
#[derive(Debug, thiserror::Error)]
enum StageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    #[error("{0}")]
    Said(String),
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn during<T>(result: io::Result<T>, what: &'static str, path: &Path) -> Result<T, StageError> {
    result.map_err(|source| StageError::Io { what, path: path.to_owned(), source })
}

/// How far an executor brings a stage.
pub enum Step {
    /// It is done with.
    Ended(StageEnd),
    /// Its process ended well and needs the machine no more; its outputs must be taken in.
    Finished(Box<Finished>),
}

/// A process that ended well.
pub struct Finished {
    folder: PathBuf,
    /// Where each output is in it.
    outputs: BTreeMap<String, PathBuf>,
    provenance: Provenance,
    lock: KeyLock,
}

impl Finished {
    /// Whether the inputs of its job are looked at and its outputs taken in so quickly that it does not
    /// matter who waits for it.
    pub fn is_little(&self, job: &Job, graph: &Graph) -> bool {
        let outputs = self
            .outputs
            .values()
            .map(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() < LITTLE));
        let inputs = job.inputs.values().map(|input| !input.tree && input.size < LITTLE);
        let uses_nothing = match &graph.stage(job.stage).work {
            Work::Command { uses, .. } => uses.is_empty(),
            Work::Kind { .. } => true,
        };
        let few = self.outputs.len() + job.inputs.len() <= FEW;
        few && uses_nothing && inputs.chain(outputs).all(|little| little)
    }
}

/// What was made and must be kept.
pub struct Keeping {
    /// What the store is to keep.
    pub entry: Entry,
    /// The outputs.
    pub outputs: BTreeMap<String, ArtifactRef>,
    /// The numbers that matter.
    pub summary: Vec<(String, f64)>,
    /// The folder it worked in, where single files stay until they are kept; nothing else is in it.
    pub scratch: PathBuf,
    /// The lock of its key, which is held until it is kept.
    pub lock: KeyLock,
}

/// A stage at work.
struct AtWork<'a> {
    shop: &'a Workshop<'a>,
    job: &'a Job,
    stage: &'a Stage,
    work: PathBuf,
    log: PathBuf,
    say: &'a dyn Fn(Say),
    begun: &'a dyn Fn(),
}

/// What came of trying.
enum Tried {
    Made { folder: PathBuf, outputs: BTreeMap<String, PathBuf>, provenance: Provenance },
    Interrupted,
}

/// Brings a stage about, as far as it needs the machine. `begun` is called whenever a process was
/// started, or could not be.
pub fn execute(shop: &Workshop<'_>, job: &Job, say: &dyn Fn(Say), begun: &dyn Fn()) -> Step {
    let at_work = AtWork { begun, ..AtWork::new(shop, job, say) };
    at_work.bring_about().unwrap_or_else(|error| Step::Ended(failed(&at_work.log, error.to_string())))
}

/// Takes in what the process of a stage made.
///
/// # Errors
/// How the stage ended, when that cannot be done.
pub fn take_in(
    shop: &Workshop<'_>,
    job: &Job,
    finished: Finished,
    say: &dyn Fn(Say),
) -> Result<Box<Keeping>, StageEnd> {
    let at_work = AtWork::new(shop, job, say);
    let Finished { folder: scratch, outputs, provenance, lock } = finished;
    match at_work.gather(&outputs, provenance) {
        Ok((entry, outputs_kept, summary)) => {
            clear(&scratch, &outputs);
            Ok(Box::new(Keeping { entry, outputs: outputs_kept, summary, scratch, lock }))
        }
        Err(error) => {
            at_work.tidy();
            Err(failed(&at_work.log, error.to_string()))
        }
    }
}

/// A failure, with the last lines of the log.
pub fn failed(log: &Path, error: String) -> StageEnd {
    let tail = tail(log, TAIL).ok().filter(|lines| !lines.is_empty());
    let log = log.exists().then(|| (log.to_owned(), tail.unwrap_or_default()));
    StageEnd::Failed { error, log }
}

/// Removes all but the outputs: at once, for what is gone before the next sync is never written.
fn clear(folder: &Path, outputs: &BTreeMap<String, PathBuf>) {
    // The stage may have put a link in its place.
    if !fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir()) {
        return;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let rest = entries.map(|entry| entry.path()).filter(|path| !outputs.values().any(|kept| kept == path));
    for path in rest {
        let removed = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        if let Err(e) = removed {
            tracing::warn!(path = %path.display(), "a scratch file was not removed: {e}");
        }
    }
}

/// What the store is to keep, the outputs by name, the numbers that matter.
type Taken = (Entry, BTreeMap<String, ArtifactRef>, Vec<(String, f64)>);

impl<'a> AtWork<'a> {
    fn new(shop: &'a Workshop<'a>, job: &'a Job, say: &'a dyn Fn(Say)) -> Self {
        let stage = shop.graph.stage(job.stage);
        let log = shop.run.log_path(&stage.name.value);
        AtWork { shop, job, stage, work: shop.store.work(&job.key), log, say, begun: &|| () }
    }

    fn bring_about(&self) -> Result<Step, StageError> {
        let lock = match self.lock()? {
            Lock::Taken(lock) => lock,
            Lock::HeldBy(holder) => return Ok(Step::Ended(StageEnd::Held(holder))),
        };
        if let Some(action) = self.found()? {
            return Ok(Step::Ended(StageEnd::Found(action)));
        }
        if let Err(error) = self.fence(lock.left(), true) {
            // Its notes tell the next one of what is still running.
            lock.leave();
            return Err(error);
        }
        during(fence::sign(&lock), "write to the lock of", &self.work)?;
        match self.try_hard(&lock) {
            Ok(Tried::Made { folder, outputs, provenance }) => {
                Ok(Step::Finished(Box::new(Finished { folder, outputs, provenance, lock })))
            }
            Ok(Tried::Interrupted) => {
                self.tidy();
                Ok(Step::Ended(StageEnd::Interrupted))
            }
            Err(error) => {
                self.tidy();
                Err(error)
            }
        }
    }

    /// Leaves nothing of it but a checkpoint.
    fn tidy(&self) {
        tidy(&self.work, &self.shop.store.notes(&self.job.key), false);
    }

    /// Takes the lock; one that only orphans of a dead runner hold is taken from them.
    fn lock(&self) -> Result<Lock, StageError> {
        for _ in 0..3 {
            let lock = self.shop.store.try_lock(&self.job.key, &self.stage.name.value)?;
            if matches!(lock, Lock::Taken(_)) || !self.fence(&self.shop.store.notes(&self.job.key), false)? {
                return Ok(lock);
            }
        }
        Ok(self.shop.store.try_lock(&self.job.key, &self.stage.name.value)?)
    }

    fn fence(&self, notes: &str, holding_the_lock: bool) -> Result<bool, StageError> {
        let ended = fence::fence(&self.work, notes, holding_the_lock);
        let ended = during(ended, "end what is left in", &self.work)?;
        if ended > 0 {
            let message = format!("ended {ended} process(es) that a dead runner had left behind");
            (self.say)(Say::Note { message });
        }
        Ok(ended > 0)
    }

    /// The action, if somebody put it since it was decided that the stage must run.
    fn found(&self) -> Result<Option<Box<Action>>, StageError> {
        if self.job.forced {
            return Ok(None);
        }
        let Some(action) = self.shop.store.action(&self.job.key)? else { return Ok(None) };
        for port in &self.stage.outputs {
            match action.outputs.get(&port.name) {
                Some(artifact) if self.shop.store.is_whole(artifact)? => {}
                _ => return Ok(None),
            }
        }
        Ok(Some(Box::new(action)))
    }

    /// Tries as often as the stage may be tried.
    fn try_hard(&self, lock: &KeyLock) -> Result<Tried, StageError> {
        let log = during(open_log(&self.log), "open the log", &self.log)?;
        let mut wait = FIRST_WAIT;
        for number in 1.. {
            let (resumed, key) = (self.carry_on(), self.job.key);
            let begun = || {
                (self.say)(Say::Started { key, attempt: number, resumed });
                (self.begun)();
            };
            let started = jiff::Timestamp::now();
            let error = match attempt(self.shop, self.job, lock, &log, self.say, &begun)? {
                Verdict::Interrupted => return Ok(Tried::Interrupted),
                Verdict::Made { folder, outputs, summary, seconds } => {
                    let started = format!("{started:.3}");
                    let provenance = Provenance { started, seconds, summary, ..self.provenance() };
                    return Ok(Tried::Made { folder, outputs, provenance });
                }
                Verdict::Failed(error) => error,
            };
            if number > self.stage.retries {
                return Err(StageError::Said(error));
            }
            (self.say)(Say::Retry { attempt: number, error, after: wait.as_secs_f64() });
            if self.shop.control.sleep(wait) {
                return Ok(Tried::Interrupted);
            }
            wait = LONGEST_WAIT.min(wait * 2);
            self.fence(lock.left(), true)?;
        }
        Ok(Tried::Interrupted)
    }

    /// Gathers what the store is to keep; an action goes with it when the inputs are still what they were.
    fn gather(&self, made: &BTreeMap<String, PathBuf>, provenance: Provenance) -> Result<Taken, StageError> {
        let job = self.job;
        let changes = self.shop.sources.revalidate(job.stage, &job.inputs, &job.key_inputs)?;
        let mut lasting = true;
        for change in changes {
            let what = match change {
                Changed::Input(input) => return Err(StageError::Said(wrote_to(&input))),
                Changed::Source(name) => format!("source `{name}`"),
                Changed::Uses(path) => format!("`{path}` under `uses`"),
            };
            lasting = false;
            let message = format!("{what} changed while it ran; its result serves this run only");
            (self.say)(Say::Note { message });
        }
        let (mut entry, mut outputs) = (Entry::default(), BTreeMap::new());
        for (name, path) in made {
            let coming = self.shop.store.stage(path)?;
            outputs.insert(name.clone(), coming.artifact);
            entry.outputs.push(coming);
        }
        let summary = provenance.summary.clone();
        if lasting {
            let (key, key_inputs) = (self.job.key, self.job.key_inputs.clone());
            let format = ACTION_FORMAT.into();
            entry.action = Some(Action { format, key, key_inputs, outputs: outputs.clone(), provenance });
        }
        Ok((entry, outputs, summary))
    }

    fn provenance(&self) -> Provenance {
        let provider = match &self.stage.work {
            Work::Kind { provider, .. } => {
                let named = self.shop.graph.pipeline().providers.get(*provider);
                named.and_then(|named| self.shop.providers.get(named)).map(|provider| provider.digest)
            }
            Work::Command { .. } => None,
        };
        Provenance {
            run: self.shop.run.id().to_owned(),
            started: String::new(),
            seconds: 0.0,
            kiln: env!("CARGO_PKG_VERSION").to_owned(),
            provider,
            summary: Vec::new(),
        }
    }

    /// Whether there is a checkpoint to go on from. If so, the metrics of the attempt that left it are
    /// taken over, so that a stage's curve is whole in its last run.
    fn carry_on(&self) -> bool {
        if !matches!(self.stage.work, Work::Kind { .. }) {
            return false;
        }
        let checkpoint = self.work.join(CHECKPOINT);
        let resumed = fs::read_dir(&checkpoint).is_ok_and(|mut entries| entries.next().is_some());
        let (marker, ours) = (self.work.join("metrics"), self.shop.run.metrics_path(&self.stage.name.value));
        if resumed
            && let Ok(earlier) = fs::read_to_string(&marker)
            && Path::new(&earlier) != ours
            && let Err(e) = fs::copy(&earlier, &ours)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("the metrics of the attempt before were not taken over: {e}");
        }
        let _ = fs::create_dir_all(&self.work);
        let _ = fs::write(&marker, ours.as_os_str().as_encoded_bytes());
        resumed
    }
}

/// Removes what is of no more use of a stage's work: all of it when it is done, else all but a
/// checkpoint. `notes` are those in the lock of its key, which the caller has.
pub fn tidy(work: &Path, notes: &str, done: bool) {
    let swept = if done { remove_all(work) } else { keep_checkpoint(work, notes) };
    if let Err(e) = swept {
        tracing::warn!(folder = %work.display(), "scratch files were not removed: {e}");
    }
}

fn keep_checkpoint(work: &Path, notes: &str) -> io::Result<()> {
    fence::fence(work, notes, true)?;
    let checkpoint = work.join(CHECKPOINT);
    if fs::remove_dir(&checkpoint).is_ok() || !checkpoint.exists() { remove_all(work) } else { Ok(()) }
}

fn remove_all(work: &Path) -> io::Result<()> {
    fs::remove_dir(work).or_else(|_| match fs::remove_dir_all(work) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    })
}

fn wrote_to(input: &str) -> String {
    format!(
        "it wrote to its input `{input}`, which is read-only; copy it before changing it. The damaged \
         artifact was moved aside, and the next run makes it anew"
    )
}

/// Removes what killed runs left of work that is done: of work that is not, its checkpoint stays.
pub fn sweep(store: &Store) {
    for key in store.works() {
        // The lock of what is not done is left alone: it may tell of orphans.
        if !store.action(&key).is_ok_and(|action| action.is_some()) {
            continue;
        }
        let work = store.work(&key);
        let swept = match store.try_lock(&key, "sweep") {
            Ok(Lock::Taken(lock)) => fence::fence(&work, lock.left(), true).and_then(|_| remove_all(&work)),
            _ => Ok(()),
        };
        if let Err(e) = swept {
            tracing::debug!(folder = %work.display(), "scratch files were not removed: {e}");
        }
    }
}
