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
            "stages.base.steps",
            "pipeline.x=1",
            "stages.base.steps=[",
            "stages..x=1",
            "stages.base.steps=many",
        ];
        let unset = ["stages.base.warmup", "params.sed", "stages.nope.x"];
        insta::assert_snapshot!(with_set(&set, &unset).unwrap_err(), @r"
        override 0:0 `--set stages.bas.steps`: there is no stage `bas` (did you mean `base`?)
        override 0:0 `--set stages.base.steps` has no `=`: write `--set path=value`
        override 0:0 `--set pipeline.x`: `x` cannot be set inside a string
        override 0:0 `--set stages.base.steps=[`: unclosed bracket '['
        override 0:0 `--set stages..x` is no path such as `stages.sft.steps`
        override 0:0 `--unset stages.base.warmup`: there is no such key in the file
        override 0:0 `--unset params.sed`: there is no such key in the file (did you mean `seed`?)
        override 0:0 `--unset stages.nope.x`: there is no stage `nope` (there is: tok, base, lengths)
        unknown-key 0:0 a pipeline file has no key `foo` (there is: pipeline, params, sources, stages, providers)
        unknown-key 0:0 stage `base` (kind pretrain) has no parameter `stepz` (did you mean `steps`?)
        type 0:0 parameter `steps` of stage `base` (kind pretrain) must be a whole number, not a string `many`
        unused-param 0:0 no stage takes the pipeline's parameter `seedd` (did you mean `seed`?)
    ");
    }
}
