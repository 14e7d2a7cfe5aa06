//! Params of which a schema offers several.
//!
//! Purpose: one of some fixed values, one of several schemas; and the hints for a value that is none of them.
//! Invariant: an error names all that there is to choose from.
//! Must not know: what any param means.

use std::cmp::Ordering;

use serde_json::Value;

use crate::spec::code::Code;
use crate::spec::diagnostic::{did_you_mean, list_names};
use crate::spec::document::node::Node;
use crate::spec::fields::shown;
use crate::spec::params::check::{Checker, Problem, described};
use crate::spec::params::number::compare;
use crate::spec::params::schema::{alternatives, properties, spoken, types};

impl<'s> Checker<'s> {
    pub(super) fn choice(
        &mut self,
        node: &Node,
        schema: &'s Value,
        fixed: &[&Value],
        path: &str,
    ) -> Option<Value> {
        let text = |value: &&Value| Node::from_json(value).scalar().map(|text| text.into_owned());
        let texts: Vec<_> = fixed.iter().filter(|value| !value.is_null()).filter_map(text).collect();
        let retyped = node.retyped().filter(|_| node.expanded).map(|n| n.to_json());
        for given in [Some(node.to_json()), retyped].into_iter().flatten() {
            let same = |value: &&&Value| match (**value, &given) {
                (Value::Number(a), Value::Number(b)) => compare(a, b) == Ordering::Equal,
                (a, b) => a == b,
            };
            if let Some(value) = fixed.iter().find(same) {
                return Some((*value).clone());
            }
        }
        let shown = shown(node);
        let names = || texts.iter().map(String::as_str);
        let message = format!("{} must be one of {}, not {shown}", self.name(path), list_names(names()));
        let other = node.as_str().and_then(|text| other_name(schema, text));
        let hint = other.or_else(|| did_you_mean(node.as_str()?, names()));
        self.problem(Code::Choice, node.span, message, hint);
        None
    }

    /// The first of several schemas that fits; else the errors of the one that fits best.
    pub(super) fn alternative(
        &mut self,
        node: &Node,
        schema: &'s Value,
        some: &'s [Value],
        path: &str,
    ) -> Option<Value> {
        let mut fixed = Vec::new();
        if some.iter().all(|schema| self.constants(schema, &mut fixed)) {
            return self.choice(node, schema, &fixed, path);
        }
        let before = self.problems.len();
        let mut best: Option<Vec<Problem>> = None;
        for schema in some {
            let value = self.checked(node, schema, path);
            let found = self.problems.split_off(before);
            if found.is_empty() && value.is_some() {
                return value;
            }
            if best.as_ref().is_none_or(|best| rank(&found, node) < rank(best, node)) {
                best = Some(found);
            }
        }
        let best = best.unwrap_or_default();
        if rank(&best, node).0 > 0 && some.len() > 1 {
            // None fits at all, so all of them are named.
            let wanted: Vec<_> = some.iter().filter_map(|schema| self.wanted(schema)).collect();
            let message =
                format!("{} must be {}, not {}", self.name(path), wanted.join(" or "), described(node));
            let code = best.first().map_or(Code::Type, |problem| problem.code);
            self.problem(code, node.span, message, best.into_iter().find_map(|problem| problem.hint));
            return None;
        }
        self.problems.extend(best);
        None
    }

    /// What a schema takes, in words; none of nothing at all.
    fn wanted(&self, schema: &'s Value) -> Option<String> {
        let mut fixed = Vec::new();
        if self.constants(schema, &mut fixed) {
            let names = fixed.iter().filter(|value| !value.is_null()).map(|value| match value.as_str() {
                Some(text) => format!("`{text}`"),
                None => value.to_string(),
            });
            return Some(names.collect::<Vec<_>>().join(" or ")).filter(|names| !names.is_empty());
        }
        let types = types(self.resolve(schema));
        let words: Vec<_> = types.iter().filter(|t| **t != "null").map(|t| spoken(t)).collect();
        Some(words.join(" or ")).filter(|words| !words.is_empty())
    }

    /// Collects the values of a schema that only lists some; false for any other one.
    fn constants(&self, schema: &'s Value, fixed: &mut Vec<&'s Value>) -> bool {
        let found = self.budget.enter() && self.constants_of(self.resolve(schema), fixed);
        self.budget.leave();
        found
    }

    fn constants_of(&self, schema: &'s Value, fixed: &mut Vec<&'s Value>) -> bool {
        if let Some(value) = schema.get("const") {
            fixed.push(value);
        } else if let Some(Value::Array(values)) = schema.get("enum") {
            fixed.extend(values);
        } else if let Some(some) = alternatives(schema) {
            return some.iter().all(|schema| self.constants(schema, fixed));
        } else if types(schema) == ["null"] {
            fixed.push(&Value::Null);
        } else {
            return false;
        }
        true
    }

    /// The hint for a word that stands where the mapping around it should.
    pub(super) fn inside(&self, schema: &'s Value, text: &str) -> Option<String> {
        let takes = |schema: &'s Value| {
            let mut fixed = Vec::new();
            self.constants(schema, &mut fixed) && fixed.iter().any(|value| value.as_str() == Some(text))
        };
        let (name, _) = properties(schema)?.iter().find(|(_, schema)| takes(schema))?;
        Some(format!("did you mean `{{ {name}: {text} }}`?"))
    }
}

/// The hint for a name that is another one here: one of an earlier revision of a kind, or of another tool. A schema
/// lists these under `x-other-names`, and names the right one by its path from where the wrong one stands, with a note
/// behind it where the value is another one.
pub fn other_name(schema: &Value, name: &str) -> Option<String> {
    let here = schema.get("x-other-names")?.get(name)?.as_str()?;
    let (path, note) = here.split_once(' ').unwrap_or((here, ""));
    Some(format!("it is called `{path}` here {note}").trim_end().to_owned())
}

/// How badly an alternative fits: a wrong type of the whole value is worse than a wrong choice, and
/// that is worse than errors inside.
fn rank(problems: &[Problem], node: &Node) -> (u8, usize) {
    let whole = |p: &Problem| match p.code {
        Code::Type if p.span == node.span => 2,
        Code::Choice if p.span == node.span => 1,
        _ => 0,
    };
    (problems.iter().map(whole).max().unwrap_or(0), problems.len())
}
