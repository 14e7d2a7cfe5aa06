//! The update of the lock file when a run ends.
//!
//! Purpose: writes the stanzas of the stages that are up to date.
//! Invariant: stages without a result keep the stanza they had; stages that the pipeline no longer has
//! lose theirs.
//! Must not know: how stages ran.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::file::{LockFile, LockFileError};
use super::stanza::{self, KEY, OUTPUTS, yaml_key};
use crate::sched::{Event, Reporter, StageReport};
use crate::spec::types::Pipeline;

/// Updates the lock file of a pipeline.
pub struct LockFileReporter<'a> {
    pipeline: &'a Pipeline,
}

impl<'a> LockFileReporter<'a> {
    /// For this pipeline, as its file says it: a run with `--set` or `--unset` must not have this reporter.
    pub fn new(pipeline: &'a Pipeline) -> Self {
        Self { pipeline }
    }

    fn update(&self, reports: &[Arc<StageReport>]) -> Result<(), LockFileError> {
        let mut old = LockFile::of(self.pipeline.file())?;
        let is_current = old.is_current();
        let reports: HashMap<_, _> = reports.iter().map(|report| (report.name.as_str(), &**report)).collect();
        let mut stanzas = BTreeMap::new();
        let mut known = std::mem::take(&mut old.stanzas);
        for stage in &self.pipeline.stages {
            let name = yaml_key(&stage.name.value);
            let before = known.remove(&name);
            let report = reports.get(stage.name.value.as_str()).copied();
            let now = match (&before, report) {
                (Some(before), Some(report)) if is_current && says(before, report) => None,
                (_, report) => report.and_then(stanza_of),
            };
            stanzas.extend(now.or(before).map(|stanza| (name, stanza)));
        }
        old.replace(&stanzas)
    }
}

impl Reporter for LockFileReporter<'_> {
    fn on_event(&mut self, event: &Event) {
        if let Event::RunFinished(report) = event
            && let Err(e) = self.update(&report.stages)
        {
            tracing::warn!("the lock file was not updated: {e}");
        }
    }
}

fn stanza_of(report: &StageReport) -> Option<String> {
    let (key, key_inputs) = report.key.zip(report.key_inputs.as_ref())?;
    (report.is_done() && report.kept).then(|| stanza::write(key, &key_inputs.value(), &report.outputs))
}

/// Whether a stanza has the key and the outputs of a report; then the rest is the same.
fn says(stanza: &str, report: &StageReport) -> bool {
    let Some(key) = report.key.map(|key| key.to_string()) else { return false };
    let mut lines = stanza.lines();
    let value = |line: &str, name: &str| {
        Some(line.trim_start().strip_prefix(name)?.strip_prefix(": \"")?.strip_suffix('"')?.to_owned())
    };
    if lines.next().and_then(|line| value(line, KEY)) != Some(key) {
        return false;
    }
    let mut outputs = lines.skip_while(|line| *line != format!("    {OUTPUTS}:")).skip(1);
    let mut same = report.outputs.iter().map(|(name, artifact)| {
        outputs.next().and_then(|line| value(line, &yaml_key(name))) == Some(artifact.digest.to_string())
    });
    same.all(|same| same) && outputs.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::types::ArtifactRef;
    use crate::digest::{CanonicalJson, Digest};
    use crate::state::StageOutcome;
    use serde_json::json;

    #[test]
    fn a_stanza_is_written_anew_only_when_the_key_or_an_output_differs() {
        let artifact = |text: &str| ArtifactRef {
            digest: Digest::of_bytes(text.as_bytes()),
            tree: false,
            executable: false,
            size: 1,
        };
        let report = StageReport {
            name: "s".into(),
            kind: "command".into(),
            key: Some(Digest::of_bytes(b"key")),
            key_inputs: Some(CanonicalJson::of(&json!({ "kind": "command", "params": { "key": "x" } }))),
            outcome: StageOutcome::Ran,
            seconds: 1.0,
            saved: 0.0,
            outputs: BTreeMap::from([("a".into(), artifact("a")), ("b".into(), artifact("b"))]),
            summary: Vec::new(),
            error: None,
            log: None,
            kept: true,
        };
        let stanza = stanza_of(&report).unwrap();
        assert!(says(&stanza, &report), "{stanza}");
        let other = StageReport { key: Some(Digest::of_bytes(b"other")), ..report.clone() };
        assert!(!says(&stanza, &other));
        let mut other = report.clone();
        other.outputs.insert("b".into(), artifact("c"));
        assert!(!says(&stanza, &other));
        other.outputs.remove("b");
        assert!(!says(&stanza, &other));
        assert_eq!(stanza_of(&StageReport { kept: false, ..report }), None);
    }
}
