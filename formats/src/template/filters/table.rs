//! Which filters there are.
//!
//! Purpose: the way from a filter's name to what it does.
//! Invariant: `NAMES` are exactly the names that `apply` knows.
//! Must not know: what filters do.

use minijinja::Value;

use super::{json, number, order, select, sequence, text};
use crate::template::python::arguments::Arguments;
use crate::template::python::{Result, State, error};

/// All filters.
pub(in crate::template) const NAMES: [&str; 47] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
];

/// Applies a filter by its name.
pub(in crate::template) fn apply(
    state: &mut State<'_, '_>,
    value: &Value,
    call: &Arguments<'_>,
) -> Result<Value> {
    match call.name {
        "capitalize" | "lower" | "upper" | "title" | "trim" | "center" => text::cased(state, value, call),
        "replace" => text::replace(state, value, call),
        "indent" => text::indent(state, value, call),
        "truncate" => text::truncate(state, value, call),
        "format" => text::format(state, value, call),
        "join" => text::join(state, value, call),
        "e" | "escape" | "forceescape" => text::escape(state, value, call),
        "safe" | "string" => text::marked(state, value, call),
        "urlencode" => text::url_encode(state, value, call),
        "wordcount" => text::word_count(state, value, call),
        "tojson" => json::to_json(state, value, call),
        "abs" => number::absolute(value, call),
        "int" => number::to_int(value, call),
        "float" => number::to_float(value, call),
        "round" => number::round(value, call),
        "sum" => number::sum(state, value, call),
        "attr" => sequence::attribute(state, value, call),
        "count" | "length" => sequence::length(state, value, call),
        "d" | "default" => sequence::default(value, call),
        "first" => sequence::first(state, value, call),
        "last" => sequence::last(state, value, call),
        "list" => sequence::list(state, value, call),
        "items" => sequence::items(state, value, call),
        "reverse" => sequence::reverse(state, value, call),
        "batch" => sequence::batch(state, value, call),
        "slice" => sequence::slice(state, value, call),
        "sort" => order::sort(state, value, call),
        "dictsort" => order::sort_dict(state, value, call),
        "min" | "max" => order::extreme(state, value, call),
        "unique" => order::unique(state, value, call),
        "groupby" => order::group(state, value, call),
        "map" => select::map(state, value, call),
        "select" | "reject" | "selectattr" | "rejectattr" => select::select(state, value, call),
        name => Err(error(format!("there is no filter `{name}`"))),
    }
}
