//! How stages end, and what is reported of it.
//!
//! Purpose: makes the report of each stage, without secrets, and remembers its outputs for those below it.
//! Invariant: a stage has one report, save for one that runs again because its outputs proved missing.
//! Must not know: when a stage runs, what the scheduler does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::driver::Driver;
use crate::cas::types::{Action, ArtifactRef};
use crate::sched::types::{Input, Slot, Why};
use crate::sched::{Event, StageReport};
use crate::state::StageOutcome;

impl Driver {
    /// The outputs of a stage are in the store: nothing is to be done.
    pub(super) fn found(&mut self, slot: Slot, action: &Action, outcome: StageOutcome) {
        let provenance = &action.provenance;
        let (outputs, summary) = (action.outputs.clone(), provenance.summary.clone());
        self.set_outputs(slot, &outputs);
        let stage = &mut self.stages[slot];
        stage.key_inputs = Some(action.key_inputs.clone());
        let blank = self.report(slot, outcome);
        self.finish(slot, StageReport { outputs, summary, saved: provenance.seconds.max(0.0), ..blank });
    }

    /// Remembers the outputs of a stage for those below it. Those that were done with other ones are done again.
    pub(super) fn set_outputs(&mut self, slot: Slot, outputs: &BTreeMap<String, ArtifactRef>) {
        let known = &mut self.stages[slot].outputs;
        let changed = !known.is_empty() && known != outputs;
        known.clone_from(outputs);
        if changed {
            self.feed(Input::OutputsChanged(slot));
        }
    }

    pub(super) fn skip(&mut self, slot: Slot, why: Why) {
        let error = match why {
            Why::Needs(failed) => format!("`{}` failed", self.name(failed)),
            Why::After(failed) => {
                format!("not started, since `{}` failed (--keep-going goes on)", self.name(failed))
            }
            Why::Full => {
                "not submitted, since there are as many jobs as `max_jobs` of its executor allows".to_owned()
            }
            Why::Interrupted if self.has_detached => {
                "not submitted yet, since it waits for jobs that go on".to_owned()
            }
            Why::Interrupted => "the run was interrupted".to_owned(),
        };
        let blank = self.report(slot, StageOutcome::Skipped);
        self.finish(slot, StageReport { error: Some(error), ..blank });
    }

    pub(super) fn fail_missing(&mut self, slot: Slot, producer: Slot) {
        let error = format!(
            "an output of `{}` is missing or damaged in the store although the stage has just made it again; \
             check the disk",
            self.name(producer)
        );
        self.finish_failed(slot, error, None);
    }

    pub(super) fn finish_failed(&mut self, slot: Slot, error: String, log: Option<(PathBuf, Vec<String>)>) {
        let blank = self.report(slot, StageOutcome::Failed);
        self.finish(slot, StageReport { error: Some(error), log, ..blank });
    }

    pub(super) fn finish(&mut self, slot: Slot, mut report: StageReport) {
        report.error = report.error.map(|error| self.context.masks.text(error));
        self.stages[slot].job = None;
        let report = Arc::new(report);
        self.stages[slot].report = Some(Arc::clone(&report));
        self.emit(Event::StageFinished(report));
    }

    /// A report with what is known of the stage, to be filled in.
    pub(super) fn report(&self, slot: Slot, outcome: StageOutcome) -> StageReport {
        let stage = &self.stages[slot];
        let seconds = stage.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        StageReport {
            name: self.name(slot),
            kind: self.context.graph.stage(stage.index).kind().to_owned(),
            key: stage.key,
            key_inputs: stage.key_inputs.clone(),
            outcome,
            seconds,
            saved: 0.0,
            outputs: BTreeMap::new(),
            summary: Vec::new(),
            error: None,
            log: None,
            kept: true,
        }
    }

    pub(super) fn name(&self, slot: Slot) -> String {
        self.context.graph.stage(self.stages[slot].index).name.value.clone()
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
}
