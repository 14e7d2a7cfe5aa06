//! `strftime_now` with a clock that stands.
//!
//! Purpose: transformers gives templates the time of the day; two renderings must give the same bytes, so the time is an
//! input here.
//! Invariant: nothing reads a clock. Without a time, the call of `strftime_now` is an error that says what to do.
//! Must not know: templates.

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use minijinja::{Error, Value};

use super::error::TemplateError;
use super::python::error;

/// The variable of the input that holds the time.
pub(super) const NAME: &str = "strftime_now";

/// The function `strftime_now` for a time like `2024-07-26` or `2024-07-26T12:30:00`.
pub(super) fn at(time: &Value) -> Result<Value, TemplateError> {
    let parsed = time.as_str().and_then(|text| text.parse::<DateTime>().ok());
    let time = parsed.ok_or_else(|| {
        TemplateError::Input(format!(
            "`{NAME}` must be a date or a time like 2024-07-26 or 2024-07-26T12:30:00"
        ))
    })?;
    Ok(Value::from_function(move |format: &str| formatted(time, format)))
}

/// The function `strftime_now` without a time.
pub(super) fn unknown() -> Value {
    Value::from_function(|_format: &str| -> Result<String, Error> {
        Err(error(format!(
            "the template asks for the date of today; give the variable `{NAME}` a date like \"2024-07-26\" \
             (or `date_string`, if the template has it), so that every rendering is the same"
        )))
    })
}

/// `strftime` in the C locale, as Python has it for a time without a zone.
fn formatted(time: DateTime, format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let flag = rest.clone().next().filter(|flag| matches!(flag, '-' | '_' | '0' | '^' | '#'));
        if flag.is_some() {
            rest.next();
        }
        let Some(letter) = rest.next() else { return Err(error("an incomplete format of a date")) };
        let expanded = match letter {
            '%' => "%%".to_owned(),
            'Z' | 'z' => continue,
            'c' => "%a %b %e %H:%M:%S %Y".into(),
            'x' | 'D' => "%m/%d/%y".into(),
            'X' | 'T' => "%H:%M:%S".into(),
            'r' => "%I:%M:%S %p".into(),
            'R' => "%H:%M".into(),
            'F' => "%Y-%m-%d".into(),
            'h' => "%b".into(),
            'f' => "%6f".into(),
            'n' => "\n".into(),
            't' => "\t".into(),
            'a' | 'A' | 'b' | 'B' | 'C' | 'd' | 'e' | 'G' | 'H' | 'I' | 'j' | 'k' | 'l' | 'm' | 'M' | 'p'
            | 'P' | 'S' | 'u' | 'U' | 'V' | 'w' | 'W' | 'y' | 'Y' | 'g' => {
                format!("%{}{letter}", flag.map(String::from).unwrap_or_default())
            }
            other => return Err(error(format!("a format of a date has no `%{other}`"))),
        };
        let text = strtime::format(&expanded, time);
        out.push_str(&text.map_err(|what| error(format!("the format `%{letter}` of a date: {what}")))?);
        if out.len() > format.len().saturating_mul(32) {
            return Err(error("too long a date"));
        }
    }
    Ok(out)
}
