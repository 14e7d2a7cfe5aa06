//! Filters that order, and the attributes by which they do.
//!
//! Purpose: `sort`, `dictsort`, `min`, `max`, `unique` and `groupby`.
//! Invariant: sorting is stable, reversed or not; every comparison is paid for.
//! Must not know: the other filters.

use std::cmp::Ordering;

use minijinja::Value;

use crate::template::python::access::item;
use crate::template::python::arguments::{Arguments, some};
use crate::template::python::compare::{equal, order};
use crate::template::python::kind::{Kind, is_undefined, items, kind};
use crate::template::python::object::{Form, Generator, List, hashable, pay};
use crate::template::python::{Result, State, error};

/// What items are taken by: an attribute like `name.first` or `0`, or the item itself.
pub(super) struct Key {
    /// One path, or for `sort` several.
    paths: Option<Vec<Vec<Value>>>,
    default: Option<Value>,
    /// Whether upper and lower case count as the same.
    fold: bool,
    /// Whether the key is a list, as that of `sort`: then equal parts need no order.
    listed: bool,
}

impl Key {
    /// The attribute of `map`, `sum` and others; `default` stands in for what is undefined.
    pub(super) fn new(attribute: Option<&Value>, default: Option<&Value>) -> Result<Self> {
        let paths = attribute.map(path).transpose()?.map(|path| vec![path]);
        Ok(Self { paths, default: default.cloned(), fold: false, listed: false })
    }

    /// The same without regard to case, unless it is asked for.
    fn folded(mut self, case_sensitive: Option<Value>) -> Self {
        self.fold = !case_sensitive.is_some_and(|sensitive| sensitive.is_true());
        self
    }

    /// One or more attributes, with commas between them.
    fn several(attribute: Option<&Value>) -> Result<Self> {
        let paths = match attribute.map(|attribute| (attribute, kind(attribute))) {
            None => None,
            Some((_, Kind::Str(text))) => {
                Some(text.split(',').map(|part| path(&Value::from(part))).collect::<Result<Vec<_>>>()?)
            }
            Some((attribute, _)) => Some(vec![path(attribute)?]),
        };
        Ok(Self { paths: Some(paths.unwrap_or(vec![Vec::new()])), default: None, fold: false, listed: true })
    }

    /// The key of an item.
    pub(super) fn of(&self, state: &State<'_, '_>, value: &Value) -> Result<Value> {
        let Some(paths) = &self.paths else { return Ok(self.finish(value.clone())) };
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            let mut part = value.clone();
            for step in path {
                part = item(state, &part, step)?;
                if let Some(default) = self.default.as_ref().filter(|_| is_undefined(&part)) {
                    part = default.clone();
                }
            }
            parts.push(self.finish(part));
        }
        match self.listed {
            false => Ok(parts.pop().unwrap_or_default()),
            true => List::value(parts, Form::List),
        }
    }

    fn finish(&self, value: Value) -> Value {
        match kind(&value) {
            Kind::Str(text) if self.fold => Value::from(text.to_lowercase()),
            _ => value,
        }
    }
}

/// The steps of an attribute: `a.0.b`.
fn path(attribute: &Value) -> Result<Vec<Value>> {
    let step = |part: &str| match part.chars().all(|digit| digit.is_ascii_digit()) && !part.is_empty() {
        true => part.parse::<i64>().map_err(|_| error("an index is too large")).map(Value::from),
        false => Ok(Value::from(part)),
    };
    match kind(attribute) {
        Kind::Str(text) => text.split('.').map(step).collect(),
        _ => Ok(vec![attribute.clone()]),
    }
}

/// Sorts by keys; equal ones keep their order, also reversed.
fn sorted<T>(state: &State<'_, '_>, mut keyed: Vec<(Value, T)>, reverse: bool) -> Result<Vec<(Value, T)>> {
    let mut failure = None;
    keyed.sort_by(|left, right| {
        let compared = match failure {
            Some(_) => return Ordering::Equal,
            None => state.consume_fuel(1).and_then(|()| order(state, &left.0, &right.0)),
        };
        match compared {
            Ok(order) if reverse => order.unwrap_or(Ordering::Equal).reverse(),
            Ok(order) => order.unwrap_or(Ordering::Equal),
            Err(error) => {
                failure = Some(error);
                Ordering::Equal
            }
        }
    });
    failure.map_or(Ok(keyed), Err)
}

fn keyed(state: &State<'_, '_>, values: Vec<Value>, key: &Key) -> Result<Vec<(Value, Value)>> {
    values.into_iter().map(|value| Ok((key.of(state, &value)?, value))).collect()
}

pub(super) fn sort(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [reverse, case_sensitive, attribute] = call.bind(["reverse", "case_sensitive", "attribute"])?;
    let key = Key::several(some(&attribute))?.folded(case_sensitive);
    let keyed = keyed(state, items(state, value)?, &key)?;
    let sorted = sorted(state, keyed, reverse.is_some_and(|reverse| reverse.is_true()))?;
    List::value(sorted.into_iter().map(|(_, value)| value).collect(), Form::List)
}

pub(super) fn sort_dict(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [case_sensitive, by, reverse] = call.bind(["case_sensitive", "by", "reverse"])?;
    let by_value = match by.as_ref().map(|by| by.as_str()) {
        None | Some(Some("key")) => false,
        Some(Some("value")) => true,
        _ => return Err(error("`dictsort` sorts by `key` or by `value`")),
    };
    let Kind::Dict(dict) = kind(value) else { return Err(error("`dictsort` takes a dict")) };
    let key = Key::new(None, None)?.folded(case_sensitive);
    let keyed = dict.entries().map(|(name, value)| {
        let sorted_by = if by_value { value.clone() } else { name.clone() };
        (key.finish(sorted_by), (name, value))
    });
    let sorted = sorted(state, keyed.collect(), reverse.is_some_and(|reverse| reverse.is_true()))?;
    let pairs: Result<Vec<Value>> =
        sorted.into_iter().map(|(_, (name, value))| List::value(vec![name, value], Form::Tuple)).collect();
    List::value(pairs?, Form::List)
}

pub(super) fn extreme(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [case_sensitive, attribute] = call.bind(["case_sensitive", "attribute"])?;
    let key = Key::new(some(&attribute), None)?.folded(case_sensitive);
    let better = if call.name == "min" { Ordering::Less } else { Ordering::Greater };
    let mut best: Option<(Value, Value)> = None;
    for (key, value) in keyed(state, items(state, value)?, &key)? {
        let replaces = match &best {
            None => true,
            Some((found, _)) => order(state, &key, found)? == Some(better),
        };
        if replaces {
            best = Some((key, value));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, value)| value))
}

pub(super) fn unique(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [case_sensitive, attribute] = call.bind(["case_sensitive", "attribute"])?;
    let key = Key::new(some(&attribute), None)?.folded(case_sensitive);
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for (key, value) in keyed(state, items(state, value)?, &key)? {
        hashable(&key)?;
        pay(state, &key)?;
        if seen.insert(key) {
            kept.push(value);
        }
    }
    Generator::value(kept)
}

pub(super) fn group(state: &State<'_, '_>, value: &Value, call: &Arguments<'_>) -> Result<Value> {
    let [attribute, default, case_sensitive] = call.bind(["attribute", "default", "case_sensitive"])?;
    let attribute = attribute.ok_or_else(|| call.missing("attribute"))?;
    let own = Key::new(Some(&attribute), some(&default))?;
    let key = Key::new(Some(&attribute), some(&default))?.folded(case_sensitive);
    let sorted = sorted(state, keyed(state, items(state, value)?, &key)?, false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, value) in sorted {
        match groups.last_mut() {
            Some((found, group)) if equal(state, found, &key)? => group.push(value),
            _ => groups.push((key, vec![value])),
        }
    }
    let groups: Result<Vec<Value>> = groups
        .into_iter()
        .map(|(key, values)| {
            let name = values
                .first()
                .filter(|_| key.as_str().is_some())
                .map_or(Ok(key.clone()), |first| own.of(state, first))?;
            List::value(vec![name, List::value(values, Form::List)?], Form::Group)
        })
        .collect();
    List::value(groups?, Form::List)
}
