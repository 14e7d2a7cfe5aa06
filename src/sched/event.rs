//! What a run reports while it goes on, and when it ends.
//!
//! Purpose: the one event type of a run, and the trait of those that receive it: the terminal, JSON, the
//! run record, the lock file and the links below `out/`.
//! Invariant: the events of a stage come in this order: started (or waiting, then started), its own
//! events, finished; a stage that never starts has a finished event only. Every event can be written
//! as one JSON object.
//! Must not know: how an event is shown or stored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cas::types::ArtifactRef;
use crate::digest::{CanonicalJson, Digest};
use crate::state::{RunOutcome, StageOutcome};

/// An event of a running stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StageEvent {
    /// An attempt started.
    Started {
        /// The action key.
        key: Digest,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// Whether it resumes from the checkpoint of an earlier attempt.
        resumed: bool,
    },
    /// Another runner holds the lock of the action key.
    Waiting {
        /// The other runner, in words.
        holder: String,
    },
    /// It was handed to a cluster, where its attempts run.
    Submitted {
        /// The executor.
        executor: String,
        /// The id of the job.
        job: String,
        /// The name of the job.
        name: String,
        /// Whether an earlier runner submitted it.
        adopted: bool,
    },
    /// Its job waits in the queue of the cluster.
    Queued {
        /// The id of the job.
        job: String,
        /// Why it waits, as the cluster says.
        reason: String,
    },
    /// An attempt failed and there will be another one.
    Retry {
        /// The number of the attempt that failed, from 1.
        attempt: u32,
        /// Why it failed.
        error: String,
        /// Seconds until the next attempt.
        after: f64,
    },
    /// How far the stage is.
    Progress {
        /// The steps that are done.
        step: u64,
        /// The steps in all.
        total: u64,
        /// The numbers that matter now, in words.
        note: String,
    },
    /// Numbers at a step.
    Metric {
        /// The step.
        step: u64,
        /// The values by name.
        values: BTreeMap<String, f64>,
    },
    /// A sample of the output of a model at a step.
    Sample {
        /// The step.
        step: u64,
        /// The prompt.
        prompt: String,
        /// The completion.
        completion: String,
    },
    /// Something is wrong with the training.
    Health {
        /// The step.
        step: u64,
        /// A stable code.
        code: String,
        /// What was observed.
        message: String,
        /// What to try.
        advice: String,
    },
    /// A message for people: orphans were ended, an input changed, the bytes differ from an earlier run.
    Note {
        /// The message.
        message: String,
    },
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run started.
    RunStarted {
        /// The id of the run.
        run: String,
        /// The name of the pipeline.
        pipeline: String,
        /// The number of stages in the plan.
        stages: usize,
    },
    /// An event of a stage.
    Stage {
        /// The name of the stage.
        stage: String,
        /// The event.
        #[serde(flatten)]
        event: StageEvent,
    },
    /// A stage finished.
    StageFinished(Arc<StageReport>),
    /// Something that people should know of the run.
    Note {
        /// The words.
        message: String,
    },
    /// The run was asked to stop, and the user is asked what becomes of its jobs.
    Asking {
        /// How many there are.
        jobs: usize,
    },
    /// The run was asked to stop; running stages get time to write a checkpoint.
    Stopping {
        /// The number of stages that run on this machine.
        running: usize,
        /// The number of stages that have jobs on clusters.
        jobs: usize,
        /// Whether these jobs are cancelled; else they go on.
        cancels: bool,
        /// Whether they are killed at once, since it was asked for a second time.
        kill: bool,
    },
    /// Results were sent to a remote, or could not be.
    Shared(SharedResults),
    /// The run finished.
    RunFinished(RunReport),
}

/// What a run sent to a remote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedResults {
    /// The name of the remote.
    pub remote: String,
    /// How many results it has now.
    pub results: usize,
    /// How many bytes were transferred.
    pub bytes: u64,
    /// How many results could not be sent.
    pub failed: usize,
    /// Why the first one of them could not.
    pub error: Option<String>,
    /// The keys for which the remote has other outputs, which stay.
    pub conflicts: Vec<Digest>,
}

impl SharedResults {
    /// Nothing yet.
    pub fn of(remote: String) -> Self {
        Self { remote, results: 0, bytes: 0, failed: 0, error: None, conflicts: Vec::new() }
    }
}

/// A receiver of the events of a run.
pub trait Reporter: Send {
    /// Receives an event. An error of a reporter must not fail the run: it is logged.
    fn on_event(&mut self, event: &Event);

    /// Ends a group of events that came together; what was held back until then is to be written.
    fn flush(&mut self) {}
}

impl<R: Reporter + ?Sized> Reporter for &mut R {
    fn on_event(&mut self, event: &Event) {
        (**self).on_event(event);
    }

    fn flush(&mut self) {
        (**self).flush();
    }
}

/// The result of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The name of the stage.
    #[serde(rename = "stage")]
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its action key; none where it could not be known.
    pub key: Option<Digest>,
    /// The key inputs of which `key` is the digest, for the lock file. They are not part of the JSON form,
    /// because the action has them.
    #[serde(skip)]
    pub key_inputs: Option<CanonicalJson>,
    /// How it ended.
    pub outcome: StageOutcome,
    /// How long it took in this run, in seconds.
    pub seconds: f64,
    /// How many seconds the cache saved.
    pub saved: f64,
    /// Its outputs.
    pub outputs: BTreeMap<String, ArtifactRef>,
    /// The numbers that matter, in order.
    pub summary: Vec<(String, f64)>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// Its log and the last lines of the log, when it failed.
    pub log: Option<(PathBuf, Vec<String>)>,
    /// False when later runs must not use its result.
    pub kept: bool,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The id of the run.
    pub run: String,
    /// The name of the pipeline.
    pub pipeline: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Its stages, in the order of the plan.
    pub stages: Vec<Arc<StageReport>>,
}

impl StageReport {
    /// Whether the stage is up to date now.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome, StageOutcome::Cached | StageOutcome::Ran | StageOutcome::Fetched)
    }
}

impl RunReport {
    /// The number of stages with this outcome.
    pub fn count(&self, outcome: StageOutcome) -> usize {
        self.stages.iter().filter(|stage| stage.outcome == outcome).count()
    }

    /// The seconds that the cache saved.
    pub fn saved(&self) -> f64 {
        self.stages.iter().map(|stage| stage.saved).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_stage_is_one_flat_object_and_is_read_back() {
        let event = Event::Stage {
            stage: "sft".into(),
            event: StageEvent::Progress { step: 3, total: 10, note: String::new() },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            r#"{"type":"stage","stage":"sft","event":"progress","step":3,"total":10,"note":""}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
