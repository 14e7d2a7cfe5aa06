//! `${NAME:-default}` in the strings of a pipeline file.
//!
//! Purpose: expands environment variables in every string value but `run`, before anything else reads them.
//! Invariant: keys are never expanded; `run` of a stage, a script or a list, belongs to its shell; `$${` stands for `${`; an unset variable without a default is
//! an error; what was expanded is not expanded again.
//! Must not know: what the strings mean, but for `run` of a stage.

use std::collections::BTreeMap;

use crate::spec::code::Code;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::node::{Data, Entry, Node};

/// Expands all strings of a pipeline file.
pub fn expand(root: &mut Node, environment: &BTreeMap<String, String>, out: &mut Diagnostics) {
    for (section, value) in entries(root) {
        if section != "stages" {
            expand_node(value, environment, out);
            continue;
        }
        if !matches!(value.data, Data::Map(_)) {
            expand_node(value, environment, out);
        }
        for (_, stage) in entries(value) {
            if !matches!(stage.data, Data::Map(_)) {
                expand_node(stage, environment, out);
            }
            entries(stage)
                .filter(|(key, _)| *key != "run")
                .for_each(|(_, node)| expand_node(node, environment, out));
        }
    }
}

fn entries(node: &mut Node) -> impl Iterator<Item = (&str, &mut Node)> {
    let entries = match &mut node.data {
        Data::Map(entries) => entries.as_mut_slice(),
        _ => &mut [],
    };
    entries.iter_mut().map(|Entry { key, value }| (key.text.as_str(), value))
}

fn expand_node(node: &mut Node, environment: &BTreeMap<String, String>, out: &mut Diagnostics) {
    let span = node.span;
    match &mut node.data {
        Data::String(text) if text.contains("${") => match expand_text(text, environment) {
            Ok(expanded) => (*text, node.expanded) = (expanded, true),
            Err(Problem { name, message }) => {
                let hint = name.map(|n| format!("set it, or write `${{{n}:-default}}`"));
                out.push_last(Code::UnsetVariable, span, message, hint);
            }
        },
        Data::Seq(items) => items.iter_mut().for_each(|item| expand_node(item, environment, out)),
        Data::Map(_) => entries(node).for_each(|(_, value)| expand_node(value, environment, out)),
        _ => {}
    }
}

struct Problem {
    name: Option<String>,
    message: String,
}

fn expand_text(text: &str, environment: &BTreeMap<String, String>) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, tail) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &tail[2..];
            continue;
        }
        out.push_str(before);
        let name_end =
            tail[2..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len() - 2);
        let (name, after) = tail[2..].split_at(name_end);
        if name.is_empty() {
            // `${{x}}` and the like: a placeholder's business.
            out.push_str("${");
            rest = &tail[2..];
            continue;
        }
        let (default, after) = default_of(name, after)?;
        match environment.get(name).map(String::as_str).filter(|v| default.is_none() || !v.is_empty()) {
            Some(value) => out.push_str(value),
            None => out.push_str(default.ok_or_else(|| Problem {
                name: Some(name.to_owned()),
                message: format!("the environment variable `{name}` is not set"),
            })?),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The default after a name, if there is one, and what follows the closing brace.
fn default_of<'a>(name: &str, after: &'a str) -> Result<(Option<&'a str>, &'a str), Problem> {
    let bad = |what: &str| Problem {
        name: None,
        message: format!(
            "`${{{name}` {what}; write `${{{name}}}`, `${{{name}:-default}}`, or `$${{` for a plain `${{`"
        ),
    };
    if let Some(after) = after.strip_prefix('}') {
        return Ok((None, after));
    }
    let Some(tail) = after.strip_prefix(":-") else { return Err(bad("is not closed")) };
    let end = tail.find('}').ok_or_else(|| bad("is not closed"))?;
    Ok((Some(&tail[..end]), &tail[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let environment =
            BTreeMap::from([("A".to_owned(), "1".to_owned()), ("EMPTY".to_owned(), String::new())]);
        expand_text(text, &environment).map_err(|p| p.message)
    }

    #[test]
    fn variables_are_replaced_and_defaults_stand_in() {
        assert_eq!(expanded("x${A}y${B:-z}").unwrap(), "x1yz");
        assert_eq!(expanded("${EMPTY:-d}|${EMPTY}|${B:-}").unwrap(), "d||");
        assert_eq!(expanded("$A $$ ${{i}} $${A} é${A}").unwrap(), "$A $$ ${{i}} ${A} é1");
    }

    #[test]
    fn nothing_is_expanded_in_run_and_everything_elsewhere() {
        let text = "\
params: { run: '${A}' }
stages:
  a: { run: 'for f in *; do echo ${f} ${A} $${x}; done', env: { run: ['${A}'] } }
  b: { run: [echo, '${nope}', '${A}'], uses: '${A}.py' }
";
        let mut root = crate::spec::document::yaml::parse(text).unwrap();
        let mut out = Diagnostics::new("p.yaml".as_ref(), text.to_owned());
        expand(&mut root, &BTreeMap::from([("A".to_owned(), "1".to_owned())]), &mut out);
        assert!(out.is_empty());
        assert_eq!(
            root.to_json(),
            serde_json::json!({
                "params": { "run": "1" },
                "stages": {
                    "a": { "run": "for f in *; do echo ${f} ${A} $${x}; done", "env": { "run": ["1"] } },
                    "b": { "run": ["echo", "${nope}", "${A}"], "uses": "1.py" },
                },
            })
        );
    }

    #[test]
    fn an_unset_variable_without_default_is_an_error() {
        assert!(expanded("${B}").unwrap_err().contains("`B` is not set"));
        assert!(expanded("${A").unwrap_err().contains("not closed"));
        assert!(expanded("${A:-x").unwrap_err().contains("not closed"));
    }
}
