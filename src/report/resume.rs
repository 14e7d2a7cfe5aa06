//! How far a stage is, and where an interrupted one resumes.
//!
//! Purpose: the step that a running stage is at, and that at which a stage that is about to run was interrupted, from the
//! events of the run.
//! Invariant: there is an answer only where the work folder of the action key has a checkpoint; the step is
//! the last one that was reported, and the checkpoint may be some steps older after a kill.
//! Must not know: how a stage is resumed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;

use crate::cas::Store;
use crate::digest::Digest;
use crate::plan::{Plan, State};
use crate::sched::{Event, StageEvent};

/// The folder of the checkpoint in the work folder of an action key.
const CHECKPOINT: &str = "checkpoint";
/// The most runs that are searched, from the newest.
const MOST_RUNS: usize = 50;
/// The most bytes of the events of one run that are read.
const MOST_BYTES: u64 = 256 << 20;

/// Where a stage resumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ResumePoint {
    /// The last step that was reported.
    pub step: Option<u64>,
    /// The steps in all.
    pub total: Option<u64>,
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The steps that are done.
    pub step: u64,
    /// The steps in all.
    pub total: u64,
    /// The numbers that matter now, in words.
    pub note: String,
}

/// The stages of a plan that resume from a checkpoint when they run, by name.
pub fn resume_points(store: &Store, plan: &Plan) -> BTreeMap<String, ResumePoint> {
    let may_run = plan.stages.iter().filter(|stage| matches!(stage.state, State::Run | State::Maybe));
    let point = |name: &str, key: &Digest| Some((name.to_owned(), resume_point(store, name, key)?));
    may_run.filter_map(|stage| point(&stage.name, &stage.key?)).collect()
}

/// Where the stage with this action key resumes; none when it starts from the beginning.
pub fn resume_point(store: &Store, stage: &str, key: &Digest) -> Option<ResumePoint> {
    let checkpoint = fs::read_dir(store.work(key).join(CHECKPOINT));
    checkpoint.is_ok_and(|mut entries| entries.next().is_some()).then(|| {
        let reported = progress(store, stage, key);
        ResumePoint {
            step: reported.as_ref().map(|reported| reported.step),
            total: reported.map(|reported| reported.total),
        }
    })
}

/// How far the stage was with this action key, in the newest run in which it said so.
pub fn progress(store: &Store, stage: &str, key: &Digest) -> Option<Progress> {
    let runs = store.history();
    let newest = runs.list().unwrap_or_default().into_iter().rev().take(MOST_RUNS);
    newest.into_iter().find_map(|run| last_step(&runs.folder(&run).join("events.jsonl"), stage, key))
}

/// The last step that a stage reported for a key, from the events of one run.
fn last_step(events: &Path, stage: &str, key: &Digest) -> Option<Progress> {
    let (mut is_key, mut last) = (false, None);
    let lines = BufReader::new(File::open(events).ok()?.take(MOST_BYTES)).lines();
    // The last line of a killed run may be incomplete.
    for line in lines.map_while(Result::ok).filter(|line| line.contains("\"type\":\"stage\"")) {
        match serde_json::from_str(&line) {
            Ok(Event::Stage { stage: name, event: StageEvent::Started { key: started, .. } })
                if name == stage =>
            {
                is_key = started == *key;
            }
            Ok(Event::Stage { stage: name, event: StageEvent::Progress { step, total, note } })
                if is_key && name == stage =>
            {
                last = Some(Progress { step, total, note });
            }
            _ => {}
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_last_one_of_the_same_key() {
        let (key, other) = (Digest::of_bytes(b"key"), Digest::of_bytes(b"other"));
        let started = |key| StageEvent::Started { key, attempt: 1, resumed: false };
        let progress = |step| StageEvent::Progress { step, total: 9, note: String::new() };
        let line =
            |event| serde_json::to_string(&Event::Stage { stage: "sft".into(), event }).unwrap() + "\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = [started(key), progress(1), progress(4), started(other), progress(8)].map(line).concat();
        fs::write(file.path(), lines + r#"{"type":"stage","sta"#).unwrap();
        let step = |stage, key| last_step(file.path(), stage, key).map(|found| (found.step, found.total));
        assert_eq!(step("sft", &key), Some((4, 9)));
        assert_eq!(step("sft", &other), Some((8, 9)));
        assert_eq!(step("base", &key), None);
    }
}
