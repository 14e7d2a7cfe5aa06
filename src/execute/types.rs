//! What a run says while it goes on, and when it ends.
//!
//! Purpose: plain data from executors to the dispatcher, and from the dispatcher to those who listen.
//! Invariant: a stage is told of in this order: started (or waiting, then started), what it says,
//! ended; a stage that never starts just ends.
//! Must not know: how any of it is shown or kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::digest::Digest;
use crate::cas::types::ArtifactRef;
use crate::state::{RunOutcome, StageOutcome};

/// What a stage says while it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Say {
    /// It began to run.
    Started {
        /// Its action key.
        key: Digest,
        /// Which attempt it is, from 1.
        attempt: u32,
        /// Whether an earlier, killed attempt left something to go on from.
        resumed: bool,
    },
    /// Another runner is doing this very work.
    Waiting {
        /// Who, in words.
        holder: String,
    },
    /// It failed and will be tried again.
    Retry {
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Why.
        error: String,
        /// Seconds until the next one.
        after: f64,
    },
    /// How far it is.
    Progress {
        /// Steps done.
        step: u64,
        /// Steps in all.
        total: u64,
        /// The numbers that matter now, in words.
        note: String,
    },
    /// Numbers at a step.
    Metric {
        /// The step.
        step: u64,
        /// Name to value.
        values: BTreeMap<String, f64>,
    },
    /// A sample of what the model says at a step.
    Sample {
        /// The step.
        step: u64,
        /// The prompt.
        prompt: String,
        /// The completion.
        completion: String,
    },
    /// Something is not well.
    Health {
        /// The step.
        step: u64,
        /// A stable code.
        code: String,
        /// What was seen.
        message: String,
        /// What to try.
        advice: String,
    },
    /// Something that people should know of it: orphans ended, inputs changed, other bytes than before.
    Note {
        /// In words.
        message: String,
    },
}

/// What those who listen to a run are told.
#[derive(Debug, Clone)]
pub enum RunEvent<'a> {
    /// It began.
    Begun {
        /// The run's id.
        run: &'a str,
        /// The pipeline's name.
        pipeline: &'a str,
        /// How many stages are wanted.
        stages: usize,
    },
    /// A stage says something.
    Said {
        /// The stage's name.
        stage: &'a str,
        /// What.
        say: &'a Say,
    },
    /// A stage ended.
    Ended(&'a StageReport),
    /// The run was asked to stop; running stages are given time.
    Stopping {
        /// How many stages run.
        running: usize,
    },
    /// It ended.
    Over(&'a RunReport),
}

/// Someone who listens to a run.
pub trait Listener {
    /// Takes what is told. It must not fail the run: what goes wrong here is logged.
    fn hear(&mut self, event: &RunEvent<'_>);
}

/// Two that listen to the same run.
pub struct Both<'a>(pub &'a mut dyn Listener, pub &'a mut dyn Listener);

impl Listener for Both<'_> {
    fn hear(&mut self, event: &RunEvent<'_>) {
        self.0.hear(event);
        self.1.hear(event);
    }
}

/// What became of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its action key; none where it could not be known.
    pub key: Option<Digest>,
    /// How it ended.
    pub outcome: StageOutcome,
    /// How long it took in this run, in seconds.
    pub seconds: f64,
    /// How long the cache spared us, in seconds.
    pub saved: f64,
    /// Its outputs.
    pub outputs: BTreeMap<String, ArtifactRef>,
    /// The numbers that matter, in order.
    pub summary: Vec<(String, f64)>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
    /// Its log and the last lines of it, when it failed.
    pub log: Option<(PathBuf, Vec<String>)>,
    /// False when its result may not be used by later runs.
    pub kept: bool,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunReport {
    /// The run's id.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Its stages, in the order of the plan.
    pub stages: Vec<StageReport>,
}

impl RunReport {
    /// How many stages ended so.
    pub fn count(&self, outcome: StageOutcome) -> usize {
        self.stages.iter().filter(|stage| stage.outcome == outcome).count()
    }

    /// Seconds that the cache spared us.
    pub fn saved(&self) -> f64 {
        self.stages.iter().map(|stage| stage.saved).sum()
    }
}
