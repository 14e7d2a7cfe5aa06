//! Params against the JSON Schema of their kind.
//!
//! Purpose: checks every value (key, type, range, choice), reports every error with its position,
//! and fills in defaults.
//! Invariant: equal params have equal values however they are spelt: a number that the schema calls
//! a number is a float, an integer an integer, a missing one its default, a missing nullable null.
//! Must not know: what any param means. Reads the part of JSON Schema that schemars writes for plain
//! Rust types: properties, defaults, `$ref`, enums, alternatives, ranges.

use serde_json::{Map, Number, Value};

use crate::spec::diagnostic::{did_you_mean, list_names, nearest};
use crate::spec::fields::scalar_text;
use crate::spec::node::{Data, Entry, Node, Place};

/// An error in a value, before it is reported.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The code.
    pub code: &'static str,
    /// Where.
    pub place: Place,
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
    /// What was found.
    pub problems: Vec<Problem>,
}

/// Chains of `$ref` longer than this are cut.
const MAX_REFS: usize = 32;

impl<'s> Checker<'s> {
    /// A checker for a kind's `params` schema.
    pub fn new(root: &'s Value, owner: String) -> Self {
        Self { root, owner, problems: Vec::new() }
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

    /// The path of a param inside another one, for a name that stands one level too high.
    pub fn nested(&self, name: &str) -> Option<String> {
        let inside = |schema| properties(self.resolve(schema)).is_some_and(|p| p.contains_key(name));
        let (outer, _) = self.properties()?.iter().find(|(_, schema)| inside(schema))?;
        Some(format!("{outer}.{name}"))
    }

    /// The value of a node, typed; none when something is wrong with it. `path` names it.
    pub fn value(&mut self, node: &Node, schema: &'s Value, path: &str) -> Option<Value> {
        let schema = self.resolve(schema);
        if let Some(fixed) = schema.get("const") {
            return self.choice(node, &[fixed], path);
        }
        if let Some(Value::Array(fixed)) = schema.get("enum") {
            return self.choice(node, &fixed.iter().collect::<Vec<_>>(), path);
        }
        if let Some(Value::Array(some)) = schema.get("oneOf").or_else(|| schema.get("anyOf")) {
            return self.alternative(node, some, path);
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
        let resolved = self.resolve(schema);
        let own = schema.get("default").or_else(|| resolved.get("default"));
        let filler = match own {
            Some(value) => value.clone(),
            None if accepts_null(resolved) => Value::Null,
            None if properties(resolved).is_some() => Value::Object(Map::new()),
            None => return None,
        };
        let before = self.problems.len();
        let value = self.value(&Node::from_json(&filler), schema, path);
        self.problems.truncate(before);
        // A default that breaks its own schema stays what the provider says it is.
        value.or_else(|| own.cloned())
    }

    /// Follows `$ref` and an `allOf` of one.
    fn resolve(&self, mut schema: &'s Value) -> &'s Value {
        for _ in 0..MAX_REFS {
            let next = match (schema.get("$ref"), schema.get("allOf")) {
                (Some(Value::String(reference)), _) => {
                    reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
                }
                (_, Some(Value::Array(all))) if all.len() == 1 => all.first(),
                _ => None,
            };
            match next {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    fn problem(&mut self, code: &'static str, place: Place, message: String, hint: Option<String>) {
        self.problems.push(Problem { code, place, message, hint });
    }

    fn name(&self, path: &str) -> String {
        format!("parameter `{path}` of {}", self.owner)
    }

    fn choice(&mut self, node: &Node, fixed: &[&Value], path: &str) -> Option<Value> {
        let given = node.to_json();
        let texts: Vec<_> = fixed.iter().filter_map(|v| scalar_text(&Node::from_json(v))).collect();
        let same = |v: &&&Value| {
            **v == &given
                || matches!((v, &given), (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64())
        };
        let retyped = node.retyped().filter(|_| node.expanded).map(|n| n.to_json());
        if let Some(value) = fixed.iter().find(|v| same(v) || retyped.as_ref() == Some(**v)) {
            return Some((*value).clone());
        }
        let shown = scalar_text(node).map_or_else(|| node.kind().to_owned(), |t| format!("`{t}`"));
        let names = || texts.iter().map(String::as_str);
        let message = format!("{} must be one of {}, not {shown}", self.name(path), list_names(names()));
        let hint = node.as_str().and_then(|text| did_you_mean(text, names()));
        self.problem("choice", node.place(), message, hint);
        None
    }

    /// The first of several schemas that fits; else the errors of the one that fits best.
    fn alternative(&mut self, node: &Node, some: &'s [Value], path: &str) -> Option<Value> {
        let mut fixed = Vec::new();
        if some.iter().all(|schema| self.constants(schema, &mut fixed)) {
            return self.choice(node, &fixed, path);
        }
        let before = self.problems.len();
        let mut best: Option<Vec<Problem>> = None;
        for schema in some {
            let value = self.value(node, schema, path);
            let found = self.problems.split_off(before);
            if found.is_empty() && value.is_some() {
                return value;
            }
            if best.as_ref().is_none_or(|best| rank(&found, node) < rank(best, node)) {
                best = Some(found);
            }
        }
        self.problems.extend(best.unwrap_or_default());
        None
    }

    /// Collects the values of a schema that only lists some; false for any other one.
    fn constants(&self, schema: &'s Value, fixed: &mut Vec<&'s Value>) -> bool {
        let schema = self.resolve(schema);
        if let Some(value) = schema.get("const") {
            fixed.push(value);
        } else if let Some(Value::Array(values)) = schema.get("enum") {
            fixed.extend(values);
        } else if let Some(Value::Array(some)) = schema.get("oneOf").or_else(|| schema.get("anyOf")) {
            return some.iter().all(|schema| self.constants(schema, fixed));
        } else if types(schema) == ["null"] {
            fixed.push(&Value::Null);
        } else {
            return false;
        }
        true
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
            Data::Seq(items) if takes("array") => return self.array(node, items, schema, path),
            Data::Map(entries) if takes("object") => return self.object(node, entries, schema, path),
            _ => {}
        }
        let wanted: Vec<_> = types.iter().filter(|t| **t != "null").map(|t| spoken(t)).collect();
        let message = format!("{} must be {}, not {}", self.name(path), wanted.join(" or "), shown(node));
        self.problem("type", node.place(), message, None);
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
        self.problem("range", node.place(), format!("{} {message}", self.name(path)), None);
        None
    }

    fn number(
        &mut self,
        node: &Node,
        number: &Number,
        schema: &'s Value,
        float: bool,
        path: &str,
    ) -> Option<Value> {
        let untyped = types(schema).is_empty();
        if !float && number.as_i64().is_none() && number.as_u64().is_none() {
            let message = format!("{} must be a whole number, not `{number}`", self.name(path));
            self.problem("type", node.place(), message, None);
            return None;
        }
        if let Some(bound) = broken_bound(number, schema) {
            let message = format!("{} must be {bound}, not `{number}`", self.name(path));
            self.problem("range", node.place(), message, None);
            return None;
        }
        if untyped || !float {
            return Some(Value::Number(number.clone()));
        }
        let value = number.as_f64()?;
        let single = schema.get("format").and_then(Value::as_str) == Some("float");
        // A 32-bit default such as 0.1 reaches JSON as 0.10000000149011612: take the shortest
        // spelling of both, so that it equals what people write.
        let value = if single { (value as f32).to_string().parse().ok()? } else { value };
        Number::from_f64(value).map(Value::Number)
    }

    fn array(&mut self, node: &Node, items: &[Node], schema: &'s Value, path: &str) -> Option<Value> {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).map(|n| n as usize);
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(usize::MAX));
        if items.len() < least || items.len() > most {
            let wanted =
                if items.len() < least { format!("at least {least}") } else { format!("at most {most}") };
            let message = format!("{} must have {wanted} items, not {}", self.name(path), items.len());
            self.problem("range", node.place(), message, None);
            return None;
        }
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let mut values = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let schema = first.and_then(|f| f.get(i)).or_else(|| schema.get("items"));
            values.push(match schema {
                Some(schema) => self.value(item, schema, &format!("{path}[{i}]")),
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
                (Some(property), _) => self.value(value, property, &inner),
                (None, Some(extra @ Value::Object(_))) => self.value(value, extra, &inner),
                (None, Some(Value::Bool(true))) => Some(value.to_json()),
                (None, None) if declared.is_none() => Some(value.to_json()),
                _ => {
                    let names = names(declared);
                    meant.extend(nearest(&key.text, names.iter().copied()));
                    let hint = did_you_mean(&key.text, names.iter().copied())
                        .unwrap_or_else(|| format!("it has: {}", list_names(names)));
                    let message = format!("{} has no `{}`", self.name(path), key.text);
                    self.problem("unknown-key", key.place(), message, Some(hint));
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
                    self.problem("missing-param", node.place(), message, None);
                } else if let Some(value) = self.default(property, &inner) {
                    map.insert(name.clone(), value);
                }
            }
        }
        (self.problems.len() == before).then_some(Value::Object(map))
    }
}

/// How badly an alternative fits: a wrong type of the whole value is worse than a wrong choice, and
/// that is worse than errors inside.
fn rank(problems: &[Problem], node: &Node) -> (u8, usize) {
    let whole = |p: &Problem| match p.code {
        "type" if p.place == node.place() => 2,
        "choice" if p.place == node.place() => 1,
        _ => 0,
    };
    (problems.iter().map(whole).max().unwrap_or(0), problems.len())
}

/// The names of an object's properties, sorted.
pub fn names(properties: Option<&Map<String, Value>>) -> Vec<&str> {
    let mut names: Vec<_> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The JSON types that a schema names; none when any will do.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ if schema.get("properties").is_some() => vec!["object"],
        _ => Vec::new(),
    }
}

/// Whether a schema takes null.
fn accepts_null(schema: &Value) -> bool {
    let some = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    types(schema).contains(&"null") || some.into_iter().flatten().any(|s| types(s) == ["null"])
}

fn spoken(json_type: &str) -> &str {
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

fn shown(node: &Node) -> String {
    match scalar_text(node) {
        Some(text) => format!("{} `{}`", node.kind(), text.chars().take(60).collect::<String>()),
        None => node.kind().to_owned(),
    }
}

/// The bound that a number breaks, in words.
fn broken_bound(number: &Number, schema: &Value) -> Option<String> {
    let value = number.as_f64()?;
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (format_least, format_most) = format_range(schema);
    let least = bound("minimum").or(format_least);
    let most = bound("maximum").or(format_most);
    if let Some(least) = least.filter(|least| value < *least) {
        return Some(format!("at least {least}"));
    }
    if let Some(most) = most.filter(|most| value > *most) {
        return Some(format!("at most {most}"));
    }
    if let Some(least) = bound("exclusiveMinimum").filter(|least| value <= *least) {
        return Some(format!("above {least}"));
    }
    bound("exclusiveMaximum").filter(|most| value >= *most).map(|most| format!("below {most}"))
}

/// The range of a Rust integer, which schemars names in `format`.
fn format_range(schema: &Value) -> (Option<f64>, Option<f64>) {
    match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (Some(0.0), Some(f64::from(u8::MAX))),
        Some("uint16") => (Some(0.0), Some(f64::from(u16::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        Some("uint64" | "uint") => (Some(0.0), None),
        Some("int8") => (Some(f64::from(i8::MIN)), Some(f64::from(i8::MAX))),
        Some("int16") => (Some(f64::from(i16::MIN)), Some(f64::from(i16::MAX))),
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        _ => (None, None),
    }
}
