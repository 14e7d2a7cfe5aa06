//! `--set` and `--unset`.
//!
//! Purpose: changes the YAML tree before anything else reads it, so that what is set is checked like
//! what is written.
//! Invariant: a path names what is there or what the later checks know, so that a misspelt one is always an
//! error; a value is JSON where it parses as JSON, else the text exactly as typed; what is set stands nowhere.
//! Must not know: which kinds or params there are.

use crate::spec::code::Code;
use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::document::node::{Data, Entry, Key, Node};
use crate::spec::document::yaml;
use crate::spec::types::Span;

/// What is known of the keys of a stage.
pub struct StageKeys<'a> {
    /// The keys of a stage: `stages.a.x` means `stages.a.params.x` unless `x` is one of them.
    pub keys: &'a [&'a str],
    /// Of a command: whether `run` names something of a section (`inputs`, `outputs`, `params`). None for
    /// other stages, whose names the later checks know.
    pub names: fn(stage: &Node, section: &str, name: &str) -> Option<bool>,
}

/// Applies `path=value` texts, then takes away the paths of `unset`.
pub fn apply(root: &mut Node, set: &[String], unset: &[String], known: &StageKeys<'_>, out: &mut Diagnostics) {
    for text in set {
        let Some((path, value)) = text.split_once('=') else {
            report(format!("`--set {text}` has no `=`: write `--set path=value`"), None, out);
            continue;
        };
        set_path(root, path.trim(), typed(value), known, out);
    }
    for path in unset {
        unset_path(root, path.trim(), known, out);
    }
}

fn report(message: String, hint: Option<String>, out: &mut Diagnostics) {
    out.push_hint(Code::Override, Span::default(), message, hint);
}

/// A value as it was typed: JSON, or else a text.
fn typed(text: &str) -> Node {
    let mut node = match serde_json::from_str::<serde_json::Value>(text) {
        // JSON is YAML, and the reader of YAML keeps the spelling of numbers.
        Ok(value) => yaml::parse(text).unwrap_or_else(|_| Node::from_json(&value)),
        Err(_) if super::scalar::is_json_number(text) => yaml::parse(text).unwrap_or_default(),
        Err(_) => Node { data: Data::String(text.to_owned()), ..Node::default() },
    };
    node.forget_spans();
    node.spelling = Some(text.into());
    node
}

/// A path as keys, with `params` put in where it was left out.
fn segments<'p>(
    root: &Node,
    path: &'p str,
    option: &str,
    known: &StageKeys<'_>,
    out: &mut Diagnostics,
) -> Option<Vec<&'p str>> {
    let mut keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        report(format!("`{option} {path}` is no path such as `stages.sft.steps`"), None, out);
        return None;
    }
    let section = keys[0];
    if !["stages", "sources"].contains(&section) || keys.len() < 2 {
        return Some(keys);
    }
    let all = root.get(section);
    if all.and_then(|all| all.get(keys[1])).is_none() {
        let names = all.map(names_of).unwrap_or_default();
        let message = format!("`{option} {path}`: there is no {} `{}`", section.trim_end_matches('s'), keys[1]);
        report(message, Some(nearest_or_all(keys[1], &names)), out);
        return None;
    }
    if section == "stages" && keys.get(2).is_some_and(|key| !known.keys.contains(key)) {
        keys.insert(2, "params");
    }
    Some(keys)
}

fn nearest_or_all(word: &str, names: &[&str]) -> String {
    let all = || format!("there is: {}", list_names(names.iter().copied()));
    did_you_mean(word, names.iter().copied()).unwrap_or_else(all)
}

fn names_of(node: &Node) -> Vec<&str> {
    match &node.data {
        Data::Map(entries) => entries.iter().map(|e| e.key.text.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Whether a path into a command names something that it has or that `run` names; the later checks cannot
/// know, for a command may have any name.
fn check_command(root: &Node, path: &str, keys: &[&str], known: &StageKeys<'_>, out: &mut Diagnostics) -> bool {
    let ["stages", stage, section, name, inner @ ..] = keys else { return true };
    let Some(node) = root.get("stages").and_then(|stages| stages.get(stage)) else { return true };
    if !["inputs", "outputs", "params"].contains(section) {
        return true;
    }
    let Some(named) = (known.names)(node, section, name) else { return true };
    let there = node.get(section).map(names_of).unwrap_or_default();
    if !named && !there.contains(name) {
        let shared = (*section == "params").then(|| root.get("params").map(names_of)).flatten().unwrap_or_default();
        let message = match shared.contains(name) {
            true => format!("`--set {path}`: `run` of stage `{stage}` does not use `{name}`"),
            false => format!("`--set {path}`: the command `{stage}` has no `{name}` in its {section}"),
        };
        let keys = known.keys.iter().filter(|_| *section == "params").copied();
        let names: Vec<_> = there.iter().copied().chain(shared.into_iter().filter(|n| n != name)).collect();
        let hint = did_you_mean(name, names.iter().copied().chain(keys))
            .unwrap_or_else(|| format!("its {section}: {}", list_names(there.iter().copied())));
        report(message, Some(hint), out);
        return false;
    }
    let mut parent = node.get(section).and_then(|section| section.get(name));
    for key in inner.iter().filter(|_| *section == "params") {
        let Some(Data::Map(_)) = parent.map(|parent| &parent.data) else { break };
        let names = parent.map(names_of).unwrap_or_default();
        parent = parent.and_then(|parent| parent.get(key));
        if parent.is_none() {
            let message = format!("`--set {path}`: there is no `{key}` in this parameter");
            report(message, Some(nearest_or_all(key, &names)), out);
            return false;
        }
    }
    true
}

fn set_path(root: &mut Node, path: &str, value: Node, known: &StageKeys<'_>, out: &mut Diagnostics) {
    let Some(keys) = segments(root, path, "--set", known, out) else { return };
    if !check_command(root, path, &keys, known, out) {
        return;
    }
    let mut node = root;
    for key in keys {
        if node.data == Data::Null {
            *node = Node { data: Data::Map(Vec::new()), span: node.span, ..Node::default() };
        }
        let kind = node.kind();
        // A value that was set whole before no longer is as it was typed.
        node.spelling = None;
        let Data::Map(entries) = &mut node.data else {
            return report(format!("`--set {path}`: `{key}` cannot be set inside {kind}"), None, out);
        };
        let index = entries.iter().position(|e| e.key.text == key).unwrap_or_else(|| {
            let key = Key { text: key.to_owned(), span: Span::default() };
            entries.push(Entry { key, value: Node::default() });
            entries.len() - 1
        });
        node = &mut entries[index].value;
    }
    *node = value;
}

fn unset_path(root: &mut Node, path: &str, known: &StageKeys<'_>, out: &mut Diagnostics) {
    let Some(keys) = segments(root, path, "--unset", known, out) else { return };
    let Some((last, parents)) = keys.split_last() else { return };
    let mut node = Some(root);
    for key in parents {
        node = node.and_then(|node| child(node, key));
    }
    let names: Vec<String> =
        node.as_deref().map(|n| names_of(n).into_iter().map(str::to_owned).collect()).unwrap_or_default();
    if let Some(node) = node
        && let Data::Map(entries) = &mut node.data
        && let Some(index) = entries.iter().position(|e| e.key.text == *last)
    {
        entries.remove(index);
        node.spelling = None;
        return;
    }
    let hint = did_you_mean(last, names.iter().map(String::as_str));
    report(format!("`--unset {path}`: there is no such key in the file"), hint, out);
}

fn child<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.data {
        Data::Map(entries) => entries.iter_mut().find(|e| e.key.text == key).map(|e| &mut e.value),
        _ => None,
    }
}
