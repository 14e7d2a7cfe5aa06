//! A row before its shape is known.
//!
//! Purpose: the columns that some shape knows, with their values as JSON; the strict reading of JSON into them.
//! Invariant: a column stands once in a row, and so does a key in each object; columns that no shape knows are not kept.
//! Must not know: files, what the columns mean.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;

use super::json::{Json, Strict};

/// Every column that a shape reads; the others are skipped while a row is read.
pub(super) const COLUMNS: [&str; 29] = [
    "text",
    "content",
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "completion",
    "completions",
    "question",
    "answer",
    "response",
    "instruction",
    "input",
    "context",
    "output",
    "history",
    "system",
    "system_prompt",
    "tools",
    "chosen",
    "rejected",
    "score_chosen",
    "score_rejected",
    "ranks",
    "annotator",
    "seconds",
    "flags",
    "label",
    "labels",
];

/// The columns whose values are lists in every shape: a CSV has them as JSON.
const LISTS: [&str; 9] = [
    "messages",
    "conversations",
    "conversation",
    "completions",
    "history",
    "tools",
    "ranks",
    "flags",
    "labels",
];

/// The column of this name, if a shape knows it.
pub(super) fn column(name: &str) -> Option<&'static str> {
    COLUMNS.into_iter().find(|&column| column == name)
}

/// Whether the column holds lists in every shape.
pub(super) fn is_list(column: &str) -> bool {
    LISTS.contains(&column)
}

/// A row of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    /// The columns that are known, in the order of the file.
    cells: Vec<(&'static str, Json)>,
    /// The names of the other columns, where they were asked for.
    pub(super) others: Vec<String>,
    /// Whether the text of this row goes on in the next one.
    pub(super) goes_on: bool,
}

impl Row {
    /// A row of one text.
    pub(super) fn text(text: String, goes_on: bool) -> Self {
        Self { cells: vec![("text", Json::String(text))], others: Vec::new(), goes_on }
    }

    /// Adds a column.
    pub(super) fn push(&mut self, column: &'static str, value: Json) {
        self.cells.push((column, value));
    }

    /// The value of a column; none when it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        let cell = self.cells.iter().find(|(column, _)| *column == name);
        cell.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Takes the value of a column out; none when it is missing or null.
    pub(super) fn take(&mut self, name: &str) -> Option<Json> {
        let cell = self.cells.iter_mut().find(|(column, _)| *column == name);
        cell.map(|(_, value)| std::mem::take(value)).filter(|value| !value.is_null())
    }

    /// About how many bytes the row has.
    pub(super) fn size(&self) -> usize {
        self.cells.iter().map(|(_, value)| weight(value)).sum()
    }

    /// The names of the columns that have values, for messages.
    pub(super) fn names(&self) -> Vec<&str> {
        let known = self.cells.iter().filter(|(_, value)| !value.is_null()).map(|(column, _)| *column);
        known.chain(self.others.iter().map(String::as_str)).collect()
    }
}

/// About how many bytes a value has.
fn weight(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(values) => values.iter().map(weight).sum(),
        Json::Object(fields) => fields.iter().map(|(_, value)| weight(value)).sum(),
        _ => 8,
    }
}

/// Reads a row from the JSON of an object. With `names`, those of unknown columns are kept.
///
/// # Errors
/// A few words that say what is wrong, with the column of the text where there is one.
pub(super) fn parse(json: &[u8], names: bool) -> Result<Row, String> {
    let start = json.trim_ascii_start();
    if start.starts_with(b"[") {
        return Err("this is an array; a row is an object, such as {\"text\": \"..\"}".into());
    }
    if !start.starts_with(b"{") {
        let is_json = serde_json::from_slice::<IgnoredAny>(json).is_ok();
        let what = if is_json { "this is no object" } else { "this is not JSON" };
        return Err(format!("{what}; a row is an object, such as {{\"text\": \"..\"}}"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let row = RowSeed { names }.deserialize(&mut deserializer).map_err(|error| said(&error, json))?;
    deserializer.end().map_err(|error| said(&error, json))?;
    Ok(row)
}

/// Reads a value from JSON; a key that stands twice in an object is an error.
///
/// # Errors
/// A few words that say what is wrong.
pub(super) fn parse_value(json: &[u8]) -> Result<Json, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Strict.deserialize(&mut deserializer).map_err(|error| said(&error, json))?;
    deserializer.end().map_err(|error| said(&error, json))?;
    Ok(value)
}

/// What serde_json said, in the words of JSON and without its own line number (a row is always its line 1).
fn said(error: &serde_json::Error, json: &[u8]) -> String {
    let text = error.to_string();
    let what = text.split_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let what = match error.classify() {
        Category::Eof => "this JSON has no end",
        _ => what,
    };
    let rest = json.get(error.column().saturating_sub(1)..).unwrap_or_default();
    let hint = match rest {
        _ if error.line() > 1 => "",
        [b'N', b'a', ..] | [b'I', b'n', ..] => " (JSON has no NaN and no Infinity; write null)",
        [b'\'', ..] => " (this is how Python prints a value; write JSON, with double quotes)",
        _ => "",
    };
    match (error.line(), error.column()) {
        (0 | 1, 0 | 1) => format!("{what}{hint}"),
        (0 | 1, column) => format!("{what} at column {column}{hint}"),
        (line, column) => format!("{what} at column {column} of the row's line {line}"),
    }
}

/// Reads an object as a row.
struct RowSeed {
    names: bool,
}

impl<'de> DeserializeSeed<'de> for RowSeed {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row::default();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let Some(column) = column(&key) else {
                map.next_value::<IgnoredAny>()?;
                if self.names {
                    row.others.push(key.into_owned());
                }
                continue;
            };
            if row.cells.iter().any(|(known, _)| *known == column) {
                return Err(A::Error::custom(format!("duplicate field `{column}`")));
            }
            row.push(column, map.next_value_seed(Strict)?);
        }
        Ok(row)
    }
}
