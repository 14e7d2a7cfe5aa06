//! `--set` and `--unset`.
//!
//! Purpose: changes the YAML tree before anything else reads it, so that what is set is checked like
//! what is written.
//! Invariant: a path names what is there or what the later checks know; what is set has line 0.
//! Must not know: which keys, kinds or params there are, but for the keys of a stage.

use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::node::{Data, Entry, Key, Node, Place};
use crate::spec::types::Position;
use crate::spec::yaml;

/// Nowhere in the file.
const NOWHERE: Place = (Position { line: 0, column: 0 }, 0);

/// Applies `path=value` texts, then takes away the paths of `unset`. `stage_keys` are the keys of a
/// stage: `stages.a.x` means `stages.a.params.x` unless `x` is one of them.
pub fn apply(root: &mut Node, set: &[String], unset: &[String], stage_keys: &[&str], out: &mut Diagnostics) {
    for text in set {
        let Some((path, value)) = text.split_once('=') else {
            out.push("override", NOWHERE, format!("`--set {text}` has no `=`: write `--set path=value`"));
            continue;
        };
        match yaml::parse(value) {
            Ok(mut node) => {
                node.forget_positions();
                set_path(root, path.trim(), node, stage_keys, out);
            }
            Err(error) => out.push("override", NOWHERE, format!("`--set {text}`: {error}")),
        }
    }
    for path in unset {
        unset_path(root, path.trim(), stage_keys, out);
    }
}

/// A path as keys, with `params` put in where it was left out.
fn segments<'p>(
    root: &Node,
    path: &'p str,
    option: &str,
    stage_keys: &[&str],
    out: &mut Diagnostics,
) -> Option<Vec<&'p str>> {
    let mut keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        out.push("override", NOWHERE, format!("`{option} {path}` is no path such as `stages.sft.steps`"));
        return None;
    }
    if keys[0] != "stages" || keys.len() < 2 {
        return Some(keys);
    }
    let stages = root.get("stages");
    if stages.and_then(|stages| stages.get(keys[1])).is_none() {
        let names = stages.map(names_of).unwrap_or_default();
        let hint = did_you_mean(keys[1], names.iter().copied())
            .unwrap_or_else(|| format!("there is: {}", list_names(names.iter().copied())));
        let message = format!("`{option} {path}`: there is no stage `{}`", keys[1]);
        out.push_hint("override", NOWHERE, message, Some(hint));
        return None;
    }
    if keys.get(2).is_some_and(|key| !stage_keys.contains(key)) {
        keys.insert(2, "params");
    }
    Some(keys)
}

fn names_of(node: &Node) -> Vec<&str> {
    match &node.data {
        Data::Map(entries) => entries.iter().map(|e| e.key.text.as_str()).collect(),
        _ => Vec::new(),
    }
}

fn set_path(root: &mut Node, path: &str, value: Node, stage_keys: &[&str], out: &mut Diagnostics) {
    let Some(keys) = segments(root, path, "--set", stage_keys, out) else { return };
    let mut node = root;
    for key in keys {
        if node.data == Data::Null {
            node.data = Data::Map(Vec::new());
        }
        let kind = node.kind();
        let Data::Map(entries) = &mut node.data else {
            let message = format!("`--set {path}`: `{key}` cannot be set inside {kind}");
            out.push("override", NOWHERE, message);
            return;
        };
        let index = entries.iter().position(|e| e.key.text == key).unwrap_or_else(|| {
            let key = Key { text: key.to_owned(), at: NOWHERE.0, length: NOWHERE.1 };
            entries.push(Entry { key, value: Node::default() });
            entries.len() - 1
        });
        node = &mut entries[index].value;
    }
    *node = value;
}

fn unset_path(root: &mut Node, path: &str, stage_keys: &[&str], out: &mut Diagnostics) {
    let Some(keys) = segments(root, path, "--unset", stage_keys, out) else { return };
    let (last, parents) = match keys.split_last() {
        Some((last, parents)) => (*last, parents),
        None => return,
    };
    let mut node = Some(root);
    for key in parents {
        node = node.and_then(|node| child(node, key));
    }
    let names: Vec<String> =
        node.as_deref().map(|n| names_of(n).into_iter().map(str::to_owned).collect()).unwrap_or_default();
    if let Some(Data::Map(entries)) = node.map(|node| &mut node.data)
        && let Some(index) = entries.iter().position(|e| e.key.text == last)
    {
        entries.remove(index);
        return;
    }
    let hint = did_you_mean(last, names.iter().map(String::as_str));
    out.push_hint("override", NOWHERE, format!("`--unset {path}`: there is no such key in the file"), hint);
}

fn child<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.data {
        Data::Map(entries) => entries.iter_mut().find(|e| e.key.text == key).map(|e| &mut e.value),
        _ => None,
    }
}
