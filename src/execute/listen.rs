//! What a provider says while it runs a stage.
//!
//! Purpose: lines of a provider's stdout -> what the run is told, and how the provider judges itself.
//! Invariant: an event that is not known is passed over; a line that is no event goes to the log; no
//! number that is not finite passes.
//! Must not know: where the process is, who listens.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::protocol::Event;
use crate::sched::StageEvent;

/// Progress is told no more often than this.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Reads a provider's events.
pub struct Ear<'a> {
    log: &'a File,
    say: &'a dyn Fn(StageEvent),
    last_progress: Option<Instant>,
    /// Its last words when it failed.
    pub error: Option<String>,
    /// The numbers of its summary.
    pub summary: Vec<(String, f64)>,
}

impl<'a> Ear<'a> {
    /// Listens; free text goes to the log.
    pub fn new(log: &'a File, say: &'a dyn Fn(StageEvent)) -> Self {
        Self { log, say, last_progress: None, error: None, summary: Vec::new() }
    }

    /// Takes a line.
    pub fn line(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => self.event(event),
            Err(e) if is_event(line) => tracing::debug!("an event was passed over: {e}"),
            Err(_) if line.is_empty() => {}
            Err(_) => self.write(&String::from_utf8_lossy(line)),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Progress { step, total, note } => self.progress(step, total, note),
            Event::Metric { step, mut values } => {
                values.retain(|_, value| value.is_finite());
                (self.say)(StageEvent::Metric { step, values });
            }
            Event::Sample { step, prompt, completion } => {
                (self.say)(StageEvent::Sample { step, prompt, completion });
            }
            Event::Health { step, code, message, advice } => {
                self.write(&format!("health {code} at step {step}: {message}. {advice}"));
                (self.say)(StageEvent::Health { step, code, message, advice });
            }
            Event::Log { level, message } => self.write(&format!("{level}: {message}")),
            Event::Done { mut summary } => {
                summary.retain(|(_, value)| value.is_finite());
                self.summary = summary;
            }
            Event::Error { message } => {
                self.write(&format!("error: {message}"));
                self.error = Some(message);
            }
            // These belong to a conversation.
            Event::Token { .. } | Event::Reply { .. } => {}
        }
    }

    fn progress(&mut self, step: u64, total: u64, note: String) {
        if step >= total || self.last_progress.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY) {
            self.last_progress = Some(Instant::now());
            (self.say)(StageEvent::Progress { step, total, note });
        }
    }

    fn write(&mut self, text: &str) {
        // A log that cannot be written must not end the stage.
        let _ = self.log.write_all(format!("{text}\n").as_bytes());
    }
}

fn is_event(line: &[u8]) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|value| value.get("event").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What was said, the log, the error, the summary.
    type Heard = (Vec<StageEvent>, String, Option<String>, Vec<(String, f64)>);

    fn hear(lines: &[&str]) -> Heard {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = RefCell::new(Vec::new());
        let log = file.reopen().unwrap();
        let say = |one| said.borrow_mut().push(one);
        let mut ear = Ear::new(&log, &say);
        lines.iter().for_each(|line| ear.line(line.as_bytes()));
        let (error, summary) = (ear.error, ear.summary);
        (said.into_inner(), std::fs::read_to_string(file.path()).unwrap(), error, summary)
    }

    #[test]
    fn unknown_events_are_passed_over_and_free_text_goes_to_the_log() {
        let (said, log, ..) = hear(&[r#"{"event":"dance","step":1}"#, "hello", "", "{\"a\":1}"]);
        assert!(said.is_empty());
        assert_eq!(log, "hello\n{\"a\":1}\n");
    }

    #[test]
    fn errors_and_summaries_are_kept() {
        let (_, log, error, summary) = hear(&[
            r#"{"event":"done","summary":[["loss",2.5]]}"#,
            r#"{"event":"error","message":"out of memory"}"#,
        ]);
        assert_eq!((error.as_deref(), log.as_str()), (Some("out of memory"), "error: out of memory\n"));
        assert_eq!(summary, [("loss".to_owned(), 2.5)]);
    }

    #[test]
    fn a_flood_of_progress_is_thinned_out_but_its_end_is_told() {
        let lines: Vec<_> =
            (1..=1000).map(|i| format!(r#"{{"event":"progress","step":{i},"total":1000}}"#)).collect();
        let (said, ..) = hear(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.len() < 100, "{}", said.len());
        assert!(matches!(said.last(), Some(StageEvent::Progress { step: 1000, .. })));
    }
}
