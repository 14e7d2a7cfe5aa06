//! Values of a row as what a shape asks for.
//!
//! Purpose: strings, numbers and lists out of JSON, or a fault that says what was found instead.
//! Invariant: every fault names its field.
//! Must not know: shapes.

use super::super::error::Fault;
use super::super::json::Json;
use super::super::row::Row;

/// The most characters of a value that a message shows.
const SHOWN: usize = 60;

/// What a value is, in words.
pub(super) fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// A string as a message shows it.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}..", &text[..end]),
    }
}

/// A value that is a string.
pub(super) fn string(value: Json, field: &str) -> Result<String, Fault> {
    match value {
        Json::String(text) => Ok(text),
        other => Err(Fault::new(field, format!("expected a string, found {}", kind(&other)))),
    }
}

/// A string that says something.
pub(super) fn said(value: Json, field: &str) -> Result<String, Fault> {
    let text = string(value, field)?;
    if text.trim().is_empty() { Err(Fault::new(field, "it is empty")) } else { Ok(text) }
}

/// The first of these columns that the row has.
pub(super) fn first(row: &mut Row, names: &[&'static str]) -> Option<(&'static str, Json)> {
    names.iter().find_map(|name| Some((*name, row.take(name)?)))
}

/// The first of these columns, which must be there.
pub(super) fn needed(row: &mut Row, names: &[&'static str]) -> Result<(&'static str, Json), Fault> {
    first(row, names).ok_or_else(|| Fault::new(names.first().copied().unwrap_or_default(), "it is missing"))
}

/// A string in the first of these columns; none where it is missing or blank.
pub(super) fn optional(row: &mut Row, names: &[&'static str]) -> Result<Option<String>, Fault> {
    let Some((name, value)) = first(row, names) else { return Ok(None) };
    Ok(Some(string(value, name)?).filter(|text| !text.trim().is_empty()))
}

/// A value that is a list.
pub(super) fn list(value: Json, field: &str) -> Result<Vec<Json>, Fault> {
    match value {
        Json::Array(values) => Ok(values),
        other => Err(Fault::new(field, format!("expected a list, found {}", kind(&other)))),
    }
}

/// A finite number; also one that is written as a string, as CSV has it.
pub(super) fn number(value: &Json, field: &str) -> Result<f64, Fault> {
    let number = match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| {
        let found = value.as_str().map_or_else(|| kind(value).to_owned(), shown);
        Fault::new(field, format!("expected a number, found {found}"))
    })
}

/// A number in this column, where there is one.
pub(super) fn optional_number(row: &mut Row, name: &'static str) -> Result<Option<f64>, Fault> {
    let value = row.take(name).filter(|value| value.as_str().is_none_or(|text| !text.trim().is_empty()));
    value.map(|value| number(&value, name)).transpose()
}
