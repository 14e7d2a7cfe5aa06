//! Tests of the planner, and a small project for them.

#![allow(clippy::unwrap_used)]

mod key_inputs;
mod planner;
mod reasons;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::cas::Store;
use crate::cas::types::{ACTION_FORMAT, Action, ArtifactRef, Provenance};
use crate::digest::{CanonicalJson, Digest};
use crate::graph::{self, Graph};
use crate::plan::{Decision, Plan, PlanError, Planner, Settings, State};
use crate::protocol::{Description, Kind, PROTOCOL, Port};
use crate::provider::ProviderFacts;
use crate::spec::{LoadOptions, Providers};

/// A folder with a pipeline, files and a store.
pub struct Project {
    folder: TempDir,
    pub store: Arc<Store>,
    pub facts: ProviderFacts,
    pub forced: BTreeSet<String>,
    /// What the provider offers.
    pub offer: Offer,
    pub cores: u32,
}

impl Project {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("artifacts")).unwrap());
        let facts = ProviderFacts { name: "test".into(), ..ProviderFacts::default() };
        let (forced, offer) = (BTreeSet::new(), Offer { revision: 1, outputs: vec!["model"] });
        Self { folder, store, facts, forced, offer, cores: 2 }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn graph(&self, yaml: &str) -> Graph {
        self.write("kiln.yaml", yaml);
        let file = self.root().join("kiln.yaml");
        graph::load(&file, &LoadOptions::new(self.root()), &mut self.offer.clone())
            .map_err(|errors| crate::spec::diagnostic::render(&errors))
            .unwrap()
    }

    pub fn planner(&self, graph: Graph) -> Planner {
        let settings = Settings {
            away: Default::default(),
            forced: self.forced.clone(),
            cores: self.cores,
            providers: vec![self.facts.clone()],
            locked: BTreeMap::new(),
        };
        Planner::new(Arc::new(graph), Arc::clone(&self.store), settings).unwrap()
    }

    pub fn try_plan(&self, yaml: &str) -> Result<Plan, PlanError> {
        let graph = self.graph(yaml);
        let order = graph.order().to_vec();
        self.planner(graph).plan(&order)
    }

    pub fn plan(&self, yaml: &str) -> Plan {
        self.try_plan(yaml).unwrap()
    }

    /// Does the work of every stage that must run, as an executor would; each output holds what
    /// `make` says, a file with the stage's and the output's name otherwise. Gives the names of the
    /// stages that ran.
    pub fn run_with(&self, yaml: &str, make: impl Fn(&str, &str) -> Option<String>) -> Vec<String> {
        let graph = self.graph(yaml);
        let planner = self.planner(graph.clone());
        let run = self.store.history().begin(&graph.pipeline().name, "kiln.yaml").unwrap();
        let mut ran = Vec::new();
        let mut made: BTreeMap<usize, BTreeMap<String, ArtifactRef>> = BTreeMap::new();
        for &ix in graph.order() {
            let name = &graph.stage(ix).name.value;
            let inputs = graph.inputs(ix).into_iter().map(|input| {
                let artifact = match input.from {
                    graph::Producer::Source(name) => planner.sources().source(name).unwrap(),
                    graph::Producer::Stage { index, output } => made[&index][&output.name],
                };
                (input.name.to_owned(), artifact)
            });
            let inputs: BTreeMap<_, _> = inputs.collect();
            let action = match planner.decide(ix, &inputs).unwrap() {
                Decision::Cached { action, .. } => *action,
                Decision::Fetch { .. } => unreachable!("there are no remotes"),
                Decision::Run { key, key_inputs, reasons, .. } => {
                    assert!(!reasons.is_empty());
                    ran.push(name.clone());
                    let outputs = graph.stage(ix).outputs.iter().map(|port| {
                        let text = make(name, &port.name).unwrap_or(format!("{name}.{}", port.name));
                        (port.name.clone(), self.ingest(&text))
                    });
                    let outputs = outputs.collect();
                    let action = Action {
                        format: ACTION_FORMAT.into(),
                        key,
                        key_inputs: CanonicalJson::of(&key_inputs),
                        outputs,
                        provenance: self.provenance(run.id()),
                        signatures: Vec::new(),
                    };
                    self.store.put_action(&action).unwrap();
                    action
                }
            };
            run.remember(&[(name.clone(), action.key)]).unwrap();
            made.insert(ix, action.outputs);
        }
        ran
    }

    pub fn run(&self, yaml: &str) -> Vec<String> {
        self.run_with(yaml, |_, _| None)
    }

    fn provenance(&self, run: &str) -> Provenance {
        Provenance {
            run: run.into(),
            started: "2026-01-31T18:02:00Z".into(),
            seconds: 1.0,
            kiln: env!("CARGO_PKG_VERSION").into(),
            provider: self.facts.program,
            summary: Vec::new(),
        }
    }

    fn ingest(&self, text: &str) -> ArtifactRef {
        let path = self.root().join("made");
        fs::write(&path, text).unwrap();
        self.store.ingest(&path).unwrap()
    }

    /// Takes the bytes of an artifact away.
    pub fn lose(&self, digest: &Digest) {
        let hex = digest.to_string();
        let blob = self.store.root().join("blobs").join(&hex[..2]).join(&hex[2..]);
        fs::remove_file(blob).unwrap();
    }
}

/// A provider of one kind, `train`.
#[derive(Clone)]
pub struct Offer {
    /// The kind's revision.
    pub revision: u32,
    /// Its outputs.
    pub outputs: Vec<&'static str>,
}

impl Providers for Offer {
    fn describe(&mut self, _program: Option<&Path>) -> Result<Description, String> {
        let port = |name: &str| Port {
            name: name.into(),
            types: vec!["any".into()],
            optional: false,
            summary: String::new(),
        };
        let params = serde_json::json!({
            "type": "object",
            "properties": {
                "steps": { "type": "integer", "default": 100 },
                "rate": { "type": "number", "default": 0.001 },
                "model": {
                    "type": "object",
                    "properties": { "layers": { "type": "integer", "default": 2 }, "width": { "type": "integer", "default": 64 } },
                    "default": { "layers": 2, "width": 64 },
                },
            },
        });
        let kind = Kind {
            name: "train".into(),
            revision: self.revision,
            summary: "trains".into(),
            inputs: vec![port("corpus")],
            outputs: self.outputs.iter().map(|name| port(name)).collect(),
            params,
            cpus: 1,
        };
        Ok(Description {
            protocol: PROTOCOL,
            provider: "test".into(),
            version: "1".into(),
            numerics: BTreeMap::new(),
            types: Vec::new(),
            files: Vec::new(),
            environment: Vec::new(),
            devices: Vec::new(),
            checks: false,
            inspects: false,
            kinds: vec![kind],
        })
    }
}

/// `name=state` of each stage, in the order of the plan.
pub fn states(plan: &Plan) -> Vec<String> {
    let word = |state| match state {
        State::Cached => "cached",
        State::Fetch => "fetch",
        State::Run => "run",
        State::Maybe => "maybe",
        State::People => "people",
    };
    plan.stages.iter().map(|s| format!("{}={}", s.name, word(s.state))).collect()
}

/// The reasons of a stage, one line each.
pub fn reasons(plan: &Plan, stage: &str) -> Vec<String> {
    let show = |v: &Option<serde_json::Value>| v.as_ref().map_or("-".to_owned(), |v| v.to_string());
    let stage = plan.stage(stage).unwrap();
    let line = |r: &crate::plan::types::Reason| {
        format!("{} {} {} @{}", r.what, show(&r.old), show(&r.new), r.span.start.line)
    };
    stage.reasons.iter().map(line).collect()
}
