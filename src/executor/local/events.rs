//! What a provider says while it runs a stage.
//!
//! Purpose: lines of the provider's stdout become events of the stage, and what the provider says of its
//! own success.
//! Invariant: an event that is not known is skipped; a line that is not an event goes to the log; no
//! number that is not finite passes; no secret passes.
//! Must not know: where the process is, who receives the events.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::executor::log::Log;
use crate::protocol::Event;
use crate::sched::StageEvent;

/// Progress is reported no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Where events and free text go.
#[derive(Clone, Copy)]
pub struct Sink<'a> {
    /// Receives free text.
    pub log: &'a Log,
    /// Receives events.
    pub emit: &'a (dyn Fn(StageEvent) + Sync),
}

/// Reads the events of a provider.
#[derive(Debug, Default)]
pub struct EventReader {
    last_progress: Option<Instant>,
    /// Whether all steps were done at the last progress.
    is_complete: bool,
    /// Progress that came too soon after the last one.
    held_back: Option<StageEvent>,
    /// What it said when it failed.
    pub error: Option<String>,
    /// The numbers of its summary; none as long as it has not said that it is done.
    pub done: Option<Vec<(String, f64)>>,
}

impl EventReader {
    /// Takes a line.
    pub fn line(&mut self, line: &[u8], to: Sink<'_>) {
        let masked = (!to.log.masks().is_empty()).then(|| to.log.masks().apply(line));
        let line = masked.as_deref().unwrap_or(line);
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => self.event(event, to),
            Err(e) if is_event(line) => tracing::debug!("an event was skipped: {e}"),
            Err(_) if line.is_empty() => {}
            Err(_) => to.log.line(line),
        }
    }

    fn event(&mut self, event: Event, to: Sink<'_>) {
        let write = |text: String| to.log.line(text.as_bytes());
        match event {
            Event::Progress { step, total, note } => self.progress(step, total, note, to),
            Event::Metric { step, mut values } => {
                values.retain(|_, value| value.is_finite());
                (to.emit)(StageEvent::Metric { step, values });
            }
            Event::Sample { step, prompt, completion } => {
                (to.emit)(StageEvent::Sample { step, prompt, completion });
            }
            Event::Health { step, code, message, advice } => {
                write(format!("health {code} at step {step}: {message}. {advice}"));
                (to.emit)(StageEvent::Health { step, code, message, advice });
            }
            Event::Log { level, message } => {
                write(format!("{level}: {message}"));
                if level == "warn" {
                    (to.emit)(StageEvent::Note { message });
                }
            }
            Event::Done { mut summary } => {
                summary.retain(|(_, value)| value.is_finite());
                self.done = Some(summary);
            }
            Event::Error { message } => {
                write(format!("error: {message}"));
                self.error = Some(message);
            }
            // These belong to a conversation.
            Event::Token { .. } | Event::Reply { .. } => {}
        }
    }

    fn progress(&mut self, step: u64, total: u64, note: String, to: Sink<'_>) {
        let event = StageEvent::Progress { step, total, note };
        let is_complete = step >= total;
        let was_complete = std::mem::replace(&mut self.is_complete, is_complete);
        let is_last = is_complete && !was_complete;
        if is_last || self.last_progress.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY) {
            self.last_progress = Some(Instant::now());
            self.held_back = None;
            (to.emit)(event);
        } else {
            self.held_back = Some(event);
        }
    }

    /// Reports the last progress, when nothing more will come.
    pub fn finish(&mut self, to: Sink<'_>) {
        if let Some(event) = self.held_back.take() {
            (to.emit)(event);
        }
    }
}

fn is_event(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|value| value.get("event").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// The events, the log, the error, the summary.
    type Read = (Vec<StageEvent>, String, Option<String>, Option<Vec<(String, f64)>>);

    fn read(lines: &[&str]) -> Read {
        let file = tempfile::NamedTempFile::new().unwrap();
        let events = Mutex::new(Vec::new());
        let log = Log::open(file.path()).unwrap();
        let emit = |event| events.lock().unwrap().push(event);
        let mut reader = EventReader::default();
        let to = Sink { log: &log, emit: &emit };
        lines.iter().for_each(|line| reader.line(line.as_bytes(), to));
        reader.finish(to);
        let (error, done) = (reader.error, reader.done);
        (events.into_inner().unwrap(), std::fs::read_to_string(file.path()).unwrap(), error, done)
    }

    #[test]
    fn unknown_events_are_skipped_and_free_text_goes_to_the_log() {
        let (events, log, ..) = read(&[r#"{"event":"dance","step":1}"#, "hello", "", "{\"a\":1}"]);
        assert!(events.is_empty());
        assert_eq!(log, "hello\n{\"a\":1}\n");
    }

    #[test]
    fn a_warning_goes_to_the_log_and_to_people() {
        let (events, log, ..) = read(&[
            r#"{"event":"log","level":"info","message":"3 rows"}"#,
            r#"{"event":"log","level":"warn","message":"2 rows left out"}"#,
        ]);
        assert_eq!(log, "info: 3 rows\nwarn: 2 rows left out\n");
        let [StageEvent::Note { message }] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(message, "2 rows left out");
    }

    #[test]
    fn errors_and_summaries_are_kept() {
        let (_, log, error, done) = read(&[
            r#"{"event":"done","summary":[["loss",2.5]]}"#,
            r#"{"event":"error","message":"out of memory"}"#,
        ]);
        assert_eq!((error.as_deref(), log.as_str()), (Some("out of memory"), "error: out of memory\n"));
        assert_eq!(done.unwrap(), [("loss".to_owned(), 2.5)]);
    }

    #[test]
    fn a_flood_of_progress_is_thinned_out_but_its_end_is_reported() {
        let lines: Vec<_> =
            (1..=1000).map(|i| format!(r#"{{"event":"progress","step":{i},"total":1000}}"#)).collect();
        let (events, ..) = read(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(events.len() < 100, "{}", events.len());
        assert!(matches!(events.last(), Some(StageEvent::Progress { step: 1000, .. })));
        // Some count on when all is done.
        let lines: Vec<_> =
            (1..=1000).map(|i| format!(r#"{{"event":"progress","step":{i},"total":9}}"#)).collect();
        let (events, ..) = read(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(events.len() < 100, "{}", events.len());
        assert!(matches!(events.last(), Some(StageEvent::Progress { step: 1000, .. })));
    }
}
