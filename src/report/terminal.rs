//! A run for people, on stderr.
//!
//! Purpose: bars and lines on a terminal, plain lines elsewhere, a table and a summary at the end.
//! Invariant: an error of the terminal has no effect on the run.
//! Must not know: how stages run.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::text::{printable, seconds};
use super::{lines, table};
use crate::sched::{Event, Reporter, RunReport, StageEvent, StageReport};
use crate::state::StageOutcome;

/// The time between two lines of progress without bars.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// The most bars while jobs wait.
const MOST_QUEUED: usize = 10;
/// The time between two frames of a bar without progress.
const TICK: Duration = Duration::from_millis(200);

/// Shows a run.
pub struct Terminal {
    /// Whether lines have no colours.
    plain: bool,
    bars: Option<MultiProgress>,
    running: HashMap<String, Shown>,
    /// Consecutive stages with the same result.
    cached: Vec<String>,
    fetched: Vec<String>,
    skipped: Vec<(String, String)>,
}

struct Shown {
    bar: Option<ProgressBar>,
    measured: bool,
    printed: Instant,
}

impl Terminal {
    /// With bars if stderr is a terminal.
    pub fn new(choice: ColorChoice) -> Self {
        let live = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bars = live.then(MultiProgress::new);
        let plain = match choice {
            ColorChoice::Auto => AutoStream::choice(&io::stderr()) == ColorChoice::Never,
            choice => choice == ColorChoice::Never,
        };
        let (cached, fetched, skipped) = (Vec::new(), Vec::new(), Vec::new());
        Self { plain, bars, running: HashMap::new(), cached, fetched, skipped }
    }

    fn line(&self, line: &str) {
        // A stripping stream would make several system calls per line.
        let line = if self.plain { strip_str(line).to_string() } else { line.to_owned() } + "\n";
        // An error of stderr cannot be reported.
        let write = || drop(io::stderr().lock().write_all(line.as_bytes()));
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Prints the stages that were gathered.
    fn flush_cached(&mut self) {
        let groups = [
            (std::mem::take(&mut self.cached), "cached"),
            (std::mem::take(&mut self.fetched), "from remotes"),
        ];
        for (names, what) in groups.iter().filter(|(names, _)| !names.is_empty()) {
            self.line(&lines::group("=", names, what));
        }
    }

    fn stage_event(&mut self, stage: &str, event: &StageEvent) {
        match event {
            StageEvent::Started { attempt, resumed, .. } => self.started(stage, *attempt, *resumed),
            StageEvent::Queued { job, reason } => self.queued(stage, job, reason),
            StageEvent::Progress { step, total, note } => self.progress(stage, (*step, *total), note),
            _ => {}
        }
        if let Some(line) = lines::stage_event(stage, event) {
            self.line(&line);
        }
    }

    fn started(&mut self, stage: &str, attempt: u32, resumed: bool) {
        let bar = self.bars.as_ref().map(|bars| bars.add(ProgressBar::new_spinner()));
        match &bar {
            Some(bar) => {
                bar.set_style(waiting_style());
                bar.set_prefix(printable(stage));
                bar.enable_steady_tick(TICK);
            }
            None => self.line(&lines::started(stage, attempt, resumed)),
        }
        if resumed && bar.is_some() {
            self.line(&lines::started(stage, attempt, resumed));
        }
        let shown = Shown { bar, measured: false, printed: Instant::now() };
        if let Some(Shown { bar: Some(old), .. }) = self.running.insert(stage.to_owned(), shown) {
            old.finish_and_clear();
        }
    }

    /// A bar for a job that waits, as long as there are not too many of them.
    fn queued(&mut self, stage: &str, job: &str, reason: &str) {
        let Some(bars) = &self.bars else { return };
        let message = format!("job {} ({})", printable(job), printable(reason));
        match self.running.get(stage) {
            Some(Shown { bar: Some(bar), .. }) => bar.set_message(message),
            None if self.running.len() < MOST_QUEUED => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(queued_style());
                bar.set_prefix(printable(stage));
                bar.set_message(message);
                bar.enable_steady_tick(TICK);
                let shown = Shown { bar: Some(bar), measured: false, printed: Instant::now() };
                self.running.insert(stage.to_owned(), shown);
            }
            _ => {}
        }
    }

    fn progress(&mut self, stage: &str, (step, total): (u64, u64), note: &str) {
        let Some(shown) = self.running.get_mut(stage) else { return };
        let Some(bar) = &shown.bar else {
            if shown.printed.elapsed() >= PROGRESS_EVERY {
                shown.printed = Instant::now();
                self.line(&lines::progress(stage, (step, total), note));
            }
            return;
        };
        bar.set_length(total);
        bar.set_position(step);
        bar.set_message(printable(note));
        if !std::mem::replace(&mut shown.measured, true) {
            bar.set_style(measured_style());
            // A resumed stage did its first steps in an earlier run.
            bar.reset_eta();
        }
    }

    fn stage_finished(&mut self, report: &StageReport) {
        if let Some(Shown { bar: Some(bar), .. }) = self.running.remove(&report.name) {
            bar.finish_and_clear();
        }
        match report.outcome {
            StageOutcome::Cached => return self.cached.push(report.name.clone()),
            StageOutcome::Fetched => return self.fetched.push(report.name.clone()),
            // The table says which job does it.
            StageOutcome::Detached => return,
            StageOutcome::Skipped => {
                let why = report.error.clone().unwrap_or_default();
                return self.skipped.push((report.name.clone(), why));
            }
            _ => {}
        }
        self.flush_cached();
        lines::ended(report).iter().for_each(|line| self.line(line));
    }

    fn run_finished(&mut self, report: &RunReport) {
        self.flush_cached();
        let mut skipped: Vec<(String, Vec<String>)> = Vec::new();
        for (name, why) in std::mem::take(&mut self.skipped) {
            match skipped.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name),
                None => skipped.push((why, vec![name])),
            }
        }
        for (why, names) in skipped {
            self.line(&lines::group("-", &names, &format!("skipped: {}", printable(&why))));
        }
        let quiet = report.count(StageOutcome::Cached) + report.count(StageOutcome::Fetched);
        if quiet < report.stages.len() {
            table::lines(report).iter().for_each(|line| self.line(line));
        }
        self.line(&lines::summary(report));
    }
}

impl Reporter for Terminal {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { .. } => {}
            Event::Note { message } => self.line(&printable(message)),
            Event::Stage { stage, event } => {
                if !matches!(
                    event,
                    StageEvent::Metric { .. } | StageEvent::Sample { .. } | StageEvent::Progress { .. }
                ) {
                    self.flush_cached();
                }
                self.stage_event(stage, event);
            }
            Event::StageFinished(report) => self.stage_finished(report),
            Event::Asking { .. } | Event::Stopping { .. } => {
                lines::stopping(event).iter().for_each(|line| self.line(line));
            }
            Event::Shared(shared) => {
                self.flush_cached();
                lines::shared(shared).iter().for_each(|line| self.line(line));
            }
            Event::RunFinished(report) => self.run_finished(report),
        }
    }
}

fn waiting_style() -> ProgressStyle {
    style(ProgressStyle::default_spinner(), "> {prefix}  {spinner} {elapsed_short}")
}

fn queued_style() -> ProgressStyle {
    style(ProgressStyle::default_spinner(), "· {prefix}  queued {elapsed_short}  {wide_msg}")
}

fn measured_style() -> ProgressStyle {
    let style =
        style(ProgressStyle::default_bar(), "> {prefix}  [{bar:20}] {pos}/{len}  {wide_msg}  ETA {left}");
    style.progress_chars("#> ")
}

/// A style with our own format of times.
fn style(plain: ProgressStyle, template: &str) -> ProgressStyle {
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&seconds(state.eta().as_secs_f64()));
    };
    let elapsed = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&seconds(state.elapsed().as_secs_f64()));
    };
    match plain.clone().template(template) {
        Ok(style) => style.with_key("left", left).with_key("elapsed_short", elapsed),
        Err(_) => plain,
    }
}
