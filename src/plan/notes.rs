//! What a plan says of a stage besides its state.
//!
//! Purpose: tell of a program that changed while its revision did not, and of a stage that failed in the last run.
//! Invariant: a note decides nothing.
//! Must not know: how a plan is printed.

use crate::cas::types::Action;
use crate::plan::planner::Planner;
use crate::plan::types::{Cause, Reason};
use crate::spec::types::{Stage, Work};
use crate::state::{StageOutcome, StageRecord};

impl Planner {
    /// That a stage without a result failed in the last run, and why.
    pub(super) fn failure(&self, stage: &Stage, reasons: &[Reason]) -> Vec<String> {
        if !reasons.iter().any(|reason| reason.cause == Cause::NeverRan) {
            return Vec::new();
        }
        let (run, failures) = self.failures.get_or_init(|| {
            // What cannot be read is left out: it is only a note.
            let latest = self.store.history().latest(&self.graph.pipeline().name).ok().flatten();
            let failed = |(name, stage): (String, StageRecord)| {
                Some((name, stage.error.filter(|_| stage.outcome == StageOutcome::Failed)?))
            };
            latest
                .map(|run| (run.id, run.stages.into_iter().filter_map(failed).collect()))
                .unwrap_or_default()
        });
        let name = &stage.name.value;
        let failure = failures.get(name).map(|why| {
            let why = why.lines().next().unwrap_or_default();
            format!("it failed in run {run}: {why}; `kiln log {name}` shows what it printed")
        });
        failure.into_iter().collect()
    }

    /// What else is to be known of a stage that is fresh: the program of its provider is another one.
    pub(super) fn notes(&self, stage: &Stage, action: &Action) -> Vec<String> {
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
