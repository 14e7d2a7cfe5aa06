//! Filters that apply a filter or a test to every item.
//!
//! Purpose: `map`, `select`, `reject`, `selectattr` and `rejectattr`.
//! Invariant: what they give can be read once, as Python's generators; a false value gives nothing.
//! Must not know: the other filters.

use minijinja::Value;

use super::order::Key;
use crate::template::checks;
use crate::template::python::arguments::{Arguments, some};
use crate::template::python::kind::{items, string};
use crate::template::python::object::Generator;
use crate::template::python::{Result, State, error};

pub(super) fn map(state: &mut State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    if !value.is_true() {
        return Generator::value(Vec::new());
    }
    let mut mapped = Vec::new();
    if let (true, Some(attribute)) = (call.values.is_empty(), call.get("attribute")) {
        let [_, default] = call.bind(["attribute", "default"])?;
        let key = Key::new(Some(&attribute), some(&default))?;
        for item in items(state, value)? {
            mapped.push(key.of(state, &item)?);
        }
        return Generator::value(mapped);
    }
    let (name, values) =
        call.values.split_first().ok_or_else(|| error("`map` misses the name of a filter"))?;
    let name = string(name, "the name of a filter")?.to_owned();
    for item in items(state, value)? {
        state.consume_fuel(1)?;
        let inner = Arguments::new(&name, values, call.named_again()?);
        mapped.push(super::apply(state, &item, &inner)?);
    }
    Generator::value(mapped)
}

pub(super) fn select(state: &mut State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let mut kept = Vec::new();
    if !value.is_true() {
        return Generator::value(kept);
    }
    let mut values = call.values;
    let mut key = Key::new(None, None)?;
    if call.name.ends_with("attr") {
        let (attribute, rest) =
            values.split_first().ok_or_else(|| error(format!("`{}` misses an attribute", call.name)))?;
        key = Key::new(Some(attribute), None)?;
        values = rest;
    }
    let test = values.split_first();
    for item in items(state, value)? {
        state.consume_fuel(1)?;
        let tested = key.of(state, &item)?;
        let holds = match test {
            None => tested.is_true(),
            Some((name, rest)) => {
                let name = string(name, "the name of a test")?;
                checks::check(state, &tested, &Arguments::new(name, rest, call.named_again()?))?
            }
        };
        if holds == call.name.starts_with("select") {
            kept.push(item);
        }
    }
    Generator::value(kept)
}
