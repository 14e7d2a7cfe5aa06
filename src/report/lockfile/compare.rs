//! What differs from a lock file.
//!
//! Purpose: compares a plan with the lock file before anything runs, and the outputs after the run
//! (`--locked`).
//! Invariant: before the run everything but outputs is compared, as far as it is known: the digest of an
//! input that a stage must make first is not.
//! Must not know: how differences are printed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::file::LockFile;
use super::stanza::{self, Fields, KEY, OUTPUTS};
use crate::cas::types::ArtifactRef;
use crate::plan::{Plan, StagePlan, State};
use crate::sched::{Event, Reporter};

/// A field of a stage that is not what the lock file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The name of the stage.
    pub stage: String,
    /// The field, such as `params.steps`; `stage` for a stage that only one side has.
    pub field: String,
    /// The value in the lock file.
    pub locked: Option<Value>,
    /// The value now.
    pub now: Option<Value>,
}

impl Difference {
    /// The difference for scripts.
    pub fn to_json(&self) -> Value {
        json!({ "stage": self.stage, "field": self.field, "locked": self.locked, "now": self.now })
    }
}

/// What differs between a lock file and a plan. With `whole` the plan has all stages of the pipeline, and a
/// stage that only the lock file has is a difference.
pub fn compare(lock: &LockFile, plan: &Plan, whole: bool) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut rest: BTreeMap<&str, &str> =
        lock.stanzas.iter().map(|(name, stanza)| (name.as_str(), stanza.as_str())).collect();
    for stage in &plan.stages {
        match rest.remove(stanza::yaml_key(&stage.name).as_str()) {
            Some(stanza) => differences.extend(compare_stage(stage, stanza::read(stanza))),
            None => differences.push(Difference {
                stage: stage.name.clone(),
                field: "stage".into(),
                locked: None,
                now: Some(stage.kind.clone().into()),
            }),
        }
    }
    if whole {
        differences.extend(rest.into_iter().map(|(name, stanza)| Difference {
            stage: serde_json::from_str(name).unwrap_or_else(|_| name.to_owned()),
            field: "stage".into(),
            locked: stanza::read(stanza).remove("kind"),
            now: None,
        }));
    }
    differences
}

fn compare_stage(stage: &StagePlan, mut locked: Fields) -> Vec<Difference> {
    let now = stage.key_inputs().map(|inputs| stanza::fields(stage.key, &inputs)).unwrap_or_default();
    let is_known = |field: &String| match field.split_once('.') {
        Some((OUTPUTS, _)) => false,
        Some(("inputs", _)) if stage.key.is_none() => now.contains_key(field),
        _ => field != KEY || stage.key.is_some(),
    };
    locked.retain(|field, _| is_known(field));
    let differences = fields_that_differ(&stage.name, &locked, &now);
    // The key says no more than the fields that it is made from.
    match differences.len() {
        1 => differences,
        _ => differences.into_iter().filter(|difference| difference.field != KEY).collect(),
    }
}

fn fields_that_differ(stage: &str, locked: &Fields, now: &Fields) -> Vec<Difference> {
    let mut names: Vec<_> = locked.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let same = |name: &String| match (locked.get(name), now.get(name)) {
        (Some(locked), Some(now)) => {
            crate::digest::canonical_json(locked) == crate::digest::canonical_json(now)
        }
        _ => false,
    };
    let difference = |name: &String| Difference {
        stage: stage.to_owned(),
        field: name.clone(),
        locked: locked.get(name).cloned(),
        now: now.get(name).cloned(),
    };
    names.into_iter().filter(|name| !same(name)).map(difference).collect()
}

/// Compares the outputs of a run with a lock file.
pub struct LockCheck<'a> {
    lock: &'a LockFile,
    differences: Vec<Difference>,
}

impl<'a> LockCheck<'a> {
    /// For this lock file.
    pub fn new(lock: &'a LockFile) -> Self {
        Self { lock, differences: Vec::new() }
    }

    /// The outputs that are not what the lock file says.
    pub fn into_differences(self) -> Vec<Difference> {
        self.differences
    }
}

/// The outputs of a stage that are not what the lock file says.
fn outputs_that_differ(
    lock: &LockFile,
    stage: &str,
    outputs: &BTreeMap<String, ArtifactRef>,
) -> Vec<Difference> {
    let stanza = lock.stanza(stage).map(stanza::read).unwrap_or_default();
    let prefix = format!("{OUTPUTS}.");
    let locked = stanza.into_iter().filter(|(field, _)| field.starts_with(&prefix)).collect();
    let now = outputs.iter();
    let now = now.map(|(name, a)| (format!("{prefix}{name}"), a.digest.to_string().into())).collect();
    fields_that_differ(stage, &locked, &now)
}

/// The outputs that the store has and that are not what the lock file says.
pub fn compare_outputs(lock: &LockFile, plan: &Plan) -> Vec<Difference> {
    let cached = plan.stages.iter().filter(|stage| stage.state == State::Cached);
    let known = cached.filter_map(|stage| Some((&stage.name, stage.last.as_ref()?)));
    known.flat_map(|(name, action)| outputs_that_differ(lock, name, &action.outputs)).collect()
}

impl Reporter for LockCheck<'_> {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::StageFinished(report) if report.is_done() => {
                self.differences.extend(outputs_that_differ(self.lock, &report.name, &report.outputs));
            }
            _ => {}
        }
    }
}
