//! A run for scripts: `kiln.run/1`.
//!
//! Purpose: one JSON object when the run has ended.
//! Invariant: fields that are there stay; new ones may come.
//! Must not know: how it is printed.

use serde_json::{Map, Value, json};

use crate::execute::{RunReport, StageReport};
use crate::plan::Plan;

/// The format.
const RUN_FORMAT: &str = "kiln.run/1";

/// The answer of `kiln run --json`; `plan_json` is the plan that was made before, in its own form.
pub fn run_to_json(report: &RunReport, plan: &Plan, plan_json: Value) -> Value {
    let stages: Vec<_> = report.stages.iter().map(|stage| stage_to_json(stage, plan)).collect();
    json!({
        "schema": RUN_FORMAT,
        "run": report.run,
        "pipeline": report.pipeline,
        "outcome": report.outcome,
        "seconds": report.seconds,
        "saved_seconds": report.saved(),
        "plan": plan_json,
        "stages": stages,
    })
}

fn stage_to_json(stage: &StageReport, plan: &Plan) -> Value {
    let planned = plan.stage(&stage.name);
    let artifact_type = |output: &str| planned.and_then(|p| Some(&p.outputs.get(output)?.artifact_type));
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
