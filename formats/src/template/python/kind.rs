//! What a value is.
//!
//! Purpose: one view of minijinja's values by the types of Python.
//! Invariant: an integer is one of 128 bits; wider ones never arise.
//! Must not know: operators.

use minijinja::Value;
use minijinja::value::{ObjectRepr, ValueKind};

use super::object::{Dict, Generator, List, Method, Undefined};
use super::{Result, error};

/// A value by its type.
pub(in crate::template) enum Kind<'v> {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'v str),
    List(&'v List),
    Dict(&'v Dict),
    Generator(&'v Generator),
    Method(&'v Method),
    /// What `namespace()` gives.
    Namespace,
    /// A macro.
    Macro,
    /// A function of ours.
    Function,
    /// Anything else, say `loop`.
    Other,
}

/// The type of a value.
pub(in crate::template) fn kind(value: &Value) -> Kind<'_> {
    match value.kind() {
        ValueKind::Undefined => Kind::Undefined,
        ValueKind::None => Kind::None,
        ValueKind::Bool => Kind::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => match i128::try_from(value.clone()) {
            Ok(integer) => Kind::Int(integer),
            Err(_) => Kind::Other,
        },
        ValueKind::Number => f64::try_from(value.clone()).map_or(Kind::Other, Kind::Float),
        ValueKind::String => value.as_str().map_or(Kind::Other, Kind::Str),
        _ => object(value),
    }
}

fn object(value: &Value) -> Kind<'_> {
    let Some(found) = value.as_object() else { return Kind::Other };
    if let Some(list) = found.downcast_ref::<List>() {
        Kind::List(list)
    } else if let Some(dict) = found.downcast_ref::<Dict>() {
        Kind::Dict(dict)
    } else if let Some(generator) = found.downcast_ref::<Generator>() {
        Kind::Generator(generator)
    } else if let Some(method) = found.downcast_ref::<Method>() {
        Kind::Method(method)
    } else if found.downcast_ref::<Undefined>().is_some() {
        Kind::Undefined
    } else if found.type_name().ends_with("::Namespace") {
        Kind::Namespace
    } else if found.type_name().ends_with("::Macro") {
        Kind::Macro
    } else if found.repr() == ObjectRepr::Plain {
        Kind::Function
    } else {
        Kind::Other
    }
}

/// Whether it is undefined.
pub(in crate::template) fn is_undefined(value: &Value) -> bool {
    matches!(kind(value), Kind::Undefined)
}

/// Whether it is the `loop` of a loop.
pub(in crate::template) fn is_loop(value: &Value) -> bool {
    value.as_object().is_some_and(|found| found.type_name().ends_with("::Loop"))
}

/// The type as messages name it.
pub(in crate::template) fn name(value: &Value) -> &'static str {
    match kind(value) {
        Kind::Undefined => "undefined value",
        Kind::None => "None",
        Kind::Bool(_) => "bool",
        Kind::Int(_) => "int",
        Kind::Float(_) => "float",
        Kind::Str(_) => "str",
        Kind::List(list) => match list.form {
            super::object::Form::List => "list",
            super::object::Form::Tuple | super::object::Form::Group => "tuple",
            super::object::Form::View(name) => name,
            super::object::Form::Range(..) => "range",
        },
        Kind::Dict(_) => "dict",
        Kind::Generator(_) => "generator",
        Kind::Method(_) => "method",
        Kind::Namespace => "namespace",
        Kind::Macro => "macro",
        Kind::Function => "function",
        Kind::Other => "object",
    }
}

/// Whether it can be called.
pub(in crate::template) fn is_callable(value: &Value) -> bool {
    matches!(kind(value), Kind::Method(_) | Kind::Macro | Kind::Function) || is_loop(value)
}

/// The items that iteration gives, or an error where Python has none. A generator gives them once.
pub(in crate::template) fn items(state: &super::State<'_, '_>, value: &Value) -> Result<Vec<Value>> {
    let items: Vec<Value> = match kind(value) {
        Kind::Undefined => Vec::new(),
        Kind::Str(text) => {
            super::object::pay_items(state, text.len())?;
            text.chars().map(Value::from).collect()
        }
        Kind::List(list) => {
            super::object::pay_items(state, list.items.len())?;
            list.items.clone()
        }
        Kind::Dict(dict) => {
            super::object::pay_items(state, dict.length)?;
            dict.entries().map(|(key, _)| key).collect()
        }
        Kind::Generator(generator) => std::iter::from_fn(|| generator.pop()).collect(),
        _ => return Err(error(format!("a {} cannot be iterated over", name(value)))),
    };
    Ok(items)
}

/// The length, or an error where Python has none.
pub(in crate::template) fn length(state: &super::State<'_, '_>, value: &Value) -> Result<usize> {
    match kind(value) {
        Kind::Undefined => Ok(0),
        Kind::Str(text) => {
            super::object::pay_bytes(state, text.len())?;
            Ok(text.chars().count())
        }
        Kind::List(list) => Ok(list.items.len()),
        Kind::Dict(dict) => Ok(dict.length),
        _ => Err(error(format!("a {} has no length", name(value)))),
    }
}

/// An integer, as Python's indices take it: also a bool.
pub(in crate::template) fn integer(value: &Value, what: &str) -> Result<i128> {
    match kind(value) {
        Kind::Bool(truth) => Ok(truth.into()),
        Kind::Int(integer) => Ok(integer),
        _ => Err(error(format!("{what} must be an integer, not a {}", name(value)))),
    }
}

/// Text, and nothing that only prints as text.
pub(in crate::template) fn string<'v>(value: &'v Value, what: &str) -> Result<&'v str> {
    match kind(value) {
        Kind::Str(text) => Ok(text),
        _ => Err(error(format!("{what} must be a str, not a {}", name(value)))),
    }
}
