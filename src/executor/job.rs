//! A stage to run, and how the work on it ended.
//!
//! Must not know: when it runs, what becomes of the result.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::cas::types::{Action, ArtifactRef};
use crate::digest::Digest;
use crate::plan::StageIx;
use crate::state::Holder;

/// One stage to run.
#[derive(Debug)]
pub struct Job {
    /// Its index in the graph.
    pub stage: StageIx,
    /// Its action key.
    pub key: Digest,
    /// Its key inputs, of which `key` is the digest.
    pub key_inputs: Value,
    /// Its inputs by name.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// Whether it runs even though its outputs may be in the store, and replaces the record of them.
    pub replace: bool,
}

/// How the work on a stage ended.
#[derive(Debug)]
pub enum StageEnd {
    /// Another runner is at it.
    Held {
        /// Who.
        holder: Holder,
        /// What the lock that it holds is of: the action key, or the job of the key.
        lock: Digest,
    },
    /// A runner elsewhere has the lease of its action; this says who.
    HeldElsewhere(String),
    /// Its outputs were in the store after all.
    Found(Box<Action>),
    /// It ran.
    Ran {
        /// Its outputs.
        outputs: BTreeMap<String, ArtifactRef>,
        /// The numbers that matter.
        summary: Vec<(String, f64)>,
        /// Whether later runs may use the result.
        kept: bool,
        /// How long it ran, in seconds, where this runner did not see it run.
        seconds: Option<f64>,
    },
    /// An input proves missing or damaged; this stage makes it.
    InputMissing(StageIx),
    /// A source or a file under `uses` is not what the key says: it changed after the planner was asked.
    Changed(String),
    /// It was stopped on request and can be resumed.
    Interrupted,
    /// Its job goes on without this runner; this says which.
    Detached(String),
    /// It failed.
    Failed {
        /// Why.
        error: String,
        /// Its log and the last lines of the log, if it came so far.
        log: Option<(PathBuf, Vec<String>)>,
    },
}
