//! `tojson`.
//!
//! Purpose: `json.dumps(value, ensure_ascii, indent, separators, sort_keys)` as transformers calls it.
//! Invariant: the same characters as Python's `json` writes; a value that JSON has not is an error.
//! Must not know: the other filters.

use std::fmt::Write;

use minijinja::Value;

use crate::template::python::arguments::{Arguments, some};
use crate::template::python::compare::order;
use crate::template::python::kind::{Kind, integer, items, kind, name, string};
use crate::template::python::number;
use crate::template::python::object::{Form, pay, pay_bytes};
use crate::template::python::{Result, State, error};

struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

pub(super) fn to_json(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [ascii, indent, separators, sort_keys] =
        call.bind(["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = some(&indent).map(indentation).transpose()?;
    let mut style = Style {
        ascii: ascii.is_some_and(|ascii| ascii.is_true()),
        item_separator: if indent.is_some() { "," } else { ", " }.into(),
        key_separator: ": ".into(),
        sort_keys: sort_keys.is_some_and(|sort| sort.is_true()),
        indent,
    };
    if let Some(separators) = some(&separators) {
        let [item, key] = items(state, separators)?
            .try_into()
            .map_err(|_| error("`separators` of `tojson` takes two texts: between items, and behind keys"))?;
        style.item_separator = string(&item, "a separator")?.to_owned();
        style.key_separator = string(&key, "a separator")?.to_owned();
    }
    pay(state, value)?;
    let mut out = String::new();
    write(state, &mut out, value, &style, 0)?;
    Ok(Value::from(out))
}

/// What a level is indented by: so many spaces, or this text.
fn indentation(indent: &Value) -> Result<String> {
    if let Kind::Str(text) = kind(indent) {
        return Ok(text.to_owned());
    }
    let width = integer(indent, "`indent` of `tojson`")?.max(0);
    match usize::try_from(width) {
        Ok(width) if width <= 1_000 => Ok(" ".repeat(width)),
        _ => Err(error("`indent` of `tojson` is more than 1000")),
    }
}

/// Writes a value, for which the caller has paid. Depth is bounded by the depth of containers.
fn write(state: &State<'_, '_>, out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<()> {
    match kind(value) {
        Kind::None => out.push_str("null"),
        Kind::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
        Kind::Int(integer) => write!(out, "{integer}").unwrap_or_default(),
        Kind::Float(float) => out.push_str(&json_float(float)),
        Kind::Str(text) => {
            pay_bytes(state, text.len())?;
            quote(out, text, style.ascii);
        }
        Kind::List(list) if list.is_tuple() || list.form == Form::List => {
            let write_item = |out: &mut String, item: &Value| write(state, out, item, style, depth + 1);
            enclosed(state, out, ['[', ']'], list.items.iter(), style, depth, write_item)?;
        }
        Kind::Dict(dict) => {
            let mut entries: Vec<(Value, Value)> = dict.entries().collect();
            if style.sort_keys {
                sort(state, &mut entries)?;
            }
            let write_entry = |out: &mut String, (key, value): &(Value, Value)| {
                quote(out, &key_text(key)?, style.ascii);
                out.push_str(&style.key_separator);
                write(state, out, value, style, depth + 1)
            };
            enclosed(state, out, ['{', '}'], entries.iter(), style, depth, write_entry)?;
        }
        _ => return Err(error(format!("JSON has no {}", name(value)))),
    }
    Ok(())
}

fn enclosed<T>(
    state: &State<'_, '_>,
    out: &mut String,
    [open, close]: [char; 2],
    parts: impl ExactSizeIterator<Item = T>,
    style: &Style,
    depth: usize,
    mut write_part: impl FnMut(&mut String, T) -> Result<()>,
) -> Result<()> {
    out.push(open);
    let is_empty = parts.len() == 0;
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push_str(&style.item_separator);
        }
        new_line(state, out, style, depth + 1)?;
        write_part(out, part)?;
    }
    if !is_empty {
        new_line(state, out, style, depth)?;
    }
    out.push(close);
    Ok(())
}

fn new_line(state: &State<'_, '_>, out: &mut String, style: &Style, depth: usize) -> Result<()> {
    if let Some(indent) = &style.indent {
        pay_bytes(state, indent.len() * depth)?;
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(indent));
    }
    Ok(())
}

/// By their keys, which must have an order.
fn sort(state: &State<'_, '_>, entries: &mut [(Value, Value)]) -> Result<()> {
    let mut failure = None;
    entries.sort_by(|left, right| match order(state, &left.0, &right.0) {
        Ok(order) => order.unwrap_or(std::cmp::Ordering::Equal),
        Err(error) => {
            failure = Some(error);
            std::cmp::Ordering::Equal
        }
    });
    failure.map_or(Ok(()), Err)
}

fn json_float(float: f64) -> String {
    match float {
        float if float.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        float => number::repr(float),
    }
}

/// The key of a dict as the text that it becomes.
fn key_text(key: &Value) -> Result<String> {
    Ok(match kind(key) {
        Kind::Str(text) => text.to_owned(),
        Kind::None => "null".into(),
        Kind::Bool(truth) => truth.to_string(),
        Kind::Int(integer) => integer.to_string(),
        Kind::Float(float) => json_float(float),
        _ => return Err(error(format!("a {} cannot be a key in JSON", name(key)))),
    })
}

fn quote(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(character)).unwrap_or_default(),
            '\u{7f}'.. if ascii && !character.is_ascii() => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
