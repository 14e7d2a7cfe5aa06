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
pub fn apply(
    root: &mut Node,
    set: &[String],
    unset: &[String],
    known: &StageKeys<'_>,
    out: &mut Diagnostics,
) {
    // A new `run` first: it says which names there may be.
    let is_run = |text: &&String| text.split_once('=').is_some_and(|(path, _)| path.trim().ends_with(".run"));
    for text in set.iter().filter(is_run).chain(set.iter().filter(|text| !is_run(text))) {
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
    // A quoted text is what it holds, and a list is the same however it is spaced, as in a file.
    if !matches!(node.data, Data::String(_) | Data::Seq(_) | Data::Map(_)) {
        node.spelling = Some(text.into());
    }
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
    if root.get(section).is_none() && root.get("stages").and_then(|stages| stages.get(section)).is_some() {
        let message = format!("`{option} {path}`: the file has no key `{section}`");
        report(message, Some(format!("did you mean `stages.{path}`?")), out);
        return None;
    }
    if !["stages", "sources"].contains(&section) || keys.len() < 2 {
        return Some(keys);
    }
    let all = root.get(section);
    if all.and_then(|all| all.get(keys[1])).is_none() {
        let names = all.map(names_of).unwrap_or_default();
        let message =
            format!("`{option} {path}`: there is no {} `{}`", section.trim_end_matches('s'), keys[1]);
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
fn check_command(
    root: &Node,
    path: &str,
    keys: &[&str],
    known: &StageKeys<'_>,
    out: &mut Diagnostics,
) -> bool {
    let ["stages", stage, section, name, inner @ ..] = keys else { return true };
    let Some(node) = root.get("stages").and_then(|stages| stages.get(stage)) else { return true };
    if !["inputs", "outputs", "params"].contains(section) {
        return true;
    }
    let Some(named) = (known.names)(node, section, name) else { return true };
    let there = node.get(section).map(names_of).unwrap_or_default();
    if !named && !there.contains(name) {
        let shared =
            (*section == "params").then(|| root.get("params").map(names_of)).flatten().unwrap_or_default();
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
    let keys = if *section == "params" { inner } else { &[] };
    check_inside(node.get(section).and_then(|section| section.get(name)), path, keys, out)
}

/// Whether a path into a mapping of a param names what is there.
fn check_inside(mut parent: Option<&Node>, path: &str, keys: &[&str], out: &mut Diagnostics) -> bool {
    for key in keys {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::spec::testing::{Fake, GOOD, load_with, options, short};
    use crate::spec::types::Pipeline;

    fn with_set(set: &[&str], unset: &[&str]) -> Result<Pipeline, String> {
        let mut options = options();
        options.set = set.iter().map(|s| (*s).to_owned()).collect();
        options.unset = unset.iter().map(|s| (*s).to_owned()).collect();
        let loaded = load_with(GOOD, &options, &mut Fake::default());
        loaded.map(|graph| graph.pipeline().clone()).map_err(|all| short(&all))
    }

    #[test]
    fn set_and_unset_change_what_is_written() {
        let pipeline = with_set(
            &[
                "stages.base.learning_rate=1e-5",
                "stages.base.params.model.dropout=0.5",
                "params.seed=2",
                "stages.tok.retries=4",
                "stages.base.betas=[0.8, 0.9]",
            ],
            &["stages.base.steps"],
        )
        .unwrap();
        let base = pipeline.stage("base").unwrap().params_json();
        assert_eq!(base["learning_rate"], json!(1e-5));
        assert_eq!(base["model"], json!({"preset": "small", "layers": null, "dropout": 0.5}));
        assert_eq!(
            (&base["seed"], &base["steps"], &base["betas"]),
            (&json!(2), &json!(100), &json!([0.8, 0.9]))
        );
        assert_eq!(pipeline.stage("tok").unwrap().retries, 4);
        assert_eq!(pipeline.stage("base").unwrap().params["learning_rate"].span.start.line, 0);
    }

    #[test]
    fn set_and_unset_of_what_is_not_there_are_errors() {
        let set = [
            "stages.bas.steps=1",
            "stages.base.stepz=1",
            "params.seedd=1",
            "foo.bar=1",
            "base.steps=1",
            "stages.base.steps",
            "pipeline.x=1",
            "stages.base.steps=[",
            "stages..x=1",
            "stages.base.steps=many",
        ];
        let unset = ["stages.base.warmup", "params.sed", "stages.nope.x"];
        insta::assert_snapshot!(with_set(&set, &unset).unwrap_err(), @r#"
        override 0:0 `--set stages.bas.steps`: there is no stage `bas` (did you mean `base`?)
        override 0:0 `--set base.steps`: the file has no key `base` (did you mean `stages.base.steps`?)
        override 0:0 `--set stages.base.steps` has no `=`: write `--set path=value`
        override 0:0 `--set pipeline.x`: `x` cannot be set inside a string
        override 0:0 `--set stages..x` is no path such as `stages.sft.steps`
        override 0:0 `--unset stages.base.warmup`: there is no such key in the file
        override 0:0 `--unset params.sed`: there is no such key in the file (did you mean `seed`?)
        override 0:0 `--unset stages.nope.x`: there is no stage `nope` (there is: tok, base, lengths)
        unknown-key 0:0 a pipeline file has no key `foo` (there is: pipeline, params, sources, stages, providers, ignore, remotes, signatures, executors, executor)
        unknown-key 0:0 stage `base` (kind pretrain) has no parameter `stepz` (did you mean `steps`?)
        type 0:0 parameter `steps` of stage `base` (kind pretrain) must be a whole number, not a string `many`
        unused-param 0:0 no stage takes the pipeline's parameter `seedd` (did you mean `seed`?)
    "#);
    }
}
