//! What a job is asked to do.
//!
//! Purpose: one stage with its inputs and `uses` as artifacts, as JSON; and back to a pipeline of that one stage, whose inputs
//! are outputs of stages that nobody runs.
//! Invariant: whoever reads it recomputes the key from it: another machine, version or provider that would make another
//! key is found before anything runs. It holds no secret and no value of the caller's environment.
//! Must not know: how it gets to the job, how the stage is run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cas::types::ArtifactRef;
use crate::cas::{Store, StoreError};
use crate::digest::Digest;
use crate::executor::context::RunContext;
use crate::executor::job::Job;
use crate::graph::{self, Graph};
use crate::plan::PlanError;
use crate::protocol::Port;
use crate::spec::types::{Pipeline, Reference, Span, Spanned, Stage, Work};
use crate::spec::{Diagnostic, Diagnostics, Loaded, Unresolved};

/// The format of a request.
pub const FORMAT: &str = "kiln.job-request/1";
/// A job that was submitted longer ago, and that nobody has asked about, will not be asked about any more.
const LONGEST_QUEUE: Duration = Duration::from_secs(60 * 86_400);
/// The most bytes of a request.
pub const MOST_BYTES: u64 = 64 << 20;

/// What a job is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobRequest {
    /// [`FORMAT`].
    pub format: String,
    /// The version of the runner.
    pub kiln: String,
    /// The action key.
    pub key: Digest,
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run: String,
    /// The key inputs, for a message where a node would make others.
    pub key_inputs: Value,
    /// The stage.
    pub stage: Stage,
    /// The programs of the providers of the pipeline, of which the stage names one.
    pub providers: Vec<PathBuf>,
    /// The inputs by name.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// The files under `uses` by path.
    pub uses: BTreeMap<String, ArtifactRef>,
    /// The device that the stage is asked to use.
    pub device: String,
    /// Whether the stage runs even though its result may be there, and replaces it.
    pub replace: bool,
    /// Whether the remote did not give what it names for this key, so that it is made and sent again.
    pub resend: bool,
    /// Whether a record counts only with a signature by a trusted key.
    pub demands_signatures: bool,
}

impl JobRequest {
    /// The request for a stage.
    ///
    /// # Errors
    /// A file under `uses` is gone.
    pub fn of(context: &RunContext, job: &Job) -> Result<Self, PlanError> {
        let pipeline = context.graph.pipeline();
        let stage = context.graph.stage(job.stage);
        let uses = context.planner.sources().uses(stage)?;
        Ok(Self {
            format: FORMAT.to_owned(),
            kiln: env!("CARGO_PKG_VERSION").to_owned(),
            key: job.key,
            pipeline: pipeline.name.clone(),
            run: context.run.id().to_owned(),
            key_inputs: job.key_inputs.clone(),
            stage: stage.clone(),
            providers: pipeline.providers.clone(),
            inputs: job.inputs.clone(),
            uses: uses.into_iter().map(|(name, file)| (name, file.artifact)).collect(),
            device: context.device.clone(),
            replace: job.replace,
            resend: context.planner.was_lost_elsewhere(&job.key),
            demands_signatures: pipeline.demands_signatures,
        })
    }

    /// The artifacts that it names.
    pub fn artifacts(&self) -> Vec<ArtifactRef> {
        self.inputs.values().chain(self.uses.values()).copied().collect()
    }

    /// The pipeline of this stage alone, in the folder `root`, where the files under `uses` lie.
    ///
    /// # Errors
    /// The request does not fit together.
    pub fn graph(&self, root: &Path) -> Result<Graph, Vec<Diagnostic>> {
        let mut stage = self.stage.clone();
        if let Work::Command { uses, .. } = &mut stage.work {
            let spanned = |path: &String| Spanned { value: path.clone(), span: Span::default() };
            *uses = self.uses.keys().map(spanned).collect();
        }
        let mut stages = Vec::new();
        for (name, reference) in &mut stage.inputs {
            let maker = format!("{name} (input)");
            let types =
                stage.input_ports.iter().find(|port| port.name == *name).map(|port| port.types.clone());
            stages.push(maker_of(&maker, types.and_then(|types| types.into_iter().next())));
            reference.value = Reference::Stage { stage: maker, output: None };
        }
        stages.push(stage);
        let pipeline = Pipeline {
            files: vec![PathBuf::from("job")],
            root: root.to_owned(),
            name: self.pipeline.clone(),
            sources: BTreeMap::new(),
            stages,
            providers: self.providers.clone(),
            ignore: Vec::new(),
            remotes: Vec::new(),
            demands_signatures: self.demands_signatures,
            executors: Vec::new(),
            executor: None,
        };
        let diagnostics = Diagnostics::new(Path::new("job"), String::new());
        graph::build(Loaded { pipeline, unresolved: Unresolved::default(), diagnostics })
    }

    /// The index of the stage in its graph.
    pub fn stage_index(&self) -> usize {
        self.stage.inputs.len()
    }

    /// Puts the files under `uses` into `root`.
    ///
    /// # Errors
    /// One is not in the store, or the disk refuses.
    pub fn place_uses(&self, store: &Store, root: &Path) -> Result<(), StoreError> {
        for (path, file) in &self.uses {
            store.materialize(file, &root.join(path), crate::cas::How::Copies)?;
        }
        Ok(())
    }
}

/// The artifacts that jobs need which may still run, and the folders of jobs that nobody will ask about any more.
pub fn held(store: &Store) -> (Vec<ArtifactRef>, Vec<PathBuf>) {
    let (mut held, mut dead) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(store.root().join("jobs")).into_iter().flatten().flatten() {
        let folder = entry.path();
        let changed = fs::metadata(folder.join("intent.json")).and_then(|meta| meta.modified());
        let is_dead = match changed {
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
            // A time in the future is that of something new.
            Ok(time) => SystemTime::now().duration_since(time).is_ok_and(|age| age > LONGEST_QUEUE),
        };
        if is_dead {
            dead.push(folder);
            continue;
        }
        for submission in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let file = submission.path().join("request.json");
            let request = super::mail::bounded(&file, MOST_BYTES).ok().flatten();
            let request = request.and_then(|bytes| serde_json::from_slice::<JobRequest>(&bytes).ok());
            held.extend(request.iter().flat_map(JobRequest::artifacts));
        }
    }
    (held, dead)
}

/// A stage that stands for whoever made an input. Nobody runs it.
fn maker_of(name: &str, artifact_type: Option<String>) -> Stage {
    let port = Port {
        name: "out".to_owned(),
        types: vec![artifact_type.unwrap_or_else(|| "any".to_owned())],
        summary: String::new(),
        optional: false,
    };
    let mut stage = Stage::named(Spanned { value: name.to_owned(), span: Span::default() });
    stage.outputs = vec![port];
    stage
}
