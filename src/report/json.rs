//! A run for scripts: `kiln.run/1`.
//!
//! Purpose: makes one JSON object when the run has ended.
//! Invariant: existing fields keep their meaning; new fields may come.
//! Must not know: how the object is printed.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

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
        json!({
            "schema": RUN_FORMAT,
            "run": report.run,
            "pipeline": report.pipeline,
            "outcome": report.outcome,
            "seconds": report.seconds,
            "saved_seconds": report.saved(),
            "plan": self.plan.take(),
            "stages": stages,
        })
    }

    fn stage(&self, stage: &StageReport) -> Value {
        let planned = self.stages.get(stage.name.as_str());
        let artifact_type = |output: &str| Some(&planned?.get(output)?.artifact_type);
        let outputs: Map<_, _> = stage
            .outputs
            .iter()
            .map(|(name, artifact)| {
                let value = json!({
                    "type": artifact_type(name),
                    "digest": artifact.digest,
                    "size": artifact.size,
                });
                (name.clone(), value)
            })
            .collect();
        json!({
            "name": stage.name,
            "kind": stage.kind,
            "key": stage.key,
            "outcome": stage.outcome,
            "seconds": stage.seconds,
            "outputs": outputs,
            "summary": stage.summary.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
            "error": stage.error,
            "log": stage.log.as_ref().map(|(path, _)| path.display().to_string()),
            "kept": stage.kept,
        })
    }
}

impl Reporter for JsonReport<'_> {
    fn on_event(&mut self, event: &Event) {
        if let Event::RunFinished(report) = event {
            self.answer = Some(self.run(report));
        }
    }
}
