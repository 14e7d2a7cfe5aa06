//! What a run leaves behind.
//!
//! Purpose: listens to a run and writes `events.jsonl`, `samples.jsonl`, the metrics of each stage and
//! at the end `run.json`.
//! Invariant: every line stands alone; a record that cannot be written is warned of once and fails
//! nothing.
//! Must not know: how a run is shown to people.
//!
//! A line of metrics is `{"stage": .., "step": .., "values": {name: number}}`; a stage that was resumed
//! may tell of a step twice, and the later line counts.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::types::{Listener, RunEvent, RunReport, Say, StageReport};
use crate::state::{RunDir, RunRecord, StageRecord};

/// Progress is written no more often than this, by stage.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Writes a run down.
pub struct Recorder<'a> {
    run: &'a RunDir,
    metrics: HashMap<String, File>,
    samples: Option<File>,
    progress: HashMap<String, Instant>,
    warned: bool,
}

impl<'a> Recorder<'a> {
    /// For this run.
    pub fn new(run: &'a RunDir) -> Self {
        let (metrics, progress) = (HashMap::new(), HashMap::new());
        Self { run, metrics, samples: None, progress, warned: false }
    }

    fn said(&mut self, stage: &str, say: &Say) -> io::Result<()> {
        match say {
            Say::Metric { step, values } => {
                let line = json!({ "stage": stage, "step": step, "values": values });
                if !self.metrics.contains_key(stage) {
                    self.metrics.insert(stage.to_owned(), append(&self.run.metrics_path(stage))?);
                }
                self.metrics.get_mut(stage).map_or(Ok(()), |file| write_line(file, &line))
            }
            Say::Sample { step, prompt, completion } => {
                let line =
                    json!({ "stage": stage, "step": step, "prompt": prompt, "completion": completion });
                if self.samples.is_none() {
                    self.samples = Some(append(&self.run.folder().join("samples.jsonl"))?);
                }
                self.samples.as_mut().map_or(Ok(()), |file| write_line(file, &line))
            }
            Say::Progress { .. } if !self.is_due(stage) => Ok(()),
            _ => self.event(&serde_json::to_value(say)?, Some(stage)),
        }
    }

    fn is_due(&mut self, stage: &str) -> bool {
        let due = self.progress.get(stage).is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
        if due {
            self.progress.insert(stage.to_owned(), Instant::now());
        }
        due
    }

    fn event(&self, event: &Value, stage: Option<&str>) -> io::Result<()> {
        let mut line = event.clone();
        if let Some(line) = line.as_object_mut() {
            line.insert("time".into(), format!("{:.3}", jiff::Timestamp::now()).into());
            line.extend(stage.map(|stage| ("stage".to_owned(), stage.into())));
        }
        self.run.event(&line).map_err(io::Error::other)
    }

    fn ended(&self, report: &StageReport) -> io::Result<()> {
        let line = json!({
            "event": "ended",
            "outcome": report.outcome,
            "seconds": report.seconds,
            "key": report.key,
            "error": report.error,
        });
        self.event(&line, Some(&report.name))
    }
}

impl Listener for Recorder<'_> {
    fn hear(&mut self, event: &RunEvent<'_>) {
        let written = match event {
            RunEvent::Begun { run, pipeline, stages } => {
                let line = json!({ "event": "begun", "run": run, "pipeline": pipeline, "stages": stages });
                self.event(&line, None)
            }
            RunEvent::Said { stage, say } => self.said(stage, say),
            RunEvent::Ended(report) => self.ended(report),
            RunEvent::Stopping { running } => {
                self.event(&json!({ "event": "stopping", "running": running }), None)
            }
            RunEvent::Over(report) => {
                let line = json!({ "event": "over", "outcome": report.outcome, "seconds": report.seconds });
                let record = record(self.run.record(), report);
                self.event(&line, None).and_then(|()| self.run.write(&record).map_err(io::Error::other))
            }
        };
        if let Err(e) = written
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!("the run goes on, but its record is not complete: {e}");
        }
    }
}

fn record(blank: RunRecord, report: &RunReport) -> RunRecord {
    let stage = |stage: &StageReport| {
        let record = StageRecord {
            key: stage.key,
            outcome: stage.outcome,
            seconds: stage.seconds,
            outputs: stage.outputs.clone(),
            error: stage.error.clone(),
            summary: stage.summary.clone(),
        };
        (stage.name.clone(), record)
    };
    RunRecord {
        seconds: report.seconds,
        outcome: report.outcome,
        stages: report.stages.iter().map(stage).collect(),
        ..blank
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_line(file: &mut File, line: &Value) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}
