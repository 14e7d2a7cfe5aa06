//! A run for scripts: `kiln.run/1`.
//!
//! Purpose: makes one JSON object when the run has ended.
//! Invariant: existing fields keep their meaning; new fields may come.
//! Must not know: how the object is printed.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::cas::types::ArtifactRef;
use crate::plan::types::PlannedOutput;
use crate::plan::{Plan, StagePlan};
use crate::sched::{Event, Reporter, RunReport, StageReport};

/// The format.
const RUN_FORMAT: &str = "kiln.run/1";

/// Makes the answer of `kiln run --json`.
pub struct JsonReport<'a> {
    stages: HashMap<&'a str, &'a BTreeMap<String, PlannedOutput>>,
    plan: Value,
    answer: Option<Value>,
}

impl<'a> JsonReport<'a> {
    /// A report of the run of this plan; `plan_json` is the plan in its own form.
    pub fn new(plan: &'a Plan, plan_json: Value) -> Self {
        let outputs = |stage: &'a StagePlan| (stage.name.as_str(), &stage.outputs);
        Self { stages: plan.stages.iter().map(outputs).collect(), plan: plan_json, answer: None }
    }

    /// The answer; none before the run has ended.
    pub fn into_answer(self) -> Option<Value> {
        self.answer
    }

    fn run(&mut self, report: &RunReport) -> Value {
        let stages: Vec<_> = report.stages.iter().map(|stage| self.stage(stage)).collect();
        let mut answer = json!({
            "schema": RUN_FORMAT,
            "run": report.run,
            "pipeline": report.pipeline,
            "outcome": report.outcome,
            "seconds": report.seconds,
            "saved_seconds": report.saved(),
        });
        // The macro would copy them.
        answer["plan"] = self.plan.take();
        answer["stages"] = stages.into();
        answer
    }

    fn stage(&self, stage: &StageReport) -> Value {
        let planned = self.stages.get(stage.name.as_str());
        let artifact_type = |output: &str| Some(&planned?.get(output)?.artifact_type);
        let output = |(name, artifact): (&String, &ArtifactRef)| {
            let (digest, size) = (artifact.digest, artifact.size);
            (name.clone(), json!({ "type": artifact_type(name), "digest": digest, "size": size }))
        };
        let mut answer = json!({
            "name": stage.name,
            "kind": stage.kind,
            "key": stage.key,
            "outcome": stage.outcome,
            "seconds": stage.seconds,
            "summary": stage.summary,
            "error": stage.error,
            "log": stage.log.as_ref().map(|(path, _)| path.display().to_string()),
            "kept": stage.kept,
        });
        answer["outputs"] = stage.outputs.iter().map(output).collect();
        answer
    }
}

impl Reporter for JsonReport<'_> {
    fn on_event(&mut self, event: &Event) {
        if let Event::RunFinished(report) = event {
            self.answer = Some(self.run(report));
        }
    }
}
