//! The record of a run.
//!
//! Purpose: the data of `run.json`, as it stands on disk.
//! Invariant: every type reads what an older Kiln of the same format version wrote.
//! Must not know: where records lie, how they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cas::ArtifactRef;
use crate::digest::Digest;

/// The format of a [`RunRecord`].
pub const RECORD_FORMAT: &str = "kiln.record/1";

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    /// It has not ended, or was killed.
    Running,
    /// Everything asked for is fresh.
    Ok,
    /// A stage failed.
    Failed,
    /// It was asked to stop and can be resumed.
    Interrupted,
    /// It waits for people.
    Waiting,
    /// It has ended, and jobs of it go on.
    Detached,
}

/// How a stage of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageOutcome {
    /// Its action was known here.
    Cached,
    /// Its action came from a remote.
    Fetched,
    /// It ran.
    Ran,
    /// It ran and failed.
    Failed,
    /// It did not run: something before it failed, or the run was stopped.
    Skipped,
    /// It waits for people.
    Waiting,
    /// Its job goes on without the run.
    Detached,
}

/// The record of a run, `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RECORD_FORMAT`].
    pub format: String,
    /// Its id, such as `r-0007`.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's file, as the user named it.
    pub file: String,
    /// What `--set` gave it, as it was typed; of a URL without its credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// What `--unset` took away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Its stages by name.
    pub stages: BTreeMap<String, StageRecord>,
}

/// What became of a stage in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its action key; none where it could not be known.
    pub key: Option<Digest>,
    /// How it ended.
    pub outcome: StageOutcome,
    /// How long it took.
    pub seconds: f64,
    /// Its outputs by name, when it has them.
    #[serde(default)]
    pub outputs: BTreeMap<String, ArtifactRef>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Numbers for the summary table, in order.
    #[serde(default)]
    pub summary: Vec<(String, f64)>,
}
