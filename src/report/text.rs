//! Numbers and reasons as people read them.
//!
//! Purpose: durations, sizes, times, values and reasons in few characters.
//! Invariant: no control character of a file or a stage reaches the terminal.
//! Must not know: commands.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::plan::types::{Cause, Reason};
use crate::spec::diagnostic::printable_char;

/// The most characters of a value.
const MOST: usize = 48;

/// A duration: `0.4s`, `58s`, `4m10s`, `1h05m`.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{:.1}s", s.max(0.0)),
        s if s < 59.5 => format!("{s:.0}s"),
        s if s < 3599.5 => format!("{}m{:02}s", s.round() as u64 / 60, s.round() as u64 % 60),
        s => format!("{}h{:02}m", (s / 60.0).round() as u64 / 60, (s / 60.0).round() as u64 % 60),
    }
}

/// An age in its largest unit: `40s`, `12m`, `5h`, `200d`.
pub fn age(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3_600 => format!("{}m", s / 60),
        s if s < 86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// A rough duration for a forecast: `Under 1s`, `About 10s`, `About 16m`, `About 2h05m`.
pub fn about(seconds_: f64) -> String {
    match seconds_ {
        s if s < 0.95 => "Under 1s".to_owned(),
        s if (90.0..3600.0).contains(&s) => format!("About {:.0}m", s / 60.0),
        s => format!("About {}", seconds(s)),
    }
}

/// A size: `312 B`, `4.2 KB`, `48 MB`.
pub fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if size < 999.5 {
            return if unit == "B" || size >= 99.95 {
                format!("{size:.0} {unit}")
            } else {
                format!("{size:.1} {unit}")
            };
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}

/// A time in RFC 3339, short and in local time: `today 18:02`, `yesterday 18:02`, `2026-01-31 18:02`.
pub fn time(rfc3339: &str) -> String {
    let Ok(instant) = rfc3339.parse::<jiff::Timestamp>() else { return printable(rfc3339) };
    let zone = jiff::tz::TimeZone::system();
    let (then, now) = (instant.to_zoned(zone.clone()), jiff::Timestamp::now().to_zoned(zone));
    let clock = then.strftime("%H:%M");
    match now.date().since(then.date()).map(|span| span.get_days()) {
        Ok(0) => format!("today {clock}"),
        Ok(1) => format!("yesterday {clock}"),
        _ => then.strftime("%Y-%m-%d %H:%M").to_string(),
    }
}

/// A text from outside on one line, without control characters; long texts are cut.
pub fn printable(text: &str) -> String {
    cut(text, 300)
}

/// An error from outside on one line, without control characters: long enough for the paths that it names and
/// for its next step.
pub fn printable_error(text: &str) -> String {
    cut(text, 4000)
}

fn cut(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).map(printable_char).collect();
    if text.chars().nth(most).is_some() {
        out.push('…');
    }
    out
}

/// A text from outside with its lines and tabs, without other control characters.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' { c } else { printable_char(c) }).collect()
}

/// A value: a text without quotes, anything else as JSON; long values are cut.
pub fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        other => other.to_string(),
    };
    let mut out: String = text.chars().take(MOST).map(printable_char).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

/// What changed in a reason, without its name: `2e-5 -> 1e-5`.
pub fn change(reason: &Reason) -> String {
    let show = |v: &Value| match reason.cause {
        Cause::Input | Cause::Uses => digest(v),
        _ => value(v),
    };
    match (&reason.old, &reason.new) {
        (Some(old), Some(new)) => format!("{} -> {}", show(old), show(new)),
        (Some(old), None) => format!("removed (was {})", show(old)),
        (None, Some(new)) => format!("added: {}", show(new)),
        (None, None) => String::new(),
    }
}

/// A digest in key inputs, short, with the mark of an executable file in words.
fn digest(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let short: String = text.chars().take(8).map(printable_char).collect();
            if text.ends_with('*') { short + " (executable)" } else { short }
        }
        other => self::value(other),
    }
}

/// What a reason is about, without values: `params.learning_rate`, `no result yet`.
pub fn subject(reason: &Reason) -> String {
    match (&reason.cause, &reason.from) {
        (Cause::OutputsMissing, _) => format!("{} is not intact in the store", printable(&reason.what)),
        (Cause::OutputUnrecorded, _) => {
            let output = reason.what.strip_prefix("outputs.").unwrap_or(&reason.what);
            format!("its record lacks the output `{}`", printable(output))
        }
        (Cause::Untrusted, _) => "no trusted key has signed its record".to_owned(),
        (Cause::Forced, _) => "forced with --force".to_owned(),
        (Cause::Waits, Some(from)) => format!("waits on {}", printable(from)),
        (Cause::Input, Some(from)) => format!("{} ({})", printable(&reason.what), printable(from)),
        _ => printable(&reason.what),
    }
}

/// A reason on one line, as in a plan.
pub fn reason(reason: &Reason) -> String {
    let subject = subject(reason);
    let subject = subject.strip_prefix("params.").unwrap_or(&subject);
    match reason.cause {
        Cause::Command => "its command changed".to_owned(),
        _ => format!("{subject} {}", change(reason)).trim_end().to_owned(),
    }
}

/// Pads a text to a width in columns.
pub fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// The width of the widest text in columns; texts wider than `most` do not count.
pub fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, most: usize) -> usize {
    texts.into_iter().map(UnicodeWidthStr::width).filter(|n| *n <= most).max().unwrap_or(0)
}

/// Rows as lines with their columns aligned, two spaces apart.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| widest(rows.iter().filter_map(|r| r.get(c)).map(String::as_str), 80);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| pad(cell, *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::types::Span;

    #[test]
    fn durations_and_sizes_are_short() {
        let texts: Vec<_> = [0.04, 9.9, 58.2, 250.0, 3599.9, 3900.0].map(seconds).into();
        assert_eq!(texts, ["0.0s", "9.9s", "58s", "4m10s", "1h00m", "1h05m"]);
        let texts: Vec<_> = [312, 4_200, 48_000_000, 999_999, 3_000_000_000_000].map(bytes).into();
        assert_eq!(texts, ["312 B", "4.2 KB", "48.0 MB", "1.0 MB", "3.0 TB"]);
    }

    #[test]
    fn an_age_has_one_unit() {
        let texts: Vec<_> = [0, 59, 60, 7_199, 86_399, 17_280_000].map(age).into();
        assert_eq!(texts, ["0s", "59s", "1m", "1h", "23h", "200d"]);
    }

    #[test]
    fn columns_are_aligned_by_what_a_terminal_shows() {
        let rows = [["ab", "x"], ["日本", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), ["ab    x", "日本  y"]);
    }

    #[test]
    fn a_file_that_became_executable_is_told_from_what_it_was() {
        let (cause, what, from) = (Cause::Uses, "uses.a".to_owned(), None);
        let (old, new) = (Some("91c0f3a2".repeat(8).into()), Some(("91c0f3a2".repeat(8) + "*").into()));
        let reason = Reason { cause, what, old, new, from, span: Span::default() };
        assert_eq!(change(&reason), "91c0f3a2 -> 91c0f3a2 (executable)");
    }

    #[test]
    fn no_control_character_from_outside_reaches_the_terminal() {
        assert_eq!(value(&Value::from("a\u{1b}[31m\u{202e}b\nc")), "a\u{fffd}[31m\u{fffd}b c");
    }
}
