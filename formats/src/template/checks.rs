//! The tests of Jinja2: what stands behind `is`.
//!
//! Purpose: from the name of a test to its answer.
//! Invariant: a test gives what Jinja2 3.1 gives, or an error.
//! Must not know: templates.

use minijinja::Value;

use super::filters;
use super::methods::{is_lower, is_upper};
use super::python::arguments::Arguments;
use super::python::compare::{contains, holds};
use super::python::kind::{Kind, is_callable, kind};
use super::python::object::{Form, hashable};
use super::python::operator::binary;
use super::python::text::text;
use super::python::{Result, State, error};

const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Whether `value is name(..)`.
pub(super) fn check(state: &mut State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<bool> {
    if let Some(operator) = comparison(call.name) {
        return holds(state, value, operator, &other(call)?);
    }
    match call.name {
        "divisibleby" => is_rest(state, value, &other(call)?, 0),
        "in" => contains(state, &other(call)?, value),
        "sameas" => Ok(is_same(value, &other(call)?)),
        _ => {
            let [] = call.bind([])?;
            alone(state, value, call.name)
        }
    }
}

fn other(call: &Arguments<'_>) -> Result<Value> {
    let [other] = call.bind_values()?;
    other.ok_or_else(|| call.missing("other"))
}

fn comparison(name: &str) -> Option<&'static str> {
    Some(match name {
        "==" | "eq" | "equalto" => "==",
        "!=" | "ne" => "!=",
        ">" | "gt" | "greaterthan" => ">",
        ">=" | "ge" => ">=",
        "<" | "lt" | "lessthan" => "<",
        "<=" | "le" => "<=",
        _ => return None,
    })
}

fn is_rest(state: &mut State<'_, '_>, value: &Value, divisor: &Value, rest: i64) -> Result<bool> {
    let found = binary(state, value, "%", divisor)?;
    holds(state, &found, "==", &Value::from(rest))
}

/// Python's `is`, for the values that are there once.
fn is_same(left: &Value, right: &Value) -> bool {
    match (kind(left), kind(right)) {
        (Kind::None, Kind::None) => true,
        (Kind::Bool(left), Kind::Bool(right)) => left == right,
        (Kind::Int(left), Kind::Int(right)) => left == right && (-5..=256).contains(&left),
        (Kind::List(left), Kind::List(right)) => std::ptr::eq(left, right),
        (Kind::Dict(left), Kind::Dict(right)) => std::ptr::eq(left, right),
        _ => false,
    }
}

fn alone(state: &mut State<'_, '_>, value: &Value, name: &str) -> Result<bool> {
    let found = kind(value);
    Ok(match name {
        "defined" => !matches!(found, Kind::Undefined),
        "undefined" => matches!(found, Kind::Undefined),
        "none" => matches!(found, Kind::None),
        "boolean" => matches!(found, Kind::Bool(_)),
        "true" => matches!(found, Kind::Bool(true)),
        "false" => matches!(found, Kind::Bool(false)),
        "integer" => matches!(found, Kind::Int(_)),
        "float" => matches!(found, Kind::Float(_)),
        "number" => matches!(found, Kind::Int(_) | Kind::Float(_) | Kind::Bool(_)),
        "string" => matches!(found, Kind::Str(_)),
        "mapping" => matches!(found, Kind::Dict(_)),
        "sequence" => match found {
            Kind::List(list) => !matches!(list.form, Form::View(_)),
            other => matches!(other, Kind::Str(_) | Kind::Dict(_) | Kind::Undefined),
        },
        "iterable" => {
            matches!(
                found,
                Kind::Str(_) | Kind::List(_) | Kind::Dict(_) | Kind::Generator(_) | Kind::Undefined
            )
        }
        // An undefined value can be called, though the call fails.
        "callable" => is_callable(value) || matches!(found, Kind::Undefined),
        "escaped" => value.is_safe(),
        "lower" => is_lower(&text(state, value)?),
        "upper" => is_upper(&text(state, value)?),
        "odd" => is_rest(state, value, &Value::from(2), 1)?,
        "even" => is_rest(state, value, &Value::from(2), 0)?,
        "filter" | "test" => {
            hashable(value)?;
            let names = if name == "filter" { &filters::NAMES[..] } else { &NAMES[..] };
            value.as_str().is_some_and(|name| names.contains(&name))
        }
        _ => return Err(error(format!("there is no test `{name}`"))),
    })
}
