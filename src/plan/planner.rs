//! The one decision: must this stage run, and why.
//!
//! Purpose: key inputs -> key -> action -> [`Decision`], and a whole [`Plan`] made of such
//! decisions. The executor asks the same function, stage by stage, as outputs become known.
//! Invariant: takes no lock of the store, runs no stage, and writes nothing but the stat index; a source is
//! looked at once in a planner's life unless [`Sources::forget`] is called. All methods take `&self`, and
//! threads may share a planner.
//! Must not know: how a plan is printed or executed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;

use crate::cas::Store;
use crate::cas::remote::Found;
use crate::cas::types::{Action, ArtifactRef};
use crate::digest::Digest;
use crate::graph::{Graph, Producer};
use crate::plan::key_inputs::{KeyInputs, key, platform};
use crate::plan::types::{Cause, Decision, Plan, PlannedOutput, Reason, Settings, StageIx, StagePlan, State};
use crate::plan::{PlanError, Sources, reasons};
use crate::spec::types::{Stage, Work};

/// Decides what must run.
pub struct Planner {
    pub(super) graph: Arc<Graph>,
    pub(super) store: Arc<Store>,
    pub(super) settings: Settings,
    pub(super) last_keys: BTreeMap<String, Digest>,
    /// Why stages failed in the last run, and that run; read when it is asked for.
    pub(super) failures: OnceLock<(String, BTreeMap<String, String>)>,
    sources: Sources,
    /// The actions that remotes were asked for, and what they gave.
    pub(super) elsewhere: Mutex<HashMap<Digest, Option<Found>>>,
    /// The keys whose outputs a remote did not give.
    pub(super) lost: Mutex<HashSet<Digest>>,
}

/// What the local store knows of a key.
pub(super) enum Known {
    /// The action, whose outputs are intact.
    Here(Box<Action>),
    /// An action that cannot give an output.
    Lost(Lost),
    /// An action that no trusted key has signed.
    Untrusted,
    /// Nothing.
    Nowhere,
}

/// An output that a record cannot give.
pub(super) enum Lost {
    /// The record does not name it.
    Unrecorded(String),
    /// Its bytes are gone or damaged.
    Missing(String),
}

impl Planner {
    /// A planner for a graph over a store.
    ///
    /// # Errors
    /// The index of last keys cannot be read, or an ignore rule is wrong.
    pub fn new(graph: Arc<Graph>, store: Arc<Store>, settings: Settings) -> Result<Self, PlanError> {
        let mut last_keys = store.history().last_keys(&graph.pipeline().name)?;
        if last_keys.is_empty() {
            last_keys.clone_from(&settings.locked);
        }
        let sources = Sources::new(Arc::clone(&graph), Arc::clone(&store))?;
        Ok(Self {
            graph,
            store,
            settings,
            last_keys,
            failures: OnceLock::new(),
            sources,
            elsewhere: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    /// What the sources and used files are.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The cores that a stage asks for, or all of the machine.
    pub fn threads(&self, stage: StageIx) -> u32 {
        match self.graph.stage(stage).resources.cpus {
            0 => self.settings.cores,
            some => some,
        }
    }

    /// Decides on a stage whose inputs are all known, by port.
    ///
    /// # Errors
    /// The store fails, an input or a file under `uses` is missing, or the stage must run and asks for cores
    /// that its key names and this machine has not.
    pub fn decide(
        &self,
        stage: StageIx,
        inputs: &BTreeMap<String, ArtifactRef>,
    ) -> Result<Decision, PlanError> {
        self.check_inputs(stage, inputs)?;
        let key_inputs = self.key_inputs(stage, inputs.clone())?;
        let key = key(&key_inputs);
        let spec = self.graph.stage(stage);
        let (reasons, replace) = if self.settings.forced.contains(&spec.name.value) {
            (vec![reasons::forced(spec)], true)
        } else {
            let known = self.known(spec, &key)?;
            if let Known::Here(action) = known {
                return Ok(Decision::Cached { key, action });
            }
            if let Some(found) = self.elsewhere(spec, &key) {
                let bytes = self.bytes_to_fetch(&found)?;
                return Ok(Decision::Fetch { key, found, bytes });
            }
            match known {
                Known::Lost(Lost::Unrecorded(output)) => {
                    (vec![reasons::output_unrecorded(spec, &output)], true)
                }
                Known::Lost(Lost::Missing(output)) => (vec![reasons::output_missing(spec, &output)], false),
                Known::Untrusted => (vec![reasons::untrusted(spec)], false),
                _ => (self.changes(spec, &key_inputs)?, false),
            }
        };
        self.check_cores(stage)?;
        Ok(Decision::Run { key, key_inputs, reasons, replace })
    }

    /// The plan of the given stages, each of which comes after all that it reads from.
    ///
    /// # Errors
    /// As [`Self::decide`]; also when a source is missing.
    pub fn plan(&self, stages: &[StageIx]) -> Result<Plan, PlanError> {
        let mut done: HashMap<StageIx, StagePlan> = HashMap::with_capacity(stages.len());
        for level in self.levels(stages) {
            let known = |&ix: &StageIx| Ok((ix, self.inputs_above(ix, &done)?.0));
            if self.store.remotes().is_some() {
                self.look_ahead(&level.iter().map(known).collect::<Result<Vec<_>, PlanError>>()?)?;
                self.look_back(&level)?;
            }
            for ix in level {
                let stage_plan = self.plan_stage(ix, &done)?;
                done.insert(ix, stage_plan);
            }
        }
        let pipeline = self.graph.pipeline();
        Ok(Plan {
            pipeline: pipeline.name.clone(),
            file: pipeline.file().to_owned(),
            files: pipeline.files.clone(),
            stages: stages.iter().filter_map(|ix| done.remove(ix)).collect(),
        })
    }

    fn plan_stage(&self, ix: StageIx, above: &HashMap<StageIx, StagePlan>) -> Result<StagePlan, PlanError> {
        let (known, waits_on) = self.inputs_above(ix, above)?;
        let plan = if waits_on.is_empty() {
            self.plan_known(ix, &known)?
        } else {
            self.plan_waiting(ix, known, waits_on)?
        };
        Ok(with_forecast(plan))
    }

    /// The inputs of a stage that are known, and the stages that it waits on.
    fn inputs_above(
        &self,
        ix: StageIx,
        above: &HashMap<StageIx, StagePlan>,
    ) -> Result<(BTreeMap<String, ArtifactRef>, Vec<String>), PlanError> {
        let mut known = BTreeMap::new();
        let mut waits_on: Vec<String> = Vec::new();
        for input in self.graph.inputs(ix) {
            let artifact = match input.from {
                Producer::Source(name) => Some(self.sources.source(name)?),
                Producer::Stage { index, output } => {
                    let made = above.get(&index).and_then(|s| s.outputs.get(&output.name)?.artifact);
                    let name = &self.graph.stage(index).name.value;
                    if made.is_none() && !waits_on.contains(name) {
                        waits_on.push(name.clone());
                    }
                    made
                }
            };
            known.extend(artifact.map(|a| (input.name.to_owned(), a)));
        }
        Ok((known, waits_on))
    }

    fn plan_known(
        &self,
        ix: StageIx,
        inputs: &BTreeMap<String, ArtifactRef>,
    ) -> Result<StagePlan, PlanError> {
        let spec = self.graph.stage(ix);
        let mut plan = blank(ix, spec);
        let (state, key, action) = match self.decide(ix, inputs)? {
            Decision::Run { key, key_inputs, reasons, .. } => {
                plan.key_inputs = Some(key_inputs);
                plan.state = State::Run;
                plan.key = Some(key);
                plan.notes = self.failure(spec, &reasons);
                plan.reasons = reasons;
                plan.last = self.last(spec)?.map(Box::new);
                return Ok(plan);
            }
            Decision::Cached { key, action } => (State::Cached, key, action),
            Decision::Fetch { key, found, bytes } => {
                plan.remote = Some((found.remote, bytes));
                (State::Fetch, key, Box::new((*found.action).clone()))
            }
        };
        for (name, output) in &mut plan.outputs {
            output.artifact = action.outputs.get(name).copied();
        }
        plan.state = state;
        plan.notes = self.notes(spec, &action);
        plan.key = Some(key);
        plan.last = Some(action);
        Ok(plan)
    }

    /// A stage below one that may give other bytes: it is kept if they turn out the same.
    fn plan_waiting(
        &self,
        ix: StageIx,
        known: BTreeMap<String, ArtifactRef>,
        waits_on: Vec<String>,
    ) -> Result<StagePlan, PlanError> {
        let spec = self.graph.stage(ix);
        let mut plan = blank(ix, spec);
        plan.state = State::Maybe;
        plan.reasons = waits_on.iter().map(|above| reasons::waits(spec, above)).collect();
        plan.waits_on = waits_on;
        plan.last = self.last(spec)?.map(Box::new);
        if self.settings.forced.contains(&spec.name.value) {
            plan.state = State::Run;
            plan.reasons.insert(0, reasons::forced(spec));
        }
        let now = self.key_inputs(ix, known)?;
        if let Some(last) = &plan.last {
            let mut own = reasons::compare(spec, Some(&last.key_inputs.value()), &now);
            // An input that is not known yet is not an input that was taken away.
            own.retain(|r| r.cause != Cause::Input || r.new.is_some() || !given(spec, &r.what));
            plan.reasons.extend(own);
        }
        plan.key_inputs = Some(now);
        Ok(plan)
    }

    pub(super) fn key_inputs(
        &self,
        ix: StageIx,
        inputs: BTreeMap<String, ArtifactRef>,
    ) -> Result<Value, PlanError> {
        let stage = self.graph.stage(ix);
        let provider = match &stage.work {
            Work::Kind { provider, .. } => Some(
                self.settings
                    .providers
                    .get(*provider)
                    .ok_or_else(|| PlanError::UnknownProvider(stage.name.value.clone()))?,
            ),
            Work::Command { .. } | Work::Download(_) => None,
        };
        let uses = self.sources.uses(stage)?.into_iter().map(|(name, file)| (name, file.artifact)).collect();
        let (threads, platform) = (self.threads(ix), platform());
        Ok(KeyInputs { inputs, uses, provider, threads, platform }.to_json(stage))
    }

    /// Every input that the file gives must be known: none is ever left out in silence.
    fn check_inputs(&self, ix: StageIx, inputs: &BTreeMap<String, ArtifactRef>) -> Result<(), PlanError> {
        let stage = self.graph.stage(ix);
        match stage.inputs.keys().find(|name| !inputs.contains_key(*name)) {
            None => Ok(()),
            Some(input) => Err(PlanError::MissingInput {
                stage: stage.name.value.clone(),
                input: input.clone(),
                from: reasons::producer(stage, input).unwrap_or_default(),
            }),
        }
    }

    /// The key of an exact stage names its threads, so that it must get all of them. Another machine checks that itself.
    fn check_cores(&self, ix: StageIx) -> Result<(), PlanError> {
        let (stage, wanted, cores) = (self.graph.stage(ix), self.threads(ix), self.settings.cores);
        if !stage.exact || wanted <= cores || self.settings.away.contains(&stage.name.value) {
            return Ok(());
        }
        let (span, stage) = (stage.name.span, stage.name.value.clone());
        Err(PlanError::TooFewCores { stage, wanted, cores, span })
    }

    /// Why a stage runs whose key is not known.
    fn changes(&self, stage: &Stage, key_inputs: &Value) -> Result<Vec<Reason>, PlanError> {
        let last = self.last(stage)?;
        let mut reasons = reasons::compare(stage, last.map(|a| a.key_inputs.value()).as_ref(), key_inputs);
        if reasons.is_empty() {
            reasons.push(reasons::never_ran(stage));
        }
        Ok(reasons)
    }

    /// What the local store knows of a key of the stage.
    pub(super) fn known(&self, stage: &Stage, key: &Digest) -> Result<Known, PlanError> {
        let Some(action) = self.store.action(key)? else {
            let unsigned = self.store.trust().demanded && self.store.actions().get(key)?.is_some();
            return Ok(if unsigned { Known::Untrusted } else { Known::Nowhere });
        };
        let lost = self.store.outputs_intact(&action, stage.outputs.iter().map(|port| &port.name))?;
        Ok(match lost {
            None => Known::Here(Box::new(action)),
            Some(output) if action.outputs.contains_key(&output) => Known::Lost(Lost::Missing(output)),
            Some(output) => Known::Lost(Lost::Unrecorded(output)),
        })
    }

    /// The stage's last successful action in this pipeline: it is here, or a run has left it in a remote.
    fn last(&self, stage: &Stage) -> Result<Option<Action>, PlanError> {
        let Some(key) = self.last_keys.get(&stage.name.value) else { return Ok(None) };
        match self.store.action(key)? {
            Some(action) => Ok(Some(action)),
            None => Ok(self.elsewhere(stage, key).map(|found| (*found.action).clone())),
        }
    }
}

/// Whether `what` (`inputs.NAME`) is an input that the stage has.
fn given(stage: &Stage, what: &str) -> bool {
    what.strip_prefix("inputs.").is_some_and(|name| stage.inputs.contains_key(name))
}

/// Takes time and bytes from the last successful run.
fn with_forecast(mut plan: StagePlan) -> StagePlan {
    if let Some(last) = &plan.last {
        plan.seconds = Some(last.provenance.seconds).filter(|s| s.is_finite() && *s >= 0.0);
        plan.bytes = Some(last.outputs.values().fold(0, |sum, output| sum.saturating_add(output.size)));
    }
    plan
}

fn blank(ix: StageIx, stage: &Stage) -> StagePlan {
    let output = |artifact_type: &str| PlannedOutput { artifact_type: artifact_type.into(), artifact: None };
    let outputs = stage.outputs.iter();
    StagePlan {
        stage: ix,
        name: stage.name.value.clone(),
        kind: stage.kind().to_owned(),
        state: State::Cached,
        key: None,
        key_inputs: None,
        reasons: Vec::new(),
        outputs: outputs.map(|p| (p.name.clone(), output(p.types.first().map_or("any", |t| t)))).collect(),
        waits_on: Vec::new(),
        last: None,
        seconds: None,
        bytes: None,
        resumes: None,
        remote: None,
        notes: Vec::new(),
    }
}
