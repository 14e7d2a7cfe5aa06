//! The functions that every template has.
//!
//! Purpose: `range`, `dict`, `namespace`, `joiner`, `cycler` and `raise_exception`.
//! Invariant: a range is bounded as in the sandbox of Jinja2; a namespace holds no namespace.
//! Must not know: filters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::value::{Kwargs, Object, ObjectRepr};
use minijinja::{Environment, Error, ErrorKind, Value, functions};

use super::bounds::MAX_RANGE;
use super::clock;
use super::python::arguments::Arguments;
use super::python::kind::{Kind, integer, items, kind};
use super::python::object::{Dict, Form, List, Shape, pay_items};
use super::python::operator::int;
use super::python::text::text;
use super::python::{Result, State, error};

/// What a template said by `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub(super) String);

type Function = fn(&mut State<'_, '_>, &Arguments<'_>) -> Result<Value>;

/// Gives an environment its functions.
pub(super) fn register(environment: &mut Environment<'static>) {
    let functions: [(&'static str, Function); 6] = [
        ("range", range),
        ("dict", |state, call| Dict::paid(state, entries(state, call)?)),
        ("namespace", namespace),
        ("joiner", joiner),
        ("cycler", cycler),
        ("raise_exception", raise),
    ];
    for (name, function) in functions {
        environment.add_function(name, adapt(name, function));
    }
    environment.add_function("k__new_flag", || Value::from_object(Flag(AtomicBool::new(false))));
    environment.add_global(clock::NAME, clock::unknown());
}

fn adapt(
    name: &'static str,
    function: Function,
) -> impl Fn(&mut State<'_, '_>, &[Value], Kwargs) -> Result<Value> + Send + Sync + 'static {
    move |state, values, named| function(state, &Arguments::new(name, values, named))
}

fn range(state: &mut State<'_, '_>, call: &Arguments<'_>) -> Result<Value> {
    let [first, second, step] = call.bind_values()?;
    let bound = |value: &Value| integer(value, "a bound of `range`");
    let first = bound(&first.ok_or_else(|| call.missing("stop"))?)?;
    let (start, stop) = match second {
        None => (0, first),
        Some(stop) => (first, bound(&stop)?),
    };
    let step = step.map_or(Ok(1), |step| bound(&step))?;
    let length = match step {
        0 => return Err(error("the step of a `range` may not be 0")),
        1.. => stop.saturating_sub(start).saturating_add(step - 1) / step,
        _ => start.saturating_sub(stop).saturating_sub(step + 1) / -step,
    };
    let length = usize::try_from(length.max(0)).unwrap_or(usize::MAX);
    if length > MAX_RANGE {
        return Err(error(format!("a `range` of more than {MAX_RANGE} items")));
    }
    pay_items(state, length)?;
    let items = (0..length as i128).map(|index| int(start + index * step));
    List::value(items.collect(), Form::Range(start, stop, step))
}

/// The entries of `dict(mapping or pairs, name=value, ..)`.
fn entries(state: &State<'_, '_>, call: &Arguments<'_>) -> Result<Vec<(Value, Value)>> {
    let mut entries = match call.values {
        [] => Vec::new(),
        [values] => match kind(values) {
            Kind::Dict(dict) => dict.entries().collect(),
            _ => items(state, values)?.iter().map(|pair| self::pair(state, pair)).collect::<Result<_>>()?,
        },
        _ => return Err(error(format!("`{}` takes at most one value", call.name))),
    };
    entries.extend(call.named()?);
    pay_items(state, entries.len())?;
    Ok(entries)
}

fn pair(state: &State<'_, '_>, pair: &Value) -> Result<(Value, Value)> {
    let [key, value] = items(state, pair)?.try_into().map_err(|_| error("`dict` takes pairs"))?;
    Ok((key, value))
}

fn namespace(state: &mut State<'_, '_>, call: &Arguments<'_>) -> Result<Value> {
    let entries = entries(state, call)?;
    for (name, value) in &entries {
        storable(value)?;
        if name.as_str().is_some_and(|name| name.starts_with('_')) {
            return Err(error("an attribute of a namespace may not begin with an underscore; rename it"));
        }
    }
    Value::from_function(functions::namespace).call(state, &[Dict::paid(state, entries)?])
}

/// Whether a namespace may hold a value: not, if that holds a namespace, so that nothing ever holds itself.
pub(super) fn storable(value: &Value) -> Result<()> {
    match Shape::of(value).holds_namespace {
        true => Err(error("a namespace may not hold a namespace or a loop; use two variables")),
        false => Ok(()),
    }
}

fn raise(state: &mut State<'_, '_>, call: &Arguments<'_>) -> Result<Value> {
    let [message] = call.bind(["message"])?;
    let message = message.ok_or_else(|| call.missing("message"))?;
    let message = text(state, &message)?.into_owned();
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

/// Whether an iteration of a loop has come to its end.
#[derive(Debug)]
struct Flag(AtomicBool);

impl Object for Flag {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _given: &[Value],
    ) -> Result<Value> {
        match method {
            "is_up" => Ok(Value::from(self.0.load(Ordering::Relaxed))),
            _ => {
                self.0.store(true, Ordering::Relaxed);
                Ok(Value::from(""))
            }
        }
    }
}

/// Gives nothing at its first call and the separator after that.
struct Joiner {
    separator: Value,
    used: AtomicBool,
}

fn joiner(_state: &mut State<'_, '_>, call: &Arguments<'_>) -> Result<Value> {
    let [separator] = call.bind(["sep"])?;
    let separator = separator.unwrap_or(Value::from(", "));
    Ok(Value::from_object(Joiner { separator, used: AtomicBool::new(false) }))
}

impl fmt::Debug for Joiner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a joiner")
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, given: &[Value]) -> Result<Value> {
        match (given.is_empty(), self.used.swap(true, Ordering::Relaxed)) {
            (false, _) => Err(error("a joiner takes no arguments")),
            (true, false) => Ok(Value::from("")),
            (true, true) => Ok(self.separator.clone()),
        }
    }
}

/// Gives its items in turn.
struct Cycler {
    items: Vec<Value>,
    next: AtomicUsize,
}

fn cycler(_state: &mut State<'_, '_>, call: &Arguments<'_>) -> Result<Value> {
    if call.values.is_empty() || call.has_named() {
        return Err(error("`cycler` takes one item or more"));
    }
    // The shape is checked as if the items were a list.
    List::value(call.values.to_vec(), Form::List)?;
    call.values.iter().try_for_each(storable)?;
    Ok(Value::from_object(Cycler { items: call.values.to_vec(), next: AtomicUsize::new(0) }))
}

impl fmt::Debug for Cycler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a cycler")
    }
}

impl Cycler {
    fn current(&self) -> Value {
        self.items.get(self.next.load(Ordering::Relaxed) % self.items.len()).cloned().unwrap_or_default()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        (key == "current").then(|| self.current())
    }

    fn call_method(
        self: &Arc<Self>,
        _state: &mut State<'_, '_>,
        method: &str,
        _given: &[Value],
    ) -> Result<Value> {
        let current = self.current();
        match method {
            "next" => {
                self.next.fetch_add(1, Ordering::Relaxed);
                Ok(current)
            }
            "reset" => {
                self.next.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            other => Err(error(format!("a cycler has no method `{other}`"))),
        }
    }
}
