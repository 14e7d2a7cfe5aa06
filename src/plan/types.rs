//! What a plan consists of.
//!
//! Purpose: plain data between the one planner and all who read it: `plan`, `status`, `why`, `run`,
//! the report.
//! Invariant: a stage that is not cached has at least one reason; a key or digest that cannot be
//! known yet is none, never a guess.
//! Must not know: how a decision is made, how it is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cas::remote::Found;
use crate::cas::types::{Action, ArtifactRef};
use crate::digest::Digest;
use crate::provider::ProviderFacts;
use crate::spec::types::Span;

/// The index of a stage in `Pipeline::stages`.
pub type StageIx = usize;

/// What the planner must know beside pipeline, graph and store.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Stages that run even though they are fresh, by name (`--force`).
    pub forced: BTreeSet<String>,
    /// Cores of the machine: what `cpus: 0` means, and the most that a stage with `cache: exact` may ask for.
    pub cores: u32,
    /// Stages that run on other machines, by name: those may have more cores.
    pub away: BTreeSet<String>,
    /// What is known of each provider, in the order of `Pipeline::providers`; a provider that no
    /// stage uses may be missing at the end.
    pub providers: Vec<ProviderFacts>,
    /// The key that each stage had elsewhere, by name, for a pipeline that has never run here.
    pub locked: BTreeMap<String, Digest>,
}

/// What is to be done with a stage whose inputs are known.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Its outputs are here.
    Cached {
        /// The action key.
        key: Digest,
        /// The action; all its outputs are intact in the store.
        action: Box<Action>,
    },
    /// Its outputs are in a remote.
    Fetch {
        /// The action key.
        key: Digest,
        /// The action, and the remote that has it.
        found: Found,
        /// The bytes that are not here.
        bytes: u64,
    },
    /// It must run.
    Run {
        /// The action key.
        key: Digest,
        /// The key inputs, of which `key` is the digest.
        key_inputs: Value,
        /// Why; never empty.
        reasons: Vec<Reason>,
        /// Whether the record that is there must give way even if its outputs are intact: the stage was
        /// forced, or the record lacks an output.
        replace: bool,
    },
}

/// The state of a stage in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its outputs are here.
    Cached,
    /// Its outputs are in a remote.
    Fetch,
    /// It must run.
    Run,
    /// It waits on a stage that runs, and is kept if that one gives the same bytes.
    Maybe,
    /// People must do something.
    People,
}

impl State {
    /// Whether its outputs are what the pipeline would make now, here or in a remote.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Cached | Self::Fetch)
    }
}

/// What kind of thing made a stage stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No action of this stage is known here.
    NeverRan,
    /// Its action is known, but bytes of its outputs are gone.
    OutputsMissing,
    /// Its action is known, but does not name one of its outputs.
    OutputUnrecorded,
    /// Its action is known, but no trusted key has signed it.
    Untrusted,
    /// It was asked for with `--force`.
    Forced,
    /// It has another kind, or its kind has another revision.
    Kind,
    /// The provider of its kind has another name.
    Provider,
    /// A param.
    Param,
    /// The bytes of an input.
    Input,
    /// The command.
    Command,
    /// The shell of the command.
    Shell,
    /// The path of an input or output, the ending of the file that an input is, or the folder that the command starts in.
    Path,
    /// Whether the command runs in a folder of its own.
    Sandbox,
    /// The operating system or architecture.
    Platform,
    /// The rules by which Kiln makes a command's environment.
    EnvironmentPolicy,
    /// An environment variable.
    Env,
    /// A file under `uses`.
    Uses,
    /// The names or types of the outputs.
    Outputs,
    /// The numerics of a stage with `cache: exact`.
    Numerics,
    /// It waits on a stage that runs; that one holds the root cause.
    Waits,
}

/// One reason why a stage is stale, with values for people and scripts.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// What kind of reason.
    pub cause: Cause,
    /// What changed, such as `params.learning_rate`, `inputs.corpus`, `run`, `revision`.
    pub what: String,
    /// The value at the last successful run; none if there was none.
    pub old: Option<Value>,
    /// The value now; none if it was removed.
    pub new: Option<Value>,
    /// The source or stage that an input comes from, or the stage that is waited on.
    pub from: Option<String>,
    /// Where the value now stands in the pipeline file; its stage where it stands nowhere.
    pub span: Span,
}

/// An output in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOutput {
    /// The artifact type.
    pub artifact_type: String,
    /// The artifact, when it is known.
    pub artifact: Option<ArtifactRef>,
}

/// A stage in a plan.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// Its index.
    pub stage: StageIx,
    /// Its name.
    pub name: String,
    /// Its kind; `command` for a command.
    pub kind: String,
    /// What is to be done.
    pub state: State,
    /// The action key; none while an input is not known.
    pub key: Option<Digest>,
    /// The key inputs, as far as they are known; none when it is cached, for `last` has them.
    pub key_inputs: Option<Value>,
    /// Why it is not cached; empty when it is.
    pub reasons: Vec<Reason>,
    /// Its outputs by name.
    pub outputs: BTreeMap<String, PlannedOutput>,
    /// The stages directly above it that must run or may run, by name.
    pub waits_on: Vec<String>,
    /// The stage's last successful action (when cached: this very one).
    pub last: Option<Box<Action>>,
    /// How long its last successful run took; none if it no result yet.
    pub seconds: Option<f64>,
    /// How many bytes its last successful run made; none if it no result yet.
    pub bytes: Option<u64>,
    /// Where an interrupted attempt would go on, such as `step 500 of 2000`; none if there is none.
    pub resumes: Option<String>,
    /// The remote that has its outputs, and the bytes to fetch; none unless its state is [`State::Fetch`].
    pub remote: Option<(String, u64)>,
    /// Remarks for people about what makes nothing stale.
    pub notes: Vec<String>,
}

/// What is to be done, stage by stage, in an order in which it can be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: String,
    /// Its main file, as the user named it.
    pub file: PathBuf,
    /// All its files; a [`Span`] refers to one of them.
    pub files: Vec<PathBuf>,
    /// The stages, each after all that it reads from.
    pub stages: Vec<StagePlan>,
}

/// How many stages are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// [`State::Cached`].
    pub cached: usize,
    /// [`State::Fetch`].
    pub fetch: usize,
    /// [`State::Run`].
    pub run: usize,
    /// [`State::Maybe`].
    pub maybe: usize,
    /// [`State::People`].
    pub people: usize,
}

impl Plan {
    /// How many stages are in each state.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for stage in &self.stages {
            *match stage.state {
                State::Cached => &mut summary.cached,
                State::Fetch => &mut summary.fetch,
                State::Run => &mut summary.run,
                State::Maybe => &mut summary.maybe,
                State::People => &mut summary.people,
            } += 1;
        }
        summary
    }

    /// The plan of a stage by name.
    pub fn stage(&self, name: &str) -> Option<&StagePlan> {
        self.stages.iter().find(|s| s.name == name)
    }
}

impl StagePlan {
    /// The key inputs: all of them where the key is known.
    pub fn key_inputs(&self) -> Option<Value> {
        let cached = || self.last.as_ref().filter(|last| Some(last.key) == self.key);
        self.key_inputs.clone().or_else(|| cached().map(|last| last.key_inputs.value()))
    }
}

impl Summary {
    /// True when nothing is left to run: results in a remote are as good as those here.
    pub fn is_fresh(&self) -> bool {
        self.run + self.maybe + self.people == 0
    }
}
