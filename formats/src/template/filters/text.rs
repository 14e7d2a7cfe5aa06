//! Filters of text.
//!
//! Purpose: cases, `trim`, `replace`, `indent`, `join`, `format` and the rest that gives text.
//! Invariant: any value is text first, as it prints; text that would become much longer is paid for before it is made.
//! Must not know: the other filters.

use minijinja::Value;

use super::order::Key;
use crate::template::methods;
use crate::template::python::arguments::{Arguments, some};
use crate::template::python::kind::{Kind, integer, items, kind, name, string};
use crate::template::python::object::{Dict, Form, List, pay_bytes, pay_items};
use crate::template::python::text::{as_safe, escape as escaped, text};
use crate::template::python::{Result, State, error, percent};

pub(super) fn cased(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let whole = text(state, value)?;
    let safe = value.is_safe();
    if call.name == "trim" {
        let [characters] = call.bind(["chars"])?;
        let characters =
            some(&characters).map(|characters| string(characters, "what is trimmed")).transpose()?;
        pay_items(state, characters.unwrap_or_default().len())?;
        return Ok(as_safe(methods::strip(&whole, characters, methods::Side::Both).to_owned(), safe));
    }
    if call.name == "center" {
        let [width] = call.bind(["width"])?;
        let width = width.map_or(Ok(80), |width| integer(&width, "a width"))?;
        let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
        pay_bytes(state, width)?;
        let missing = width.saturating_sub(whole.chars().count());
        return Ok(as_safe(methods::center(&whole, missing, " "), safe));
    }
    let [] = call.bind([])?;
    Ok(match call.name {
        "lower" => as_safe(whole.to_lowercase(), safe),
        "upper" => as_safe(whole.to_uppercase(), safe),
        "capitalize" => as_safe(methods::capitalize(&whole), safe),
        _ => Value::from(title(&whole)),
    })
}

/// Every word begins with a capital; words begin behind white space, `-`, and opening brackets.
fn title(whole: &str) -> String {
    let is_border = |character: char| {
        crate::template::syntax::is_space(character) || matches!(character, '-' | '(' | '{' | '[' | '<')
    };
    let mut out = String::with_capacity(whole.len());
    let mut rest = whole;
    while !rest.is_empty() {
        let word = rest.find(is_border).unwrap_or(rest.len());
        out.push_str(&methods::title_word(&rest[..word]));
        let after = rest[word..].trim_start_matches(is_border);
        out.push_str(&rest[word..rest.len() - after.len()]);
        rest = after;
    }
    out
}

pub(super) fn replace(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [old, new, count] = call.bind(["old", "new", "count"])?;
    let (old, new) = (old.ok_or_else(|| call.missing("old"))?, new.ok_or_else(|| call.missing("new"))?);
    let count = some(&count).map_or(Ok(-1), |count| integer(count, "a count"))?;
    let whole = text(state, value)?;
    let replaced = methods::replace(state, &whole, &text(state, &old)?, &text(state, &new)?, count)?;
    Ok(Value::from(replaced))
}

pub(super) fn indent(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [width, first, blank] = call.bind(["width", "first", "blank"])?;
    let Kind::Str(whole) = kind(value) else {
        return Err(error(format!("`indent` takes text, not a {}", name(value))));
    };
    let indention = match width.as_ref().map(|width| (kind(width), width)) {
        None => "    ".to_owned(),
        Some((Kind::Str(text), _)) => text.to_owned(),
        Some((_, width)) => {
            let width = usize::try_from(integer(width, "a width")?.max(0)).unwrap_or(usize::MAX);
            pay_bytes(state, width)?;
            " ".repeat(width)
        }
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let whole = format!("{whole}\n");
    let lines = methods::lines(&whole, false);
    pay_bytes(state, whole.len() + indention.len().saturating_mul(lines.len()))?;
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let indented = if index == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if indented { &indention } else { "" });
        out.push_str(line);
    }
    Ok(as_safe(out, value.is_safe()))
}

pub(super) fn truncate(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [length, kill, end, leeway] = call.bind(["length", "killwords", "end", "leeway"])?;
    let size = crate::template::python::kind::length(state, value)? as i128;
    let length = length.map_or(Ok(255), |length| integer(&length, "a length"))?;
    let leeway = some(&leeway).map_or(Ok(5), |leeway| integer(leeway, "a leeway"))?;
    let end = end.unwrap_or(Value::from("..."));
    let end = string(&end, "the end of `truncate`")?;
    let end_length = end.chars().count() as i128;
    if length < end_length || leeway < 0 {
        return Err(error("`truncate` takes a length of at least that of its end, and no negative leeway"));
    }
    if size <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let whole = string(value, "the value of `truncate`")?;
    let kept: String = whole.chars().take(usize::try_from(length - end_length).unwrap_or_default()).collect();
    let kept = match kill.is_some_and(|kill| kill.is_true()) {
        true => kept.as_str(),
        false => kept.rsplit_once(' ').map_or(kept.as_str(), |(before, _)| before),
    };
    Ok(as_safe(format!("{kept}{end}"), value.is_safe()))
}

pub(super) fn format(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    if call.has_named() && !call.values.is_empty() {
        return Err(error("`format` takes either values or named values"));
    }
    let values = match call.has_named() {
        true => Dict::paid(state, call.named()?)?,
        false => List::value(call.values.to_vec(), Form::Tuple)?,
    };
    let whole = text(state, value)?.into_owned();
    percent::format(state, &as_safe(whole, value.is_safe()), &values)
}

pub(super) fn join(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [separator, attribute] = call.bind(["d", "attribute"])?;
    let separator = separator.unwrap_or(Value::from(""));
    let separator = text(state, &separator)?;
    let key = Key::new(some(&attribute), None)?;
    let mut out = String::new();
    for (index, item) in items(state, value)?.iter().enumerate() {
        let item = key.of(state, item)?;
        let part = text(state, &item)?;
        pay_bytes(state, separator.len() + part.len())?;
        if index > 0 {
            out.push_str(&separator);
        }
        out.push_str(&part);
    }
    Ok(Value::from(out))
}

pub(super) fn escape(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    if value.is_safe() && call.name != "forceescape" {
        return Ok(value.clone());
    }
    let whole = text(state, value)?;
    pay_bytes(state, whole.len() * 5)?;
    Ok(Value::from_safe_string(escaped(&whole)))
}

/// `safe` marks text; `string` leaves it.
pub(super) fn marked(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    let safe = call.name == "safe" || value.is_safe();
    Ok(as_safe(text(state, value)?.into_owned(), safe))
}

pub(super) fn url_encode(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    let pairs = match kind(value) {
        Kind::Dict(dict) => dict.entries().collect(),
        Kind::List(_) | Kind::Generator(_) => {
            let mut pairs = Vec::new();
            for pair in items(state, value)? {
                let [key, value] =
                    items(state, &pair)?.try_into().map_err(|_| error("`urlencode` takes pairs"))?;
                pairs.push((key, value));
            }
            pairs
        }
        _ => {
            let whole = text(state, value)?;
            pay_bytes(state, whole.len() * 3)?;
            return Ok(Value::from(percent_encoded(&whole, false)));
        }
    };
    let mut parts = Vec::new();
    for (key, value) in pairs {
        let (key, value) = (text(state, &key)?, text(state, &value)?);
        pay_bytes(state, (key.len() + value.len()) * 3)?;
        parts.push(format!("{}={}", percent_encoded(&key, true), percent_encoded(&value, true)));
    }
    Ok(Value::from(parts.join("&")))
}

fn percent_encoded(whole: &str, query: bool) -> String {
    let mut out = String::with_capacity(whole.len());
    for byte in whole.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(byte.into()),
            b'/' if !query => out.push('/'),
            b' ' if query => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

pub(super) fn word_count(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    let whole = text(state, value)?;
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let words = whole.split(|character| !is_part(character)).filter(|word| !word.is_empty());
    Ok(Value::from(words.count()))
}
