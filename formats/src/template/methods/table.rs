//! Which methods there are.
//!
//! Purpose: the names by type, and the way to what they do.
//! Invariant: `has` says yes to exactly the names that `call` knows.
//! Must not know: what methods do.

use minijinja::Value;

use super::{containers, strings};
use crate::template::python::arguments::Arguments;
use crate::template::python::kind::{Kind, kind, name};
use crate::template::python::object::Form;
use crate::template::python::{Result, State, error};

const TEXT: [&str; 42] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
];
const MORE_TEXT: [&str; 2] = ["upper", "zfill"];
const LIST: [&str; 3] = ["copy", "count", "index"];
const TUPLE: [&str; 2] = ["count", "index"];
const DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const INTEGER: [&str; 3] = ["bit_count", "bit_length", "conjugate"];
const FLOAT: [&str; 2] = ["conjugate", "is_integer"];
const LIST_CHANGES: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const DICT_CHANGES: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// Whether a value has a method of that name that a template may call.
pub(in crate::template) fn has(value: &Value, method: &str) -> bool {
    match kind(value) {
        Kind::Str(_) => TEXT.contains(&method) || MORE_TEXT.contains(&method),
        Kind::List(list) => match list.form {
            Form::List => LIST.contains(&method),
            Form::View(_) => false,
            _ => TUPLE.contains(&method),
        },
        Kind::Dict(_) => DICT.contains(&method),
        Kind::Int(_) | Kind::Bool(_) => INTEGER.contains(&method),
        Kind::Float(_) => FLOAT.contains(&method),
        _ => false,
    }
}

/// Whether a value has a method of that name that would change it.
pub(in crate::template) fn changes(value: &Value, method: &str) -> bool {
    match kind(value) {
        Kind::List(list) => list.form == Form::List && LIST_CHANGES.contains(&method),
        Kind::Dict(_) => DICT_CHANGES.contains(&method),
        _ => false,
    }
}

/// Calls a method.
pub(in crate::template) fn call(
    state: &mut State<'_, '_>,
    target: &Value,
    call: &Arguments<'_>,
) -> Result<Value> {
    match kind(target) {
        Kind::Str(text) => strings::call(state, text, target.is_safe(), call),
        Kind::List(list) => containers::call_list(state, list, call),
        Kind::Dict(dict) => containers::call_dict(state, target, dict, call),
        Kind::Int(_) | Kind::Bool(_) | Kind::Float(_) => containers::call_number(target, call),
        _ => Err(error(format!("a {} has no method `{}`", name(target), call.name))),
    }
}
