//! The methods of lists, tuples, dicts and numbers.
//!
//! Purpose: what reads them.
//! Invariant: searches pay for what they compare.
//! Must not know: how methods are found.

use minijinja::Value;

use crate::template::python::arguments::Arguments;
use crate::template::python::compare::equal;
use crate::template::python::kind::{Kind, integer, kind};
use crate::template::python::object::{Dict, Form, List, pay_items};
use crate::template::python::operator::int;
use crate::template::python::{Result, State, error};

pub(super) fn call_list(state: &State<'_, '_>, list: &List, call: &Arguments<'_>) -> Result<Value> {
    match call.name {
        "copy" => {
            let [] = call.bind_values()?;
            pay_items(state, list.items.len())?;
            List::value(list.items.clone(), list.form)
        }
        "count" => {
            let [value] = call.bind_values()?;
            let value = value.ok_or_else(|| call.missing("value"))?;
            let mut count = 0;
            for item in &list.items {
                state.consume_fuel(1)?;
                count += usize::from(equal(state, item, &value)?);
            }
            Ok(Value::from(count))
        }
        _ => {
            let [value, start, stop] = call.bind_values()?;
            let value = value.ok_or_else(|| call.missing("value"))?;
            let length = list.items.len();
            let bound = |bound: Option<Value>, default: usize| match bound {
                None => Ok(default),
                Some(bound) => integer(&bound, "a bound").map(|bound| clamp(bound, length)),
            };
            let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
            for index in start..stop.max(start) {
                state.consume_fuel(1)?;
                if equal(state, &list.items[index], &value)? {
                    return Ok(Value::from(index));
                }
            }
            Err(error("the value that `index` looks for is not there"))
        }
    }
}

/// A bound of a search, from the beginning and within the length.
pub(super) fn clamp(bound: i128, length: usize) -> usize {
    let signed = i128::try_from(length).unwrap_or(i128::MAX);
    let from_begin = if bound < 0 { bound.saturating_add(signed) } else { bound };
    usize::try_from(from_begin.clamp(0, signed)).unwrap_or(length)
}

pub(super) fn call_dict(
    state: &State<'_, '_>,
    target: &Value,
    dict: &Dict,
    call: &Arguments<'_>,
) -> Result<Value> {
    if call.name == "get" {
        let [key, default] = call.bind_values()?;
        let key = key.ok_or_else(|| call.missing("key"))?;
        crate::template::python::object::hashable(&key)?;
        crate::template::python::object::pay(state, &key)?;
        return Ok(dict.get(&key).or(default).unwrap_or(Value::from(())));
    }
    let [] = call.bind_values()?;
    pay_items(state, dict.length)?;
    match call.name {
        "copy" => Ok(target.clone()),
        "keys" => List::value(dict.entries().map(|(key, _)| key).collect(), Form::View("dict_keys")),
        "values" => List::value(dict.entries().map(|(_, value)| value).collect(), Form::View("dict_values")),
        _ => List::value(pairs(dict)?, Form::View("dict_items")),
    }
}

/// The entries as tuples.
pub(in crate::template) fn pairs(dict: &Dict) -> Result<Vec<Value>> {
    dict.entries().map(|(key, value)| List::value(vec![key, value], Form::Tuple)).collect()
}

pub(super) fn call_number(target: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [] = call.bind_values()?;
    Ok(match (call.name, kind(target)) {
        ("is_integer", Kind::Float(float)) => Value::from(float.is_finite() && float.fract() == 0.0),
        ("conjugate", Kind::Float(_)) => target.clone(),
        (name, _) => {
            let magnitude = integer(target, "a number")?.unsigned_abs();
            match name {
                "bit_count" => Value::from(magnitude.count_ones()),
                "bit_length" => Value::from(u128::BITS - magnitude.leading_zeros()),
                _ => int(integer(target, "a number")?),
            }
        }
    })
}
