//! Attributes, items, slices and methods.
//!
//! Purpose: `value.name`, `value[key]`, `value[a:b:c]` and `value.name(..)` as the sandbox of Jinja2 resolves them: an
//! attribute is a method first and an item after that, an item the other way round, and what is missing is undefined.
//! Invariant: no method changes a value; what Python's sandbox hides is undefined.
//! Must not know: what methods do.

use minijinja::Value;

use super::arguments::Arguments;
use super::kind::{Kind, is_callable, is_loop, is_undefined, kind, name};
use super::object::{Form, List, Method, hashable, pay_bytes, pay_items};
use super::text::as_safe;
use super::{Result, State, error};
use crate::template::methods;

/// `value.name`.
pub(in crate::template) fn attribute(state: &State<'_, '_>, value: &Value, attribute: &str) -> Result<Value> {
    if is_undefined(value) {
        return Err(error(format!(
            "an undefined value has no `{attribute}`; test it with `is defined` before"
        )));
    }
    match own(value, attribute) {
        Own::Found(found) => Ok(found),
        Own::Hidden => Ok(Value::UNDEFINED),
        Own::None => Ok(plain_item(state, value, &Value::from(attribute))?.unwrap_or_default()),
    }
}

/// `value[key]`.
pub(in crate::template) fn item(state: &State<'_, '_>, value: &Value, key: &Value) -> Result<Value> {
    if is_undefined(value) {
        return Err(error("an undefined value has no items; test it with `is defined` before"));
    }
    if let Some(found) = plain_item(state, value, key)? {
        return Ok(found);
    }
    Ok(match key.as_str().map(|key| own(value, key)) {
        Some(Own::Found(found)) => found,
        _ => Value::UNDEFINED,
    })
}

/// What a value has by itself: `value|attr(name)`.
pub(in crate::template) fn own_attribute(state: &State<'_, '_>, value: &Value, name: &str) -> Result<Value> {
    match own(value, name) {
        _ if is_undefined(value) => attribute(state, value, name),
        Own::Found(found) => Ok(found),
        _ => Ok(Value::UNDEFINED),
    }
}

/// What a value has by itself, without its items.
enum Own {
    Found(Value),
    /// There, but not for templates: it would change the value or lead out of the sandbox.
    Hidden,
    None,
}

fn own(value: &Value, attribute: &str) -> Own {
    if attribute.len() > 4 && attribute.starts_with("__") && attribute.ends_with("__") {
        return Own::Hidden;
    }
    match kind(value) {
        Kind::List(list) => {
            let place = match attribute {
                "grouper" => 0,
                "list" => 1,
                _ => usize::MAX,
            };
            match list.items.get(place).filter(|_| list.form == Form::Group) {
                Some(found) => Own::Found(found.clone()),
                None => method(value, attribute),
            }
        }
        Kind::Namespace => found(value, attribute),
        Kind::Macro => match attribute {
            "name" => found(value, attribute),
            _ => Own::None,
        },
        Kind::Other if is_loop(value) && attribute != "cycle" && attribute != "changed" => {
            found(value, attribute)
        }
        _ => method(value, attribute),
    }
}

fn found(value: &Value, attribute: &str) -> Own {
    let found = value.as_object().and_then(|object| object.get_value_by_str(attribute));
    found.map_or(Own::None, Own::Found)
}

fn method(value: &Value, attribute: &str) -> Own {
    if methods::changes(value, attribute) {
        return Own::Hidden;
    }
    match methods::has(value, attribute) {
        true => Own::Found(Value::from_object(Method { target: value.clone(), name: attribute.to_owned() })),
        false => Own::None,
    }
}

/// An item as Python's own brackets give it; nothing where they raise a TypeError or a LookupError.
fn plain_item(state: &State<'_, '_>, value: &Value, key: &Value) -> Result<Option<Value>> {
    let index = match kind(key) {
        Kind::Int(index) => Some(index),
        Kind::Bool(truth) => Some(truth.into()),
        _ => None,
    };
    match (kind(value), index) {
        (Kind::Dict(dict), _) => {
            if hashable(key).is_err() {
                return Ok(None);
            }
            state.consume_fuel(super::object::Shape::of(key).weight)?;
            Ok(dict.get(key))
        }
        (Kind::List(list), Some(index)) if list.is_indexed() => {
            Ok(place(index, list.items.len()).and_then(|index| list.items.get(index).cloned()))
        }
        (Kind::Str(text), Some(index)) => {
            pay_bytes(state, text.len())?;
            let steps = usize::try_from(if index < 0 { -1 - index } else { index }).unwrap_or(usize::MAX);
            let character = if index < 0 { text.chars().rev().nth(steps) } else { text.chars().nth(steps) };
            Ok(character.map(|character| as_safe(character.to_string(), value.is_safe())))
        }
        _ => Ok(None),
    }
}

/// An index from the beginning, for one that may count from the end.
fn place(index: i128, length: usize) -> Option<usize> {
    let index = if index < 0 { index + i128::try_from(length).ok()? } else { index };
    usize::try_from(index).ok()
}

/// `value[start:stop:step]`.
pub(in crate::template) fn slice(state: &State<'_, '_>, value: &Value, bounds: [&Value; 3]) -> Result<Value> {
    let sliced = match kind(value) {
        Kind::Undefined => {
            return Err(error("an undefined value has no slices; test it with `is defined` before"));
        }
        Kind::Str(text) => {
            let characters: Vec<char> = text.chars().collect();
            pay_bytes(state, text.len())?;
            pay_items(state, characters.len())?;
            let text = indices(bounds, characters.len())?.map(|index| characters[index]).collect();
            as_safe(text, value.is_safe())
        }
        Kind::List(list) if list.is_indexed() => {
            pay_items(state, list.items.len())?;
            let form = if list.is_tuple() { Form::Tuple } else { Form::List };
            if let Form::Range(start, _, step) = list.form {
                return range_slice(list, start, step, bounds);
            }
            List::value(
                indices(bounds, list.items.len())?.map(|index| list.items[index].clone()).collect(),
                form,
            )?
        }
        _ => return Err(error(format!("a {} has no slices", name(value)))),
    };
    Ok(sliced)
}

/// A slice of a range is a range, which prints as one.
fn range_slice(list: &List, start: i128, step: i128, bounds: [&Value; 3]) -> Result<Value> {
    let length = list.items.len();
    let (first, stop, stride) = normal(bounds, length)?;
    let items = indices(bounds, length)?.map(|index| list.items[index].clone()).collect();
    List::value(items, Form::Range(start + first * step, start + stop * step, stride * step))
}

/// Start, stop and step as `slice.indices` gives them.
fn normal(bounds: [&Value; 3], length: usize) -> Result<(i128, i128, i128)> {
    let length = i128::try_from(length).unwrap_or(i128::MAX);
    let bound = |value: &Value| match value.is_none() {
        true => Ok(None),
        false => super::kind::integer(value, "a bound of a slice").map(Some),
    };
    let step = bound(bounds[2])?.unwrap_or(1);
    let (low, high) = match step {
        0 => return Err(error("the step of a slice may not be 0")),
        1.. => (0, length),
        _ => (-1, length - 1),
    };
    let clamp = |value: i128| if value < 0 { value.saturating_add(length).max(low) } else { value.min(high) };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let start = bound(bounds[0])?.map_or(first, clamp);
    let stop = bound(bounds[1])?.map_or(last, clamp);
    Ok((start, stop, step))
}

fn indices(bounds: [&Value; 3], length: usize) -> Result<impl Iterator<Item = usize>> {
    let (start, stop, step) = normal(bounds, length)?;
    let mut next = Some(start);
    Ok(std::iter::from_fn(move || {
        let index = next.filter(|index| if step > 0 { *index < stop } else { *index > stop })?;
        next = index.checked_add(step);
        usize::try_from(index).ok()
    }))
}

/// `value.name(..)`.
pub(in crate::template) fn call_attribute(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    given: &[Value],
) -> Result<Value> {
    if methods::has(value, name) && !methods::changes(value, name) {
        return call_method(state, value, name, given);
    }
    if is_loop(value) && matches!(name, "cycle" | "changed") {
        return call_loop(state, value, name, given);
    }
    match own(value, name) {
        Own::Hidden => Err(error(format!(
            "`{name}` would change a {}, which a template may not",
            super::kind::name(value)
        ))),
        _ => {
            let found = attribute(state, value, name)?;
            invoke(state, &found, given, &format!("`{name}` of a {}", super::kind::name(value)))
        }
    }
}

fn call_loop(state: &mut State<'_, '_>, value: &Value, name: &str, given: &[Value]) -> Result<Value> {
    if given.is_empty() && name == "cycle" {
        return Err(error("`cycle` misses what to cycle through"));
    }
    for argument in given {
        super::object::pay(state, argument)?;
    }
    value.call_method(state, name, given)
}

/// `value(..)`.
pub(in crate::template) fn invoke(
    state: &mut State<'_, '_>,
    value: &Value,
    given: &[Value],
    what: &str,
) -> Result<Value> {
    match is_callable(value) && !is_loop(value) {
        true => value.call(state, given),
        false if is_undefined(value) => Err(error(format!("{what} is undefined and cannot be called"))),
        false => Err(error(format!("{what} is a {} and cannot be called", name(value)))),
    }
}

/// A method that is known to be there. The result of a method of safe text is safe.
pub(in crate::template) fn call_method(
    state: &mut State<'_, '_>,
    target: &Value,
    name: &str,
    given: &[Value],
) -> Result<Value> {
    let arguments = Arguments::split(name, given)?;
    let result = methods::call(state, target, &arguments)?;
    match target.is_safe() && name != "count" {
        true => marked(result),
        false => Ok(result),
    }
}

/// Marks text, and text in a list, as safe.
fn marked(value: Value) -> Result<Value> {
    Ok(match kind(&value) {
        Kind::Str(text) => Value::from_safe_string(text.to_owned()),
        Kind::List(list) => {
            let items: Result<Vec<Value>> = list.items.iter().cloned().map(marked).collect();
            return List::value(items?, list.form);
        }
        _ => value,
    })
}
