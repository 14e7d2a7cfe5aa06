//! Lists, tuples, dicts and what iterates over them.
//!
//! Purpose: the containers of Python as minijinja's objects, so that its loops and truth values work with them.
//! Invariant: a container knows its depth, its weight (itself and all that it holds, counted as often as it is printed) and
//! whether it holds a namespace, which alone can change. Nothing holds itself: a namespace takes nothing that holds one.
//! Must not know: operators.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::kind::{Kind, kind};
use super::{Result, State, error};
use crate::template::bounds::MAX_DEPTH;

/// What a container holds, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::template) struct Shape {
    pub(in crate::template) depth: u16,
    pub(in crate::template) weight: u64,
    pub(in crate::template) holds_namespace: bool,
    pub(in crate::template) is_hashable: bool,
}

impl Shape {
    /// Of any value. Text weighs more the longer it is.
    pub(in crate::template) fn of(value: &Value) -> Self {
        match kind(value) {
            Kind::List(list) => list.shape,
            Kind::Dict(dict) => dict.shape,
            Kind::Generator(generator) => generator.shape,
            Kind::Method(method) => Shape::of(&method.target),
            Kind::Str(text) => Self::leaf(1 + text.len() as u64 / 32),
            // Larger integers have few hashes, which would make a dict of them slow.
            Kind::Int(integer) => Self { is_hashable: i64::try_from(integer).is_ok(), ..Self::leaf(1) },
            Kind::Namespace | Kind::Other => Self { holds_namespace: true, ..Self::leaf(1) },
            _ => Self::leaf(1),
        }
    }

    fn leaf(weight: u64) -> Self {
        Self { depth: 0, weight, holds_namespace: false, is_hashable: true }
    }

    /// Of a container of these.
    fn around<'v>(values: impl Iterator<Item = &'v Value>) -> Result<Self> {
        let mut whole = Self::leaf(1);
        for value in values {
            let part = Self::of(value);
            whole.depth = whole.depth.max(part.depth + 1);
            whole.weight = whole.weight.saturating_add(part.weight);
            whole.holds_namespace |= part.holds_namespace;
            whole.is_hashable &= part.is_hashable;
        }
        match whole.depth > MAX_DEPTH {
            true => Err(error(format!("lists and dicts nest more than {MAX_DEPTH} deep"))),
            false => Ok(whole),
        }
    }
}

/// Pays for a walk through all of a value.
pub(in crate::template) fn pay(state: &State<'_, '_>, value: &Value) -> Result<()> {
    state.consume_fuel(Shape::of(value).weight)
}

/// Pays for as many items, before they are made.
pub(in crate::template) fn pay_items(state: &State<'_, '_>, count: usize) -> Result<()> {
    state.consume_fuel(count as u64 / 2 + 1)
}

/// Pays for as many bytes of text, before they are made.
pub(in crate::template) fn pay_bytes(state: &State<'_, '_>, count: usize) -> Result<()> {
    state.consume_fuel(count as u64 / 64)
}

/// What Python calls a sequence with this order of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::template) enum Form {
    List,
    Tuple,
    /// A tuple of a group's value and its list, with names: what `groupby` gives.
    Group,
    /// The keys, values or items of a dict: iterable, but without indices.
    View(&'static str),
    /// `range(start, stop, step)`.
    Range(i128, i128, i128),
}

/// A sequence that does not change.
pub(in crate::template) struct List {
    pub(in crate::template) items: Vec<Value>,
    pub(in crate::template) form: Form,
    pub(in crate::template) shape: Shape,
}

impl List {
    /// A sequence of that form.
    pub(in crate::template) fn value(items: Vec<Value>, form: Form) -> Result<Value> {
        let mut shape = Shape::around(items.iter())?;
        shape.is_hashable &= matches!(form, Form::Tuple | Form::Group);
        Ok(Value::from_object(Self { items, form, shape }))
    }

    /// Whether it is a tuple.
    pub(in crate::template) fn is_tuple(&self) -> bool {
        matches!(self.form, Form::Tuple | Form::Group)
    }

    /// Whether it has indices.
    pub(in crate::template) fn is_indexed(&self) -> bool {
        !matches!(self.form, Form::View(_))
    }
}

impl fmt::Debug for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a sequence of {} items", self.items.len())
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// A dict that does not change, in the order of its keys.
pub(in crate::template) struct Dict {
    /// minijinja's own map, which keeps the order.
    map: Value,
    pub(in crate::template) length: usize,
    pub(in crate::template) shape: Shape,
}

impl Dict {
    /// A dict of these entries; the last one of a key counts, at the place of the first.
    pub(in crate::template) fn value(entries: Vec<(Value, Value)>) -> Result<Value> {
        for (key, _) in &entries {
            hashable(key)?;
        }
        let around = Shape::around(entries.iter().flat_map(|(key, value)| [key, value]))?;
        let shape = Shape { is_hashable: false, ..around };
        let map = Value::from_pairs(entries);
        let length = map.len().unwrap_or_default();
        Ok(Value::from_object(Self { map, length, shape }))
    }

    /// The same, after the keys are paid for, which a template may have made.
    pub(in crate::template) fn paid(state: &State<'_, '_>, entries: Vec<(Value, Value)>) -> Result<Value> {
        for (key, _) in &entries {
            pay(state, key)?;
        }
        pay_items(state, entries.len())?;
        Self::value(entries)
    }

    /// The value of a key.
    pub(in crate::template) fn get(&self, key: &Value) -> Option<Value> {
        self.map.as_object()?.get_value(key)
    }

    /// The entries in order.
    pub(in crate::template) fn entries(&self) -> impl Iterator<Item = (Value, Value)> + use<> {
        self.map.as_object().and_then(|map| map.try_iter_pairs()).into_iter().flatten()
    }
}

/// Whether a value can be the key of a dict.
pub(in crate::template) fn hashable(key: &Value) -> Result<()> {
    match Shape::of(key).is_hashable {
        true => Ok(()),
        false => Err(error(format!("such a {} cannot be a key of a dict", super::kind::name(key)))),
    }
}

impl fmt::Debug for Dict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a dict of {} entries", self.length)
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.map.as_object().map_or(Enumerator::Empty, |map| map.enumerate())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.length)
    }

    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Items that can be read once. They are made at once, though Python would make each when it is read.
pub(in crate::template) struct Generator {
    rest: Mutex<VecDeque<Value>>,
    pub(in crate::template) shape: Shape,
}

impl Generator {
    /// Of these items.
    pub(in crate::template) fn value(items: Vec<Value>) -> Result<Value> {
        let shape = Shape::around(items.iter())?;
        Ok(Value::from_object(Self { rest: Mutex::new(items.into()), shape }))
    }

    /// The next item.
    pub(in crate::template) fn pop(&self) -> Option<Value> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn left(&self) -> usize {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a generator")
    }
}

struct Rest(Arc<Generator>);

impl Iterator for Rest {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.left();
        (left, Some(left))
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Iter(Box::new(Rest(self.clone())))
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// An undefined value that was given to a macro: minijinja would take it for an argument that was not given.
#[derive(Debug)]
pub(in crate::template) struct Undefined;

impl Object for Undefined {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }
}

/// A method that is a value: `text.upper` without its brackets.
pub(in crate::template) struct Method {
    pub(in crate::template) target: Value,
    pub(in crate::template) name: String,
}

impl fmt::Debug for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the method {}", self.name)
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, given: &[Value]) -> Result<Value> {
        super::access::call_method(state, &self.target, &self.name, given)
    }
}
