//! How a job ended that did not say so itself.
//!
//! Purpose: from what the cluster says of a job to what becomes of its stage, in words that say what to change.
//! Invariant: a job that runs again by itself has not ended. What is nobody's fault is done again, what somebody asked for or
//! what would happen again is not.
//! Must not know: how a job is watched.

use std::time::{Duration, Instant};

use crate::cas::Store;
use crate::cas::disk;
use crate::executor::cluster::Site;
use crate::executor::cluster::end::JobEnd;
use crate::executor::cluster::engine::{self, Cause, Job, Phase};
use crate::executor::cluster::intent::{self, Intent};
use crate::executor::cluster::script;
use crate::sched::StageEvent;
use crate::spec::types::Stage;

/// The exit code of a job whose prologue failed.
const PROLOGUE: i32 = script::PROLOGUE_FAILED;
/// The exit code of a job that a signal stopped, and that can go on.
const STOPPED: i32 = 130;
/// What Slurm gives as the signal of a job whose output it could not open.
const NO_OUTPUT: i32 = 53;
/// Why Slurm ends a job that fits no node.
const UNFIT: &str = "BadConstraints";
/// The exit codes of a shell that cannot start a program.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
/// So many answers of the cluster must agree that a job is over.
pub const AGREEING: u32 = 3;
/// How long the last word of a job may be on its way: clients of NFS remember for so long that a file was not there.
const LONGEST_WAY: Duration = Duration::from_secs(45);
/// How many lines of the job's own output are shown.
const TAIL: usize = 5;

/// How the watch over a job ended.
pub enum Ending {
    /// The job has said how it ended.
    Said(JobEnd),
    /// The runner was asked to stop, and the job goes on.
    Detached,
    /// It can no longer be watched.
    Unwatched(String),
    /// It is gone, through nobody's fault.
    Lost(String),
    /// It has failed.
    Failed(String),
}

/// What was seen of a job so far.
#[derive(Default)]
pub struct Seen {
    /// The number of the last answer of the cluster.
    pub answered: u64,
    /// The number of the last question without an answer.
    pub asked: u64,
    /// Whether it was said that the cluster does not answer.
    pub told_silence: bool,
    /// How many answers in a row said that the job is over, and since when.
    pub over: u32,
    pub over_since: Option<Instant>,
    /// Whether it runs.
    pub is_running: bool,
    was_running: bool,
    told_held: bool,
    /// Why it waits, as was said last.
    reason: String,
}

impl Seen {
    /// Takes one more answer of the cluster; true when a job that has said nothing will not say anything any more.
    pub fn is_over(&mut self, job: Option<&Job>) -> bool {
        let cause = match job.map(|job| job.phase) {
            Some(Phase::Ended(cause)) => Some(cause),
            None => None,
            Some(_) => {
                (self.over, self.over_since) = (0, None);
                return false;
            }
        };
        self.over += 1;
        let since = *self.over_since.get_or_insert_with(Instant::now);
        // Who was killed says nothing. What others have said may still be on its way, on a shared file system.
        let is_killed = matches!(cause, Some(Cause::Memory | Cause::Time | Cause::Cancelled));
        self.over >= AGREEING && (is_killed || since.elapsed() >= LONGEST_WAY)
    }

    /// What is new and of interest.
    pub fn news(&mut self, job: Option<&Job>) -> Option<StageEvent> {
        let job = job?;
        // What has ended may still have something to say.
        self.is_running = !matches!(job.phase, Phase::Queued | Phase::Held);
        let note = |message: String| Some(StageEvent::Note { message });
        match job.phase {
            Phase::Held if !std::mem::replace(&mut self.told_held, true) => note(will_not_start(job)),
            Phase::Queued if std::mem::take(&mut self.was_running) => {
                note(format!("job {} was taken off its node and is queued again ({})", job.id, job.reason))
            }
            Phase::Queued if self.reason != job.reason => {
                self.reason.clone_from(&job.reason);
                Some(StageEvent::Queued { job: job.id.clone(), reason: job.reason.clone() })
            }
            Phase::Running => {
                (self.was_running, self.told_held) = (true, false);
                None
            }
            _ => None,
        }
    }

    /// Whether to ask now how the script of a job ended: once, when the cluster is sure that it has.
    pub fn asks_for_exit(&self, job: Option<&Job>) -> bool {
        self.over == AGREEING && matches!(job.map(|job| job.phase), Some(Phase::Ended(Cause::Exit)))
    }
}

/// What is said of a job that waits for ever.
fn will_not_start(job: &Job) -> String {
    let Job { id, reason, .. } = job;
    let release = match reason.to_lowercase().contains("held") {
        true => format!(", `scontrol release {id}` lets it go"),
        false => String::new(),
    };
    format!(
        "job {id} will not start by itself ({reason}): `scontrol show job {id}` says more{release}, `kiln cancel` cancels it"
    )
}

/// Whether the script of a job ended before Kiln started: such a job has nothing to say.
pub async fn never_started(site: &Site, job: Option<&Job>) -> bool {
    let Some(job) = job else { return false };
    let exit = engine::exit_of(&site.spec, &job.id).await;
    job.reason == UNFIT
        || matches!(exit.code, Some(PROLOGUE | NOT_FOUND | NOT_EXECUTABLE | STOPPED))
        || exit.signal == Some(NO_OUTPUT)
}

/// What becomes of a stage whose job is over and has said nothing. `job` is none when the cluster does not know it.
pub async fn explain(
    job: Option<&Job>,
    site: &Site,
    intent: &Intent,
    stage: &Stage,
    store: &Store,
) -> Ending {
    let id = intent.job.as_deref().unwrap_or("unknown");
    let Some(job) = job else {
        return Ending::Lost(format!(
            "{} does not know job {id} any more, and it left no result",
            intent.executor
        ));
    };
    let Phase::Ended(cause) = job.phase else {
        return Ending::Lost(format!("job {id} is {}", job.state));
    };
    match cause {
        Cause::Memory => Ending::Failed(out_of_memory(id, intent)),
        Cause::Time => Ending::Failed(out_of_time(stage, false)),
        Cause::Cancelled => Ending::Failed(format!("job {id} was cancelled; `kiln run` submits it again")),
        Cause::Lost => {
            let on = if job.nodes.is_empty() { String::new() } else { format!(" on {}", job.nodes) };
            Ending::Lost(format!("job {id}{on} ended with {}", job.state))
        }
        Cause::Exit => exit(job, site, intent, store).await,
    }
}

/// A job whose script has ended without a word of Kiln.
async fn exit(job: &Job, site: &Site, intent: &Intent, store: &Store) -> Ending {
    let id = &job.id;
    let exit = engine::exit_of(&site.spec, id).await;
    let output = intent::folder(store, &intent.key).join(&intent.submission).join("slurm.out");
    let lines = disk::tail(&output, TAIL).unwrap_or_default();
    let printed = if lines.is_empty() { &exit.printed } else { &lines };
    let tail = printed[printed.len().saturating_sub(TAIL)..].join("\n");
    if tail.contains("exceeded memory limit") || tail.contains("oom-kill") {
        return Ending::Failed(out_of_memory(id, intent));
    }
    let said = if tail.is_empty() { String::new() } else { format!("; it printed:\n{tail}") };
    if exit.code == Some(STOPPED) {
        return Ending::Lost(format!("job {id} was stopped by a signal"));
    }
    let what = match (exit.code, exit.signal) {
        (Some(PROLOGUE), _) => format!("the prologue of the executor `{}` failed", intent.executor),
        (_, Some(NO_OUTPUT)) if !output.exists() => format!(
            "the node could not open {}; does it see the store? Nodes that do not need a `store` and a `remote` of the \
             executor `{}`",
            output.display(),
            intent.executor
        ),
        (Some(NOT_FOUND | NOT_EXECUTABLE), _) => format!(
            "the program of kiln cannot be started on the node; name it by `kiln:` of the executor `{}`",
            intent.executor
        ),
        _ if job.reason == UNFIT => format!("no node has what it asks for ({UNFIT})"),
        (_, Some(signal)) => format!("it was killed by signal {signal}"),
        (Some(code), _) => format!("its script ended with exit code {code}"),
        (None, None) => "its script ended".to_owned(),
    };
    Ending::Failed(format!("job {id} ended before Kiln had started on its node: {what}{said}"))
}

/// A job that used more memory than it asked for.
pub fn out_of_memory(id: &str, intent: &Intent) -> String {
    let had = match intent.memory {
        0 => "than the cluster gives by default".to_owned(),
        memory => format!("than the {} MiB of `resources.memory`", memory.div_ceil(1 << 20)),
    };
    format!(
        "job {id} was out of memory: it used more {had}; ask for more by `resources: {{ memory: .. }}` of the stage"
    )
}

/// A job whose time was over. `told` says that it was told so before, and has ended by itself.
pub fn out_of_time(stage: &Stage, told: bool) -> String {
    let limit = match stage.resources.time {
        Some(time) => format!("its `resources.time` of {} s", time.as_secs()),
        None => "the time limit of its job".to_owned(),
    };
    let longer = "`resources: { time: .. }` of the stage gives it longer";
    match told {
        true => format!(
            "it ended when it was told that {limit} is nearly over; a stage that writes checkpoints goes on from there with \
             `kiln run`, and {longer}"
        ),
        false => format!(
            "it did not end within {limit}; what it had made is lost but for its checkpoints, and {longer}"
        ),
    }
}
