//! The record of a run.
//!
//! Purpose: writes `events.jsonl`, `samples.jsonl` and the metrics of each stage, for scripts and for TensorBoard, while a
//! run goes on, and `run.json` when it ends.
//! Invariant: every line is complete by itself; a bounded number of files is open, however many stages
//! there are. An error of the disk is logged once and fails nothing.
//! Must not know: how a run is shown.
//!
//! A line of metrics is `{"stage": .., "step": .., "values": {name: number}}`. Of a stage that was resumed, what the
//! attempt before said of steps that are done again goes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::tensorboard::EventFile;
use crate::cas::disk;
use crate::digest::Digest;
use crate::sched::{Event, Reporter, RunReport, StageEvent, StageReport};
use crate::state::{RunDir, RunRecord, StageOutcome, StageRecord};

/// The shortest time between two lines of progress of one stage.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The most metrics files that are open at a time.
const MOST_OPEN: usize = 16;

/// A line of `events.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// The progress of a stage.
struct Progress {
    /// When the last line was written.
    written: Instant,
    /// The step since then that has no line yet.
    pending: Option<Event>,
}

/// Writes the record of a run.
pub struct Recorder<'a> {
    run: &'a RunDir,
    /// Metrics files by stage; the ones of running stages, at most [`MOST_OPEN`].
    metrics: HashMap<String, (File, EventFile)>,
    samples: Option<File>,
    progress: HashMap<String, Progress>,
    /// Stages that resumed and have reported no step since then.
    resumed: HashSet<String>,
    /// Lines of `events.jsonl` that are to be written.
    lines: Vec<u8>,
    /// The stages that were found or made fresh and are to be remembered.
    fresh: Vec<(String, Digest)>,
    warned: bool,
}

impl<'a> Recorder<'a> {
    /// A recorder of this run.
    pub fn new(run: &'a RunDir) -> Self {
        let (metrics, progress, resumed) = (HashMap::new(), HashMap::new(), HashSet::new());
        let (lines, fresh) = (Vec::new(), Vec::new());
        Self { run, metrics, samples: None, progress, resumed, lines, fresh, warned: false }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Stage { stage, event: StageEvent::Metric { step, values } } => {
                let line = json!({ "stage": stage, "step": step, "values": values });
                self.goes_on_at(stage, *step)?;
                let (lines, events) = self.metrics_of(stage)?;
                write_line(lines, &line)?;
                events.scalars(*step, values)
            }
            Event::Stage { stage, event: StageEvent::Sample { step, prompt, completion } } => {
                let line =
                    json!({ "stage": stage, "step": step, "prompt": prompt, "completion": completion });
                let file = match self.samples.take() {
                    Some(file) => file,
                    None => append(&self.run.folder().join("samples.jsonl"))?,
                };
                write_line(self.samples.insert(file), &line)
            }
            Event::Stage { stage, event: StageEvent::Progress { step, .. } } => {
                self.goes_on_at(stage, *step)?;
                self.write_progress(stage, event)
            }
            Event::Stage { stage, event: StageEvent::Started { resumed: true, .. } } => {
                self.resumed.insert(stage.clone());
                self.append_event(event)
            }
            Event::StageFinished(report) => {
                self.metrics.remove(&report.name);
                self.remember(report);
                // The step at which a stage was interrupted is where it resumes.
                if let Some(pending) = self.progress.remove(&report.name).and_then(|p| p.pending) {
                    self.append_event(&pending)?;
                }
                self.append_event(event)
            }
            Event::RunFinished(report) => {
                // Its stages have their own lines.
                let short = header(report);
                self.append_event(&Event::RunFinished(short))?;
                self.run.write(record(self.run.record(), report)).map_err(io::Error::other)
            }
            _ => self.append_event(event),
        }
    }

    /// Remembers what a stage that is fresh now was made from, so that the next plan can compare with it.
    fn remember(&mut self, report: &StageReport) {
        let fresh = match report.outcome {
            StageOutcome::Ran => report.kept,
            outcome => matches!(outcome, StageOutcome::Cached | StageOutcome::Fetched),
        };
        self.fresh.extend(report.key.filter(|_| fresh).map(|key| (report.name.clone(), key)));
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.run.remember(&std::mem::take(&mut self.fresh)).map_err(io::Error::other)?;
        self.run.append_events(&std::mem::take(&mut self.lines)).map_err(io::Error::other)
    }

    /// Logs the first error.
    fn check(&mut self, written: io::Result<()>) {
        if let Err(e) = written
            && !std::mem::replace(&mut self.warned, true)
        {
            tracing::warn!("the run continues, but its record is incomplete: {e}");
        }
    }

    /// Takes out what an earlier attempt said of the step at which a stage goes on, and of later ones. What a stage says
    /// of step 0 is no step of its work.
    fn goes_on_at(&mut self, stage: &str, step: u64) -> io::Result<()> {
        if step > 0 && self.resumed.remove(stage) {
            self.metrics.remove(stage);
            drop_steps(&self.run.metrics_path(stage), step)?;
        }
        Ok(())
    }

    fn metrics_of(&mut self, stage: &str) -> io::Result<&mut (File, EventFile)> {
        let files = match self.metrics.remove(stage) {
            Some(files) => files,
            None => {
                let events = EventFile::open(&self.run.tensorboard_path(stage))?;
                (append(&self.run.metrics_path(stage))?, events)
            }
        };
        if self.metrics.len() >= MOST_OPEN {
            // Which one is closed does not matter: it is opened again when it is needed.
            self.metrics.clear();
        }
        Ok(self.metrics.entry(stage.to_owned()).or_insert(files))
    }

    fn write_progress(&mut self, stage: &str, event: &Event) -> io::Result<()> {
        match self.progress.get_mut(stage) {
            Some(last) if last.written.elapsed() < PROGRESS_EVERY => last.pending = Some(event.clone()),
            _ => {
                self.progress.insert(stage.to_owned(), Progress { written: Instant::now(), pending: None });
                return self.append_event(event);
            }
        }
        Ok(())
    }

    fn append_event(&mut self, event: &Event) -> io::Result<()> {
        let time = format!("{:.3}", jiff::Timestamp::now());
        serde_json::to_writer(&mut self.lines, &Line { time, event })?;
        self.lines.push(b'\n');
        Ok(())
    }
}

impl Reporter for Recorder<'_> {
    fn on_event(&mut self, event: &Event) {
        let written = self.write(event);
        self.check(written);
    }

    fn flush(&mut self) {
        let written = self.write_out();
        self.check(written);
    }
}

fn header(report: &RunReport) -> RunReport {
    let RunReport { run, pipeline, outcome, seconds, .. } = report;
    let (run, pipeline) = (run.clone(), pipeline.clone());
    RunReport { run, pipeline, outcome: *outcome, seconds: *seconds, stages: Vec::new() }
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
        stages: report.stages.iter().map(|report| stage(report)).collect(),
        ..blank
    }
}

/// Takes the metrics of a step and of all later ones out of a file.
fn drop_steps(path: &Path, from: u64) -> io::Result<()> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let step = |line: &str| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64();
    // A line that cannot be read is the last one of an attempt that was killed.
    let earlier = text.lines().filter(|line| step(line).is_some_and(|step| step < from));
    let earlier: String = earlier.flat_map(|line| [line, "\n"]).collect();
    disk::replace(path, earlier.as_bytes())
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_line(file: &mut File, line: &Value) -> io::Result<()> {
    file.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_done_again_are_taken_out_with_a_torn_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |step: u64| format!("{{\"stage\":\"s\",\"step\":{step},\"values\":{{\"loss\":1}}}}\n");
        let whole = [1, 2, 2, 3, 3, 4].map(line).concat();
        fs::write(file.path(), whole + r#"{"stage":"s","st"#).unwrap();
        drop_steps(file.path(), 3).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), [1, 2, 2].map(line).concat());
        drop_steps(&file.path().with_extension("none"), 3).unwrap();
    }
}
