//! minijinja with the meaning of Python.
//!
//! Purpose: the environment that runs what `syntax` writes: the filters behind its operators, the filters of Jinja2, and how
//! values print.
//! Invariant: every filter whose name begins with `k__` is written by `syntax` alone.
//! Must not know: inputs.

use std::sync::OnceLock;

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Output, Value};

use super::bounds::STEPS;
use super::checks::check;
use super::python::access;
use super::python::arguments::Arguments;
use super::python::compare::holds;
use super::python::kind::{Kind, items, kind, name, string};
use super::python::object::{Dict, Form, List, Undefined, pay};
use super::python::operator::{binary, concatenated, sign};
use super::python::text::text;
use super::python::{Result, State, error};
use super::{filters, globals};

/// The environment without templates; a clone of it shares its parts.
pub(super) fn environment() -> Environment<'static> {
    static BASE: OnceLock<Environment<'static>> = OnceLock::new();
    BASE.get_or_init(make).clone()
}

fn make() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(print);
    environment.set_fuel(Some(STEPS));
    for name in filters::NAMES {
        environment.add_filter(name, filter(name));
    }
    environment.add_filter("k__attribute", |state: &mut State<'_, '_>, value: &Value, name: &str| {
        access::attribute(state, value, name)
    });
    environment.add_filter("k__item", |state: &mut State<'_, '_>, value: &Value, key: &Value| {
        access::item(state, value, key)
    });
    environment.add_filter("k__slice", slice);
    environment.add_filter("k__call", call);
    environment.add_filter("k__invoke", invoke);
    environment.add_filter("k__is", is);
    for name in ["k__sum", "k__product", "k__power"] {
        environment.add_filter(name, operate);
    }
    environment.add_filter("k__concat", concat);
    environment.add_filter("k__compare", compare);
    environment.add_filter("k__negative", |value: &Value| sign(value, true));
    environment.add_filter("k__positive", |value: &Value| sign(value, false));
    environment.add_filter("k__list", |value: &Value| List::value(value.try_iter()?.collect(), Form::List));
    environment.add_filter("k__tuple", |value: &Value| List::value(value.try_iter()?.collect(), Form::Tuple));
    environment.add_filter("k__dict", dict);
    environment.add_filter("k__named", named);
    environment.add_filter("k__iterate", iterate);
    environment.add_filter("k__given", |value: &Value| match value.is_undefined() {
        true => Value::from_object(Undefined),
        false => value.clone(),
    });
    environment.add_filter("k__store", |value: &Value| globals::storable(value).map(|()| value.clone()));
    globals::register(&mut environment);
    environment
}

fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<()> {
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&text(state, value)?),
    };
    written.map_err(minijinja::Error::from)
}

fn filter(
    name: &'static str,
) -> impl Fn(&mut State<'_, '_>, &Value, &[Value], Kwargs) -> Result<Value> + Send + Sync + 'static {
    move |state, value, values, named| filters::apply(state, value, &Arguments::new(name, values, named))
}

fn slice(state: &mut State<'_, '_>, value: &Value, bounds: &[Value]) -> Result<Value> {
    let [start, stop, step] = bounds else { return Err(error("a slice has three bounds")) };
    access::slice(state, value, [start, stop, step])
}

/// A method: its name and arguments.
fn call(state: &mut State<'_, '_>, value: &Value, name: &str, given: Rest<ValueOrKwargs>) -> Result<Value> {
    access::call_attribute(state, value, name, &given.into_values())
}

fn invoke(state: &mut State<'_, '_>, value: &Value, given: Rest<ValueOrKwargs>) -> Result<Value> {
    access::invoke(state, value, &given.into_values(), "what is called here")
}

/// A test: its name, whether it is negated, and its arguments.
fn is(state: &mut State<'_, '_>, value: &Value, given: &[Value], named: Kwargs) -> Result<Value> {
    let [name, negated, values @ ..] = given else { return Err(error("a test has a name")) };
    let answer = check(state, value, &Arguments::new(string(name, "a test")?, values, named))?;
    Ok(Value::from(answer != negated.is_true()))
}

/// Operators and operands in turn.
fn operate(state: &mut State<'_, '_>, value: &Value, rest: &[Value]) -> Result<Value> {
    let mut result = value.clone();
    for step in rest.chunks_exact(2) {
        state.consume_fuel(1)?;
        result = binary(state, &result, string(&step[0], "an operator")?, &step[1])?;
    }
    Ok(result)
}

fn concat(state: &mut State<'_, '_>, value: &Value, rest: &[Value]) -> Result<Value> {
    let operands = rest.iter().skip(1).step_by(2);
    concatenated(state, std::iter::once(value).chain(operands))
}

/// `a < b < c` holds if both do.
fn compare(state: &mut State<'_, '_>, value: &Value, rest: &[Value]) -> Result<Value> {
    let mut left = value;
    for step in rest.chunks_exact(2) {
        state.consume_fuel(1)?;
        if !holds(state, left, string(&step[0], "a comparison")?, &step[1])? {
            return Ok(Value::from(false));
        }
        left = &step[1];
    }
    Ok(Value::from(true))
}

/// Keys and values in turn.
fn dict(state: &mut State<'_, '_>, value: &Value) -> Result<Value> {
    let mut parts = value.try_iter()?;
    let pairs = std::iter::from_fn(|| Some((parts.next()?, parts.next()?)));
    let pairs = pairs.collect();
    Dict::paid(state, pairs)
}

/// Named arguments that a dict holds.
fn named(state: &mut State<'_, '_>, value: &Value) -> Result<Value> {
    match kind(value) {
        Kind::Dict(_) => pay(state, value).map(|()| value.clone()),
        _ => Err(error(format!("`**` takes a dict, not a {}", name(value)))),
    }
}

/// What a loop may iterate over: minijinja would take `none` for an empty list.
fn iterate(state: &mut State<'_, '_>, value: &Value) -> Result<Value> {
    match kind(value) {
        Kind::Undefined | Kind::List(_) | Kind::Dict(_) | Kind::Generator(_) => Ok(value.clone()),
        // A list, for minijinja does not know the length of text.
        Kind::Str(_) => List::value(items(state, value)?, Form::List),
        _ => Err(error(format!("a loop cannot iterate over a {}", name(value)))),
    }
}
