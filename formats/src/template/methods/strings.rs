//! The methods of `str`.
//!
//! Purpose: from arguments to what [`super::split`] and [`super::letters`] do, and the rest of the methods.
//! Invariant: text that would become much longer is paid for before it is made.
//! Must not know: how methods are found.

use minijinja::Value;

use super::containers::clamp;
use super::letters;
use super::split::{self, Side};
use crate::template::python::arguments::{Arguments, some};
use crate::template::python::kind::{Kind, integer, items, kind, name, string};
use crate::template::python::object::{Form, List, pay_bytes, pay_items};
use crate::template::python::text::{escape, escaped};
use crate::template::python::{Result, State, braces, error};

pub(super) fn call(state: &mut State<'_, '_>, text: &str, safe: bool, call: &Arguments<'_>) -> Result<Value> {
    pay_bytes(state, text.len())?;
    if let Some(answer) = letters::is_all(call.name, text) {
        let [] = call.bind_values()?;
        return Ok(Value::from(answer));
    }
    match call.name {
        "lower" | "upper" | "casefold" | "capitalize" | "title" | "swapcase" => change_case(text, call),
        "strip" | "lstrip" | "rstrip" => strip(state, text, call),
        "split" | "rsplit" => split(state, text, call),
        "splitlines" => {
            let [keep] = call.bind(["keepends"])?;
            list(state, split::lines(text, keep.is_some_and(|keep| keep.is_true())))
        }
        "partition" | "rpartition" => partition(text, call),
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, call),
        "startswith" | "endswith" => affix(state, text, call),
        "removeprefix" | "removesuffix" => remove(text, call),
        "replace" => {
            let [old, new, count] = call.bind_values()?;
            let old = old.ok_or_else(|| call.missing("old"))?;
            let new = new.ok_or_else(|| call.missing("new"))?;
            let (old, new) = (string(&old, "the old text")?, string(&new, "the new text")?);
            let count = count.map_or(Ok(-1), |count| integer(&count, "a count"))?;
            let new = if safe { escape(new) } else { new.to_owned() };
            replace(state, text, old, &new, count).map(Value::from)
        }
        "join" => join(state, text, safe, call),
        "center" | "ljust" | "rjust" => justify(state, text, safe, call),
        "zfill" => zero_fill(state, text, call),
        "expandtabs" => expand_tabs(state, text, call),
        "format" => braces::format(state, text, call, safe).map(Value::from),
        _ => {
            let [map] = call.bind_values()?;
            let map = map.ok_or_else(|| call.missing("mapping"))?;
            let Kind::Dict(dict) = kind(&map) else { return Err(error("`format_map` takes a dict")) };
            let named = dict.entries().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)));
            braces::format(state, text, &Arguments::new("format_map", &[], named.collect()), safe)
                .map(Value::from)
        }
    }
}

fn change_case(text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind_values()?;
    Ok(Value::from(match call.name {
        "lower" => text.to_lowercase(),
        "upper" => text.to_uppercase(),
        "capitalize" => letters::capitalize(text),
        "title" => letters::title(text),
        "swapcase" => letters::swap_case(text),
        _ => letters::case_fold(text),
    }))
}

fn strip(state: &State<'_, '_>, text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [characters] = call.bind_values()?;
    let characters =
        some(&characters).map(|characters| string(characters, "what is stripped")).transpose()?;
    pay_items(state, characters.unwrap_or_default().len())?;
    let side = match call.name {
        "lstrip" => Side::Left,
        "rstrip" => Side::Right,
        _ => Side::Both,
    };
    Ok(Value::from(split::strip(text, characters, side)))
}

fn list(state: &State<'_, '_>, parts: Vec<&str>) -> Result<Value> {
    pay_items(state, parts.len())?;
    List::value(parts.into_iter().map(Value::from).collect(), Form::List)
}

fn split(state: &State<'_, '_>, text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [separator, most] = call.bind(["sep", "maxsplit"])?;
    let most = most.map_or(Ok(-1), |most| integer(&most, "maxsplit"))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let from_right = call.name == "rsplit";
    match some(&separator) {
        None => list(state, split::words(text, most, from_right)),
        Some(separator) => {
            let separator = not_empty(separator)?;
            list(state, split::parts(text, separator, most, from_right))
        }
    }
}

fn not_empty(separator: &Value) -> Result<&str> {
    match string(separator, "a separator")? {
        "" => Err(error("an empty separator")),
        separator => Ok(separator),
    }
}

fn partition(text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [separator] = call.bind_values()?;
    let separator = separator.ok_or_else(|| call.missing("separator"))?;
    let parts = split::partition(text, not_empty(&separator)?, call.name == "rpartition");
    List::value(parts.into_iter().map(Value::from).collect(), Form::Tuple)
}

/// The part of a text between two bounds, in characters, and where it begins; nothing if it begins behind the end.
fn part<'t>(text: &'t str, start: Option<&Value>, stop: Option<&Value>) -> Result<Option<(&'t str, usize)>> {
    if start.is_none() && stop.is_none() {
        return Ok(Some((text, 0)));
    }
    let length = text.chars().count();
    let first = start.map_or(Ok(0), |start| integer(start, "a bound"))?;
    let last = stop.map_or(Ok(i128::MAX), |stop| integer(stop, "a bound"))?;
    if first > length as i128 {
        return Ok(None);
    }
    let (first, last) = (clamp(first, length), clamp(last, length));
    if first > last {
        return Ok(None);
    }
    let byte = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    Ok(Some((&text[byte(first)..byte(last)], first)))
}

fn search(text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [what, start, stop] = call.bind_values()?;
    let what = what.ok_or_else(|| call.missing("sub"))?;
    let what = string(&what, "what is looked for")?;
    let part = part(text, some(&start), some(&stop))?;
    if call.name == "count" {
        let count = part.map_or(0, |(part, _)| match what {
            "" => part.chars().count() + 1,
            what => part.matches(what).count(),
        });
        return Ok(Value::from(count));
    }
    let found = part.and_then(|(part, first)| {
        let at = if call.name.starts_with('r') { part.rfind(what) } else { part.find(what) };
        at.map(|at| first + part[..at].chars().count())
    });
    match found {
        Some(index) => Ok(Value::from(index)),
        None if call.name.ends_with("index") => Err(error("the text that `index` looks for is not there")),
        None => Ok(Value::from(-1)),
    }
}

fn affix(state: &State<'_, '_>, text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [affix, start, stop] = call.bind_values()?;
    let affix = affix.ok_or_else(|| call.missing("prefix"))?;
    let choices = match kind(&affix) {
        Kind::List(list) if list.is_tuple() => items(state, &affix)?,
        Kind::Str(_) => vec![affix.clone()],
        _ => {
            return Err(error(format!(
                "`{}` takes a str or a tuple of them, not a {}",
                call.name,
                name(&affix)
            )));
        }
    };
    let Some((part, _)) = part(text, some(&start), some(&stop))? else { return Ok(Value::from(false)) };
    for choice in &choices {
        let choice = string(choice, "a prefix or suffix")?;
        let found = if call.name == "startswith" { part.starts_with(choice) } else { part.ends_with(choice) };
        if found {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

fn remove(text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [affix] = call.bind_values()?;
    let affix = affix.ok_or_else(|| call.missing("prefix"))?;
    let affix = string(&affix, "a prefix or suffix")?;
    let rest = if call.name == "removeprefix" { text.strip_prefix(affix) } else { text.strip_suffix(affix) };
    Ok(Value::from(rest.unwrap_or(text)))
}

/// `replace`, at most `count` times unless that is negative.
pub(in crate::template) fn replace(
    state: &State<'_, '_>,
    text: &str,
    old: &str,
    new: &str,
    count: i128,
) -> Result<String> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let found = match old {
        "" => text.chars().count() + 1,
        old => text.matches(old).count(),
    };
    pay_bytes(state, text.len().saturating_add(found.min(most).saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, most))
}

fn join(state: &State<'_, '_>, text: &str, safe: bool, call: &Arguments<'_>) -> Result<Value> {
    let [values] = call.bind_values()?;
    let values = items(state, &values.ok_or_else(|| call.missing("iterable"))?)?;
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            pay_bytes(state, text.len())?;
            out.push_str(text);
        }
        let part = match safe {
            true => escaped(state, value)?,
            false => string(value, "an item that is joined")?.to_owned(),
        };
        pay_bytes(state, part.len())?;
        out.push_str(&part);
    }
    Ok(Value::from(out))
}

fn width(state: &State<'_, '_>, text: &str, width: &Value) -> Result<usize> {
    let width = usize::try_from(integer(width, "a width")?.max(0)).unwrap_or(usize::MAX);
    pay_bytes(state, width)?;
    Ok(width.saturating_sub(text.chars().count()))
}

fn justify(state: &State<'_, '_>, text: &str, safe: bool, call: &Arguments<'_>) -> Result<Value> {
    let [wide, fill] = call.bind_values()?;
    let missing = width(state, text, &wide.ok_or_else(|| call.missing("width"))?)?;
    let fill =
        fill.map_or(Ok(" ".to_owned()), |fill| string(&fill, "a fill character").map(str::to_owned))?;
    let fill = if safe { escape(&fill) } else { fill };
    if fill.chars().count() != 1 {
        return Err(error("the fill character must be one character"));
    }
    pay_bytes(state, missing.saturating_mul(fill.len()))?;
    Ok(Value::from(match call.name {
        "ljust" => format!("{text}{}", fill.repeat(missing)),
        "rjust" => format!("{}{text}", fill.repeat(missing)),
        _ => center(text, missing, &fill),
    }))
}

/// `center` with so many characters to add.
pub(in crate::template) fn center(text: &str, missing: usize, fill: &str) -> String {
    // The odd one goes where CPython puts it, which depends on the width as well.
    let width = missing + text.chars().count();
    let left = missing / 2 + (missing & width & 1);
    format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
}

fn zero_fill(state: &State<'_, '_>, text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [wide] = call.bind_values()?;
    let missing = width(state, text, &wide.ok_or_else(|| call.missing("width"))?)?;
    let sign = usize::from(text.starts_with(['+', '-']));
    let (sign, digits) = text.split_at(if missing > 0 { sign } else { 0 });
    Ok(Value::from(format!("{sign}{}{digits}", "0".repeat(missing))))
}

fn expand_tabs(state: &State<'_, '_>, text: &str, call: &Arguments<'_>) -> Result<Value> {
    let [size] = call.bind(["tabsize"])?;
    let size = usize::try_from(size.map_or(Ok(8), |size| integer(&size, "a tab size"))?.max(0))
        .unwrap_or(usize::MAX);
    pay_bytes(state, text.matches('\t').count().saturating_mul(size))?;
    let (mut out, mut column) = (String::with_capacity(text.len()), 0usize);
    for character in text.chars() {
        match character {
            '\t' if size == 0 => {}
            '\t' => {
                let blank = size - column % size;
                out.push_str(&" ".repeat(blank));
                column += blank;
            }
            other => {
                column = if matches!(other, '\n' | '\r') { 0 } else { column + 1 };
                out.push(other);
            }
        }
    }
    Ok(Value::from(out))
}
