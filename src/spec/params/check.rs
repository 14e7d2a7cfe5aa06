//! Params against the JSON Schema of their kind.
//!
//! Purpose: checks every value (key, type, range, choice), reports every error with its position,
//! and fills in defaults.
//! Invariant: equal params have equal values however they are spelt: a number that the schema calls
//! a number is a float, an integer an integer, a missing one its default, a missing nullable null.
//! Must not know: what any param means. Reads the part of JSON Schema that schemars writes for plain
//! Rust types: properties, defaults, `$ref`, enums, alternatives, ranges.

use serde_json::{Map, Number, Value};

use crate::spec::code::Code;
use crate::spec::diagnostic::{did_you_mean, list_names, nearest};
use crate::spec::document::node::{Data, Entry, Node};
use crate::spec::document::scalar;
use crate::spec::fields::shown;
use crate::spec::params::choice::other_name;
use crate::spec::params::number::{broken_bound, float, whole};
use crate::spec::params::schema::{
    Budget, accepts_null, alternatives, names, properties, required, resolve, spoken, types,
};
use crate::spec::types::Span;

/// An error in a value, before it is reported.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The code.
    pub code: Code,
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Checks values against one kind's schema.
pub struct Checker<'s> {
    root: &'s Value,
    /// Who has the params, for messages: ``stage `sft` (kind sft)``.
    owner: String,
    pub(super) budget: Budget,
    /// What was found.
    pub problems: Vec<Problem>,
}

impl<'s> Checker<'s> {
    /// A checker for a kind's `params` schema.
    pub fn new(root: &'s Value, owner: String) -> Self {
        Self { root, owner, budget: Budget::new(), problems: Vec::new() }
    }

    /// True when the schema has no end or is too large: the values and problems found mean nothing.
    pub fn is_exhausted(&self) -> bool {
        self.budget.is_exhausted()
    }

    /// The schemas of the params by name.
    pub fn properties(&self) -> Option<&'s Map<String, Value>> {
        properties(self.resolve(self.root))
    }

    /// Whether a param without default must be given.
    pub fn is_required(&self, name: &str) -> bool {
        required(self.resolve(self.root)).any(|n| n == name)
    }

    /// The schema of params that are not declared, if the kind takes such.
    pub fn extra(&self) -> Option<&'s Value> {
        self.resolve(self.root).get("additionalProperties").filter(|extra| **extra != Value::Bool(false))
    }

    /// The hint for a name that stands one level too high, or that is another one here.
    pub fn elsewhere(&self, name: &str) -> Option<String> {
        let inside = |schema| properties(self.resolve(schema)).is_some_and(|p| p.contains_key(name));
        let nested = self.properties()?.iter().find(|(_, schema)| inside(schema));
        let path = nested.map(|(outer, _)| format!("did you mean `{outer}.{name}`?"));
        path.or_else(|| other_name(self.resolve(self.root), name))
    }

    /// The value of a node of the file, typed; none when something is wrong with it. `path` names it.
    pub fn value(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        self.budget.allow(node.extent().0);
        self.checked(node, schema, path)
    }

    /// The value of a node, within the budget.
    pub(super) fn checked(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        let value = if self.budget.enter() { self.dispatch(node, schema, path) } else { None };
        self.budget.leave();
        value
    }

    fn dispatch(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        let schema = self.resolve(schema);
        if let Some(fixed) = schema.get("const") {
            return self.choice(node, schema, &[fixed], path);
        }
        if let Some(Value::Array(fixed)) = schema.get("enum") {
            return self.choice(node, schema, &fixed.iter().collect::<Vec<_>>(), path);
        }
        if let Some(some) = alternatives(schema) {
            return self.alternative(node, schema, some, path);
        }
        let types = types(schema);
        if node.expanded
            && !types.contains(&"string")
            && let Some(retyped) = node.retyped()
        {
            return self.typed(&retyped, schema, &types, path);
        }
        self.typed(node, schema, &types, path)
    }

    /// The default of a param: its own, else null or an object of defaults where those fit.
    pub fn default(&mut self, schema: &'s Value, path: &str) -> Option<Value> {
        if !self.budget.enter() {
            self.budget.leave();
            return None;
        }
        let value = self.filled(schema, path);
        self.budget.leave();
        value
    }

    fn filled(&mut self, schema: &'s Value, path: &str) -> Option<Value> {
        let resolved = self.resolve(schema);
        let own = schema.get("default").or_else(|| resolved.get("default"));
        let filler = match own {
            Some(value) => value.clone(),
            None if accepts_null(resolved) => Value::Null,
            None if properties(resolved).is_some() => Value::Object(Map::new()),
            None => return None,
        };
        let before = self.problems.len();
        let value = self.checked(&Node::from_json(&filler), schema, path);
        self.problems.truncate(before);
        // A default that breaks its own schema stays what the provider says it is.
        value.or_else(|| own.cloned())
    }

    pub(super) fn resolve(&self, schema: &'s Value) -> &'s Value {
        resolve(self.root, schema, &self.budget)
    }

    pub(super) fn problem(&mut self, code: Code, span: Span, message: String, hint: Option<String>) {
        self.problems.push(Problem { code, span, message, hint });
    }

    pub(super) fn name(&self, path: &str) -> String {
        format!("parameter `{path}` of {}", self.owner)
    }

    fn typed(&mut self, node: &Node, schema: &'s Value, types: &[&str], path: &str) -> Option<Value> {
        let takes = |name: &str| types.is_empty() || types.contains(&name);
        match &node.data {
            Data::Null if takes("null") => return Some(Value::Null),
            Data::Bool(value) if takes("boolean") => return Some(Value::Bool(*value)),
            Data::String(text) if takes("string") => return self.string(node, text, schema, path),
            Data::Number(number) if takes("number") || takes("integer") => {
                return self.number(node, number, schema, takes("number"), path);
            }
            Data::OutOfRange if takes("number") || takes("integer") => {
                let message = format!("{} does not fit into 64 bits: {}", self.name(path), shown(node));
                self.problem(Code::Range, node.span, message, None);
                return None;
            }
            Data::Seq(items) if takes("array") => return self.array(node, items, schema, path),
            Data::Map(entries) if takes("object") => return self.object(node, entries, schema, path),
            _ => {}
        }
        let wanted: Vec<_> = types.iter().filter(|t| **t != "null").map(|t| spoken(t)).collect();
        let message = format!("{} must be {}, not {}", self.name(path), wanted.join(" or "), described(node));
        let hint = node.as_str().and_then(|text| self.inside(schema, text));
        self.problem(Code::Type, node.span, message, hint);
        None
    }

    fn string(&mut self, node: &Node, text: &str, schema: &'s Value, path: &str) -> Option<Value> {
        let length = text.chars().count() as u64;
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let message = match (bound("minLength"), bound("maxLength")) {
            (Some(least), _) if length < least => format!("must have at least {least} characters"),
            (_, Some(most)) if length > most => format!("must have at most {most} characters"),
            _ => return Some(Value::String(text.to_owned())),
        };
        self.problem(Code::Range, node.span, format!("{} {message}", self.name(path)), None);
        None
    }

    fn number(
        &mut self,
        node: &Node,
        number: &Number,
        schema: &'s Value,
        float_taken: bool,
        path: &str,
    ) -> Option<Value> {
        let untyped = types(schema).is_empty();
        let fits = whole(number).is_some();
        // `1e300` may stand where no type is said; digits that a float would round may not.
        let digits = node.spelling.as_deref().is_some_and(scalar::is_whole);
        if !fits && (!float_taken || (untyped && digits)) {
            let is_whole = number.as_f64().is_some_and(|value| value.fract() == 0.0);
            let (code, wanted) = match is_whole {
                true => (Code::Range, "a whole number of 64 bits"),
                false => (Code::Type, "a whole number"),
            };
            let message = format!("{} must be {wanted}, not {}", self.name(path), shown(node));
            self.problem(code, node.span, message, None);
            return None;
        }
        if let Some(bound) = broken_bound(number, schema) {
            let message = format!("{} must be {bound}, not {}", self.name(path), shown(node));
            self.problem(Code::Range, node.span, message, None);
            return None;
        }
        if untyped || !float_taken {
            return Some(Value::Number(number.clone()));
        }
        let value = float(number, schema);
        if value.is_none() {
            let message =
                format!("{} does not fit into a float of 32 bits: {}", self.name(path), shown(node));
            self.problem(Code::Range, node.span, message, None);
        }
        value.map(Value::Number)
    }

    fn array(&mut self, node: &Node, items: &[Node], schema: &'s Value, path: &str) -> Option<Value> {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(usize::MAX));
        if items.len() < least || items.len() > most {
            let wanted =
                if items.len() < least { format!("at least {least}") } else { format!("at most {most}") };
            let message = format!("{} must have {wanted} items, not {}", self.name(path), items.len());
            self.problem(Code::Range, node.span, message, None);
            return None;
        }
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let mut values = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let schema = first.and_then(|f| f.get(i)).or_else(|| schema.get("items"));
            values.push(match schema {
                Some(schema) => self.checked(item, schema, &format!("{path}[{i}]")),
                None => Some(item.to_json()),
            });
        }
        values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: &'s Value, path: &str) -> Option<Value> {
        let before = self.problems.len();
        let declared = properties(schema);
        let mut meant = Vec::new();
        let mut map = Map::new();
        for Entry { key, value } in entries {
            let inner = format!("{path}.{}", key.text);
            let extra = schema.get("additionalProperties");
            let typed = match (declared.and_then(|p| p.get(&key.text)), extra) {
                (Some(property), _) => self.checked(value, property, &inner),
                (None, Some(extra @ Value::Object(_))) => self.checked(value, extra, &inner),
                (None, Some(Value::Bool(true))) => Some(value.to_json()),
                (None, None) if declared.is_none() => Some(value.to_json()),
                _ => {
                    let names = names(declared);
                    meant.extend(nearest(&key.text, names.iter().copied()));
                    let hint = other_name(schema, &key.text)
                        .or_else(|| did_you_mean(&key.text, names.iter().copied()))
                        .unwrap_or_else(|| format!("it has: {}", list_names(names)));
                    let message = format!("{} has no `{}`", self.name(path), key.text);
                    self.problem(Code::UnknownKey, key.span, message, Some(hint));
                    None
                }
            };
            map.extend(typed.map(|value| (key.text.clone(), value)));
        }
        for (name, property) in declared.into_iter().flatten() {
            if !entries.iter().any(|e| e.key.text == *name) && !meant.contains(&name.as_str()) {
                let inner = format!("{path}.{name}");
                if required(schema).any(|n| n == name) && property.get("default").is_none() {
                    let message = format!("{} is missing", self.name(&inner));
                    self.problem(Code::MissingParam, node.span, message, None);
                } else if let Some(value) = self.default(property, &inner) {
                    map.insert(name.clone(), value);
                }
            }
        }
        (self.problems.len() == before).then_some(Value::Object(map))
    }
}

pub(super) fn described(node: &Node) -> String {
    match node.data {
        Data::Null | Data::Seq(_) | Data::Map(_) => node.kind().to_owned(),
        _ => format!("{} {}", node.kind(), shown(node)),
    }
}
