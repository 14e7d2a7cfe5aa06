//! The table after a run.
//!
//! Purpose: one line per stage: outcome, time, the numbers that matter.
//! Invariant: the order is that of the plan; a long run shows only the stages that failed.
//! Must not know: where it is printed.

use std::sync::Arc;

use super::lines::numbers;
use super::text::{printable, seconds, table};
use crate::sched::{RunReport, StageReport};
use crate::state::StageOutcome;

/// With more stages than this, only those that failed are shown.
const MANY: usize = 30;

/// The most characters of an error.
const MOST_ERROR: usize = 80;

/// The lines of the table; none when no stage is shown.
pub fn lines(report: &RunReport) -> Vec<String> {
    let many = report.stages.len() > MANY;
    let shown = |stage: &&Arc<StageReport>| !many || stage.outcome == StageOutcome::Failed;
    let rows: Vec<_> = report.stages.iter().filter(shown).map(|stage| row(stage)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let head = ["stage", "", "time", "numbers"].map(str::to_owned).to_vec();
    table(&[vec![head], rows].concat()).into_iter().map(|line| format!("  {line}")).collect()
}

/// The first clause of an error; the whole of it stands above the table.
fn short(error: &str) -> String {
    let clause = error.split([';', '\n']).next().unwrap_or_default();
    let mut text = printable(&clause.chars().take(MOST_ERROR).collect::<String>());
    if clause.chars().nth(MOST_ERROR).is_some() {
        text.push('…');
    }
    text
}

fn row(stage: &StageReport) -> Vec<String> {
    let (word, time) = match stage.outcome {
        StageOutcome::Cached => ("cached", format!("({})", seconds(stage.saved))),
        StageOutcome::Fetched => ("from remote", seconds(stage.seconds)),
        StageOutcome::Ran => ("ran", seconds(stage.seconds)),
        StageOutcome::Failed => ("failed", seconds(stage.seconds)),
        StageOutcome::Skipped => ("skipped", String::new()),
        StageOutcome::Waiting => ("waiting", String::new()),
        StageOutcome::Detached => ("on a cluster", String::new()),
    };
    let numbers = match &stage.error {
        Some(error) => short(error),
        None => numbers(&stage.summary),
    };
    vec![printable(&stage.name), word.to_owned(), time, numbers]
}
