//! How the parts of a schema are read.
//!
//! Purpose: properties, types and references of a JSON Schema, and the budget of a check.
//! Invariant: a check ends: its depth is bounded, and its work by the size of the values.
//! Must not know: values and their errors.

use std::cell::Cell;

use serde_json::{Map, Value};

/// Chains of `$ref` longer than this have no end.
const MAX_REFS: usize = 32;
/// How deep a check may go: each level of a value takes a few.
const MAX_DEPTH: u32 = 200;
/// The steps of a check beside those that the given values allow.
const STEPS: u64 = 20_000;
/// The steps for each given value.
const STEPS_PER_VALUE: u64 = 64;

/// What a check may still do. A schema that refers to itself, or whose alternatives multiply, runs out of it.
#[derive(Debug)]
pub struct Budget {
    steps: Cell<u64>,
    depth: Cell<u32>,
    exhausted: Cell<bool>,
}

impl Budget {
    /// The budget of a check in which no value was given yet.
    pub fn new() -> Self {
        Self { steps: Cell::new(STEPS), depth: Cell::new(0), exhausted: Cell::new(false) }
    }

    /// Allows the steps that so many given values take.
    pub fn allow(&self, values: usize) {
        self.steps.set(self.steps.get().saturating_add(STEPS_PER_VALUE.saturating_mul(values as u64)));
    }

    /// Begins a step inside another one; false when nothing is left. Each needs its [`Self::leave`].
    pub fn enter(&self) -> bool {
        self.depth.set(self.depth.get() + 1);
        match self.steps.get() {
            0 => self.exhausted.set(true),
            steps => self.steps.set(steps - 1),
        }
        if self.depth.get() > MAX_DEPTH {
            self.exhausted.set(true);
        }
        !self.exhausted.get()
    }

    /// Ends a step.
    pub fn leave(&self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }

    /// True when the check was cut: what it found so far means nothing.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }
}

/// Follows `$ref` and an `allOf` of one.
pub fn resolve<'s>(root: &'s Value, mut schema: &'s Value, budget: &Budget) -> &'s Value {
    for _ in 0..MAX_REFS {
        let next = match (schema.get("$ref"), schema.get("allOf")) {
            (Some(Value::String(reference)), _) => {
                reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
            }
            (_, Some(Value::Array(all))) if all.len() == 1 => all.first(),
            _ => None,
        };
        match next {
            Some(next) => schema = next,
            None => return schema,
        }
    }
    budget.exhausted.set(true);
    schema
}

/// The names of an object's properties, sorted.
pub fn names(properties: Option<&Map<String, Value>>) -> Vec<&str> {
    let mut names: Vec<_> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The properties of an object.
pub fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The names of the properties that must be there.
pub fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The JSON types that a schema names; none when any will do.
pub fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ => Vec::new(),
    }
}

/// Whether a schema takes null.
pub fn accepts_null(schema: &Value) -> bool {
    let some = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    types(schema).contains(&"null") || some.into_iter().flatten().any(|s| types(s) == ["null"])
}

/// A JSON type in words.
pub fn spoken(json_type: &str) -> &str {
    match json_type {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

/// The schemas of which one must fit, if it is a schema of alternatives.
pub fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array)
}
