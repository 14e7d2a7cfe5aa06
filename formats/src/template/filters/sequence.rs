//! Filters of sequences.
//!
//! Purpose: `first`, `last`, `list`, `items`, `reverse`, `batch`, `slice`, `length`, `default` and `attr`.
//! Invariant: what Python makes one by one can be read once.
//! Must not know: the other filters.

use minijinja::Value;

use crate::template::python::access;
use crate::template::python::arguments::{Arguments, some};
use crate::template::python::kind::{self, Kind, integer, kind, name, string};
use crate::template::python::object::{Form, Generator, List, pay_items};
use crate::template::python::text::as_safe;
use crate::template::python::{Result, State, error};

pub(super) fn attribute(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [attribute] = call.bind(["name"])?;
    let attribute = attribute.ok_or_else(|| call.missing("name"))?;
    let attribute = string(&attribute, "an attribute")?;
    access::own_attribute(state, value, attribute)
}

pub(super) fn length(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    kind::length(state, value).map(Value::from)
}

pub(super) fn default(value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [default, boolean] = call.bind(["default_value", "boolean"])?;
    let is_missing =
        kind::is_undefined(value) || (boolean.is_some_and(|boolean| boolean.is_true()) && !value.is_true());
    Ok(if is_missing { default.unwrap_or(Value::from("")) } else { value.clone() })
}

pub(super) fn first(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    match kind(value) {
        Kind::Generator(generator) => Ok(generator.pop().unwrap_or_default()),
        Kind::Str(text) => Ok(text.chars().next().map_or(Value::UNDEFINED, Value::from)),
        Kind::List(list) => Ok(list.items.first().cloned().unwrap_or_default()),
        _ => Ok(kind::items(state, value)?.into_iter().next().unwrap_or_default()),
    }
}

pub(super) fn last(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    match kind(value) {
        Kind::Generator(_) => {
            Err(error("a generator has no last item; make a list of it with `list` before"))
        }
        Kind::Str(text) => Ok(text.chars().next_back().map_or(Value::UNDEFINED, Value::from)),
        Kind::List(list) => Ok(list.items.last().cloned().unwrap_or_default()),
        _ => Ok(kind::items(state, value)?.pop().unwrap_or_default()),
    }
}

pub(super) fn list(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    List::value(kind::items(state, value)?, Form::List)
}

pub(super) fn items(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    match kind(value) {
        Kind::Undefined => Generator::value(Vec::new()),
        Kind::Dict(dict) => {
            pay_items(state, dict.length)?;
            let pairs: Result<Vec<Value>> =
                dict.entries().map(|(key, value)| List::value(vec![key, value], Form::Tuple)).collect();
            Generator::value(pairs?)
        }
        _ => Err(error(format!("`items` takes a dict, not a {}", name(value)))),
    }
}

pub(super) fn reverse(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind([])?;
    if let Kind::Str(text) = kind(value) {
        return Ok(as_safe(text.chars().rev().collect(), value.is_safe()));
    }
    let mut items = kind::items(state, value)?;
    items.reverse();
    match kind(value) {
        Kind::Generator(_) => List::value(items, Form::List),
        _ => Generator::value(items),
    }
}

fn count(call: &Arguments<'_>, value: Option<Value>, name: &str) -> Result<i128> {
    integer(&value.ok_or_else(|| call.missing(name))?, "a count")
}

pub(super) fn batch(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [size, fill] = call.bind(["linecount", "fill_with"])?;
    let size = count(call, size, "linecount")?;
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut batch = Vec::new();
    for item in kind::items(state, value)? {
        if batch.len() as i128 == size {
            batches.push(std::mem::take(&mut batch));
        }
        batch.push(item);
    }
    if !batch.is_empty() {
        if let Some(fill) = some(&fill) {
            let missing = usize::try_from(size).unwrap_or_default().saturating_sub(batch.len());
            pay_items(state, missing)?;
            batch.extend(std::iter::repeat_n(fill.clone(), missing));
        }
        batches.push(batch);
    }
    let lists: Result<Vec<Value>> = batches.into_iter().map(|batch| List::value(batch, Form::List)).collect();
    Generator::value(lists?)
}

pub(super) fn slice(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [slices, fill] = call.bind(["slices", "fill_with"])?;
    let slices = count(call, slices, "slices")?;
    let items = kind::items(state, value)?;
    let count = usize::try_from(slices.max(0)).unwrap_or(usize::MAX);
    if slices == 0 {
        return Err(error("a division by zero"));
    }
    pay_items(state, count)?;
    let size = items.len().checked_div(count).unwrap_or(0);
    let extra = items.len() - size * count;
    let mut parts = Vec::new();
    let mut start = 0;
    for index in 0..count {
        let end = start + size + usize::from(index < extra);
        let mut part = items[start..end].to_vec();
        if let Some(fill) = some(&fill).filter(|_| index >= extra) {
            part.push(fill.clone());
        }
        parts.push(List::value(part, Form::List)?);
        start = end;
    }
    Generator::value(parts)
}
