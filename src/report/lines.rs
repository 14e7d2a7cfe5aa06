//! The lines of a run.
//!
//! Purpose: formats events as lines for people: `=` cached, `>` running, `+` done, `!` warning, `x` failed,
//! `-` skipped.
//! Invariant: a line depends on the event alone; no control character of a stage reaches the terminal.
//! Must not know: where lines are printed.

use anstyle::{AnsiColor, Style};

use super::text::{bytes, printable, printable_error, seconds};
use crate::sched::{Event, RunReport, SharedResults, StageEvent, StageReport};
use crate::state::{RunOutcome, StageOutcome};

/// The most names on one line.
const MOST_NAMES: usize = 12;
/// The most numbers of one stage.
const MOST_NUMBERS: usize = 3;

const GOOD: Style = AnsiColor::Green.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Several stages with the same result.
pub fn group(mark: &str, names: &[String], what: &str) -> String {
    let mut shown: Vec<_> = names.iter().take(MOST_NAMES).map(|name| printable(name)).collect();
    if names.len() > MOST_NAMES {
        shown.push(format!("and {} more", names.len() - MOST_NAMES));
    }
    let style = if mark == "=" { GOOD } else { FAINT };
    format!("{} {}   {what}", paint(style, mark), shown.join(", "))
}

/// An event that people should see at once; none for an event that only moves a bar.
pub fn stage_event(stage: &str, event: &StageEvent) -> Option<String> {
    let stage = printable(stage);
    let warning = |text: String| Some(format!("{} {stage}  {text}", paint(WARNING, "!")));
    match event {
        StageEvent::Health { message, advice, .. } => {
            warning(format!("{}{}", printable(message), sentence(&printable(advice))))
        }
        StageEvent::Note { message } => warning(printable(message)),
        StageEvent::Retry { attempt, error, after } => warning(format!(
            "attempt {attempt} failed: {}; again in {}",
            printable_error(error),
            seconds(*after)
        )),
        StageEvent::Submitted { executor, job, adopted, .. } => {
            let (job, executor) = (printable(job), printable(executor));
            Some(match adopted {
                true => format!("> {stage}  goes on with job {job} of {executor}, submitted earlier"),
                false => format!("> {stage}  submitted as job {job} of {executor}"),
            })
        }
        StageEvent::Waiting { holder } => Some(format!("> {stage}  waits for {}", printable(holder))),
        StageEvent::Started { .. }
        | StageEvent::Queued { .. }
        | StageEvent::Progress { .. }
        | StageEvent::Metric { .. }
        | StageEvent::Sample { .. } => None,
    }
}

/// What is said when a run is asked to stop.
pub fn stopping(event: &Event) -> Vec<String> {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match *event {
        // The terminal has shown `^C`.
        Event::Asking { jobs } => vec![format!(
            "\n{} on the cluster. Enter leaves the jobs there, c cancels them, f goes on with the run:",
            count(jobs, "stage")
        )],
        Event::Stopping { running, kill: true, .. } if running > 0 => {
            vec![format!("Killing {}.", count(running, "stage"))]
        }
        Event::Stopping { running, jobs, cancels, .. } => {
            let (verb, to) = if cancels { ("Cancelling", "") } else { ("Leaving", " on the cluster") };
            let jobs = (jobs > 0).then(|| format!("{verb} {}{to}.", count(jobs, "job")));
            let them = if running == 1 { "it" } else { "them" };
            let stages = count(running, "running stage");
            let here = (running > 0).then(|| {
                format!("Stopping: {stages} may write a checkpoint first; Ctrl-C again kills {them}.")
            });
            let none = (jobs.is_none() && here.is_none()).then(|| "Stopping.".to_owned());
            jobs.into_iter().chain(here).chain(none).collect()
        }
        _ => Vec::new(),
    }
}

/// The start of a stage, for output without bars.
pub fn started(stage: &str, attempt: u32, resumed: bool) -> String {
    let attempt = if attempt > 1 { format!("  attempt {attempt}") } else { String::new() };
    format!("> {}{attempt}{}", printable(stage), if resumed { "  resumes from its checkpoint" } else { "" })
}

/// The progress of a stage, for output without bars.
pub fn progress(stage: &str, (step, total): (u64, u64), note: &str) -> String {
    format!("> {}  {step}/{total}  {}", printable(stage), printable(note)).trim_end().to_owned()
}

/// The end of a stage that ran; several lines when it failed.
pub fn ended(report: &StageReport) -> Vec<String> {
    let (name, time) = (printable(&report.name), seconds(report.seconds));
    if report.outcome != StageOutcome::Failed {
        let numbers = numbers(&report.summary);
        return vec![format!("{} {name} {time}  {numbers}", paint(GOOD, "+")).trim_end().to_owned()];
    }
    let error = printable_error(report.error.as_deref().unwrap_or("failed"));
    let mut lines = vec![format!("{} {name} failed after {time}: {error}", paint(BAD, "x"))];
    if let Some((log, tail)) = &report.log {
        // The last line of the log of a provider is the error itself.
        let error = report.error.as_deref().unwrap_or_default();
        let is_error =
            |line: &String| line.strip_prefix("error: ").is_some_and(|said| error.starts_with(said));
        let tail = tail.iter().filter(|line| !is_error(line));
        lines.extend(tail.map(|line| format!("    {}", paint(FAINT, &printable(line)))));
        lines.push(format!("    log: {}", log.display()));
    }
    lines
}

/// The first numbers of a summary: `accuracy 0.71  margin 0.83`.
pub fn numbers(summary: &[(String, f64)]) -> String {
    let one = |(name, value): &(String, f64)| format!("{} {}", printable(name), number(*value));
    summary.iter().take(MOST_NUMBERS).map(one).collect::<Vec<_>>().join("  ")
}

/// A number with as many digits as people compare.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if value == value.round() && value.abs() < 1e7 => format!("{value:.0}"),
        a if !(1e-3..1e7).contains(&a) => format!("{value:.2e}"),
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        a if a >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// What was sent to a remote, and what could not be.
pub fn shared(shared: &SharedResults) -> Vec<String> {
    let (name, mut lines) = (printable(&shared.remote), Vec::new());
    if shared.results > 0 {
        let results = if shared.results == 1 { "1 result" } else { &format!("{} results", shared.results) };
        lines.push(format!("{} {name}  has {results}, {} sent", paint(GOOD, "^"), bytes(shared.bytes)));
    }
    if shared.failed > 0 {
        let why = printable_error(shared.error.as_deref().unwrap_or_default());
        let results = if shared.failed == 1 { "result" } else { "results" };
        lines.push(format!(
            "{} {name}  lacks {} {results} of this run: {}; `kiln push` sends what is missing",
            paint(WARNING, "!"),
            shared.failed,
            why.trim_end_matches('.')
        ));
    }
    lines.extend(shared.conflicts.iter().map(|key| {
        format!(
            "{} {name}  has other outputs for the key {}, which stay; the stage is not deterministic",
            paint(WARNING, "!"),
            key.short()
        )
    }));
    lines
}

/// The last line: `Done: 4 ran, 2 cached. 31m saved by the cache.`
pub fn summary(report: &RunReport) -> String {
    let head = match report.outcome {
        RunOutcome::Ok | RunOutcome::Running => paint(GOOD, "Done:"),
        RunOutcome::Failed => paint(BAD, "Failed:"),
        RunOutcome::Interrupted => paint(WARNING, "Interrupted:"),
        RunOutcome::Waiting => paint(WARNING, "Waiting for people:"),
        RunOutcome::Detached => paint(GOOD, "Detached:"),
    };
    let counts = [
        (StageOutcome::Failed, "failed"),
        (StageOutcome::Ran, "ran"),
        (StageOutcome::Fetched, "from remotes"),
        (StageOutcome::Cached, "cached"),
        (StageOutcome::Skipped, "skipped"),
        (StageOutcome::Waiting, "waiting"),
        (StageOutcome::Detached, "on a cluster"),
    ];
    let counts = counts.iter().map(|(outcome, word)| (report.count(*outcome), word)).filter(|(n, _)| *n > 0);
    let counts: Vec<_> = counts.map(|(n, word)| format!("{n} {word}")).collect();
    let counts = if counts.is_empty() { "nothing to do".to_owned() } else { counts.join(", ") };
    let saved = match report.saved() {
        saved if saved >= 0.1 => format!(" {} saved by the cache.", seconds(saved)),
        _ => String::new(),
    };
    let next = if report.count(StageOutcome::Detached) > 0 {
        " The jobs go on: `kiln run` goes on with them, `kiln status` shows them, `kiln cancel` cancels them."
    } else if report.outcome == RunOutcome::Interrupted {
        " Run again to resume."
    } else {
        ""
    };
    format!("{head} {counts}.{saved}{next}")
}

fn sentence(advice: &str) -> String {
    if advice.is_empty() { String::new() } else { format!(". {}", advice.trim_end_matches('.')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts: Vec<_> = [0.0, 3.0, 2.1449, 0.71234, 18_432.5, 1e-5, -12.345].map(number).into();
        assert_eq!(texts, ["0", "3", "2.14", "0.712", "18432", "1.00e-5", "-12.3"]);
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<_> = (0..1000).map(|i| format!("s{i}")).collect();
        let line = anstream::adapter::strip_str(&group("=", &names, "cached")).to_string();
        assert!(line.starts_with("= s0, s1,") && line.ends_with("and 988 more   cached"), "{line}");
    }
}
