//! The one decision: must this stage run, and why.
//!
//! Purpose: ingredients -> key -> action -> [`Decision`], and a whole [`Plan`] made of such
//! decisions. The executor asks the same function, stage by stage, as outputs become known.
//! Invariant: never locks, never runs, and writes nothing but the store's stat cache; a source is
//! looked at once in a planner's life.
//! Must not know: how a plan is printed or executed.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::digest::Digest;
use crate::graph::{Graph, Producer};
use crate::plan::PlanError;
use crate::plan::ingredients::{Surroundings, ingredients, key};
use crate::plan::reasons;
use crate::plan::source::{SourceFiles, source_files};
use crate::plan::types::{Cause, Decision, Plan, PlannedOutput, Reason, Settings, StageIx, StagePlan, State};
use crate::spec::types::{Stage, Work};
use crate::store::Store;
use crate::store::types::{Action, ArtifactRef};

/// Decides what must run.
pub struct Planner<'a> {
    graph: &'a Graph,
    store: &'a Store,
    settings: Settings,
    last_keys: BTreeMap<String, Digest>,
    sources: HashMap<String, ArtifactRef>,
}

impl<'a> Planner<'a> {
    /// A planner for a graph over a store.
    ///
    /// # Errors
    /// The store's index of last keys cannot be read.
    pub fn new(graph: &'a Graph, store: &'a Store, settings: Settings) -> Result<Self, PlanError> {
        let last_keys = store.runs().last_keys(&graph.pipeline().name)?;
        Ok(Self { graph, store, settings, last_keys, sources: HashMap::new() })
    }

    /// The artifact of a source as it is now.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn source(&mut self, name: &str) -> Result<ArtifactRef, PlanError> {
        if let Some(known) = self.sources.get(name) {
            return Ok(*known);
        }
        let artifact = match self.source_files(name)? {
            SourceFiles::Path(path) => self.store.identify(&path)?,
            SourceFiles::Glob { base, files } => self.store.identify_glob(&base, &files)?,
        };
        self.sources.insert(name.to_owned(), artifact);
        Ok(artifact)
    }

    /// The files of a source as they are now.
    ///
    /// # Errors
    /// There is none.
    pub fn source_files(&self, name: &str) -> Result<SourceFiles, PlanError> {
        let pipeline = self.graph.pipeline();
        let source = pipeline.sources.get(name).ok_or_else(|| PlanError::UnknownSource(name.into()))?;
        source_files(&pipeline.root, name, source)
    }

    /// The cores that a stage gets: what it asks for, or all of the machine.
    pub fn threads(&self, stage: StageIx) -> u32 {
        match self.graph.stage(stage).resources.cpus {
            0 => self.settings.cores,
            some => some,
        }
    }

    /// Decides on a stage whose inputs are all known, by port.
    ///
    /// # Errors
    /// The store fails, or a file under `uses` is missing.
    pub fn decide(
        &mut self,
        stage: StageIx,
        inputs: &BTreeMap<String, ArtifactRef>,
    ) -> Result<Decision, PlanError> {
        let ingredients = self.ingredients(stage, inputs.clone())?;
        let key = key(&ingredients);
        let spec = self.graph.stage(stage);
        let found = self.store.action(&key)?;
        if self.settings.forced.contains(&spec.name.value) {
            return Ok(Decision::Run { key, ingredients, reasons: vec![reasons::forced(spec)] });
        }
        if let Some(action) = found {
            return Ok(match self.missing_output(spec, &action)? {
                None => Decision::Cached { key, action: Box::new(action) },
                Some(output) => {
                    let reasons = vec![reasons::output_missing(spec, &output)];
                    Decision::Run { key, ingredients, reasons }
                }
            });
        }
        let last = self.last(spec)?;
        let mut reasons = reasons::compare(spec, last.as_ref().map(|a| &a.ingredients), &ingredients);
        if reasons.is_empty() {
            reasons.push(reasons::never_ran(spec));
        }
        Ok(Decision::Run { key, ingredients, reasons })
    }

    /// The plan of the stages needed for the targets; of all when none is named.
    ///
    /// # Errors
    /// The store fails, or a source or a file under `uses` is missing.
    pub fn plan(&mut self, targets: &[StageIx]) -> Result<Plan, PlanError> {
        let mut done: HashMap<StageIx, StagePlan> = HashMap::with_capacity(targets.len());
        for &ix in targets {
            let stage_plan = self.plan_stage(ix, &done)?;
            done.insert(ix, stage_plan);
        }
        let pipeline = self.graph.pipeline();
        Ok(Plan {
            pipeline: pipeline.name.clone(),
            file: pipeline.file.clone(),
            stages: targets.iter().filter_map(|ix| done.remove(ix)).collect(),
        })
    }

    fn plan_stage(
        &mut self,
        ix: StageIx,
        above: &HashMap<StageIx, StagePlan>,
    ) -> Result<StagePlan, PlanError> {
        let graph = self.graph;
        let mut known = BTreeMap::new();
        let mut waits_on: Vec<String> = Vec::new();
        for input in graph.inputs(ix) {
            let artifact = match input.from {
                Producer::Source(name) => Some(self.source(name)?),
                Producer::Stage { index, output } => {
                    let made = above.get(&index).and_then(|s| s.outputs.get(&output.name)?.artifact);
                    let name = &graph.stage(index).name.value;
                    if made.is_none() && !waits_on.contains(name) {
                        waits_on.push(name.clone());
                    }
                    made
                }
            };
            known.extend(artifact.map(|a| (input.name.to_owned(), a)));
        }
        if waits_on.is_empty() { self.plan_known(ix, &known) } else { self.plan_waiting(ix, known, waits_on) }
    }

    fn plan_known(
        &mut self,
        ix: StageIx,
        inputs: &BTreeMap<String, ArtifactRef>,
    ) -> Result<StagePlan, PlanError> {
        let spec = self.graph.stage(ix);
        let mut plan = blank(ix, spec);
        match self.decide(ix, inputs)? {
            Decision::Cached { key, action } => {
                for (name, output) in &mut plan.outputs {
                    output.artifact = action.outputs.get(name).copied();
                }
                plan.notes = self.notes(spec, &action);
                plan.key = Some(key);
                plan.last = Some(action);
            }
            Decision::Run { key, ingredients, reasons } => {
                plan.key_inputs = Some(ingredients);
                plan.state = State::Run;
                plan.key = Some(key);
                plan.reasons = reasons;
                plan.last = self.last(spec)?.map(Box::new);
            }
        }
        Ok(plan)
    }

    /// A stage below one that may give other bytes: it is kept if they turn out the same.
    fn plan_waiting(
        &mut self,
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
        let now = self.ingredients(ix, known)?;
        if let Some(last) = &plan.last {
            let mut own = reasons::compare(spec, Some(&last.ingredients), &now);
            // An input that is not known yet is not an input that was taken away.
            own.retain(|r| r.cause != Cause::Input || r.new.is_some() || !given(spec, &r.what));
            plan.reasons.extend(own);
        }
        plan.key_inputs = Some(now);
        Ok(plan)
    }

    fn ingredients(&self, ix: StageIx, inputs: BTreeMap<String, ArtifactRef>) -> Result<Value, PlanError> {
        let stage = self.graph.stage(ix);
        let (provider, uses) = match &stage.work {
            Work::Kind { provider, .. } => (self.settings.providers.get(*provider), BTreeMap::new()),
            Work::Command { .. } => (None, self.uses(stage)?),
        };
        let around = Surroundings { inputs, uses, provider, threads: self.threads(ix) };
        Ok(ingredients(stage, &around))
    }

    fn uses(&self, stage: &Stage) -> Result<BTreeMap<String, ArtifactRef>, PlanError> {
        let Work::Command { uses, .. } = &stage.work else { return Ok(BTreeMap::new()) };
        let root = &self.graph.pipeline().root;
        let mut found = BTreeMap::new();
        for used in uses {
            let path = root.join(&used.value);
            if !path.exists() {
                let (stage, path) = (stage.name.value.clone(), used.value.clone());
                return Err(PlanError::NoUses { stage, path, at: used.at });
            }
            found.insert(used.value.clone(), self.store.identify(&path)?);
        }
        Ok(found)
    }

    /// The first output of the stage that the action does not name or the store does not hold.
    fn missing_output(&self, stage: &Stage, action: &Action) -> Result<Option<String>, PlanError> {
        for port in &stage.outputs {
            let whole = match action.outputs.get(&port.name) {
                Some(artifact) => self.store.is_whole(artifact)?,
                None => false,
            };
            if !whole {
                return Ok(Some(port.name.clone()));
            }
        }
        Ok(None)
    }

    /// The stage's last successful action in this pipeline.
    fn last(&self, stage: &Stage) -> Result<Option<Action>, PlanError> {
        match self.last_keys.get(&stage.name.value) {
            Some(key) => Ok(self.store.action(key)?),
            None => Ok(None),
        }
    }

    fn notes(&self, stage: &Stage, action: &Action) -> Vec<String> {
        let Work::Kind { provider, revision, .. } = &stage.work else { return Vec::new() };
        let now = self.settings.providers.get(*provider).and_then(|p| p.program);
        match (action.provenance.provider, now) {
            (Some(then), Some(now)) if then != now => vec![format!(
                "the provider's program changed ({} -> {}) and the kind's revision {revision} did not; \
                 `--force {}` runs it again",
                then.short(),
                now.short(),
                stage.name.value
            )],
            _ => Vec::new(),
        }
    }
}

/// Whether `what` (`inputs.NAME`) is an input that the stage has.
fn given(stage: &Stage, what: &str) -> bool {
    what.strip_prefix("inputs.").is_some_and(|name| stage.inputs.contains_key(name))
}

fn blank(ix: StageIx, stage: &Stage) -> StagePlan {
    let kind = match &stage.work {
        Work::Kind { kind, .. } => kind.clone(),
        Work::Command { .. } => "command".to_owned(),
    };
    let output = |artifact_type: &str| PlannedOutput { artifact_type: artifact_type.into(), artifact: None };
    let outputs = stage.outputs.iter();
    StagePlan {
        stage: ix,
        name: stage.name.value.clone(),
        kind,
        state: State::Cached,
        key: None,
        key_inputs: None,
        reasons: Vec::<Reason>::new(),
        outputs: outputs.map(|p| (p.name.clone(), output(p.types.first().map_or("any", |t| t)))).collect(),
        waits_on: Vec::new(),
        last: None,
        notes: Vec::new(),
    }
}
