//! Texts that people write or read: pipelines, the file of a user, lock files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::digest::{Digest, canonical_json};
use crate::graph;
use crate::protocol::Description;
use crate::report::lockfile::{LockFile, check_version, merge, stanza, write_stanzas};
use crate::spec::document::yaml;
use crate::spec::remotes::read_user_file;
use crate::spec::types::Work;
use crate::spec::{LoadOptions, Providers, command, diagnostic, load_text};

/// A value that no shell may take for code.
const VALUE: &str = "a'b\"c $(d) `e` \\ \n;#";

/// Gives one description, or none.
pub struct Fixed(pub Option<Description>);

impl Providers for Fixed {
    fn describe(&mut self, _: Option<&Path>) -> Result<Description, String> {
        self.0.clone().ok_or_else(|| "there is none".to_owned())
    }
}

/// A pipeline file, with a provider of one kind.
pub fn pipeline(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(node) = yaml::parse(text) {
        // JSON is YAML, and says the same.
        let value = node.to_json();
        if !has_long_key(&value) {
            let again = yaml::parse(&value.to_string()).map(|node| node.to_json());
            assert!(again.as_ref().is_ok_and(|again| is_same(again, &value)), "{again:?} of {value}");
        }
    }
    load(text, provider());
}

/// Whether two values say the same. A float that is a whole number may be spelt as that number or as one near it.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, value)| other.get(key).is_some_and(|other| is_same(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            one.as_f64() == other.as_f64()
        }
        (one, other) => one == other,
    }
}

/// YAML has no key of more than 1024 characters on one line.
fn has_long_key(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.iter().any(|(key, value)| json!(key).to_string().len() > 1000 || has_long_key(value))
        }
        Value::Array(items) => items.iter().any(has_long_key),
        _ => false,
    }
}

/// Loads a pipeline as `kiln` does, and fills in its commands.
pub fn load(text: &str, description: Option<Description>) {
    let options = LoadOptions {
        root: PathBuf::from("/nonexistent/project"),
        store: PathBuf::from("/nonexistent/project/artifacts"),
        environment: [("HOME".to_owned(), "/home/x".to_owned())].into(),
        ..LoadOptions::default()
    };
    let file = Path::new("kiln.yaml");
    let loaded = load_text(file, text.to_owned(), &options, &mut Fixed(description));
    match graph::build(loaded) {
        Err(errors) => {
            assert!(!errors.is_empty());
            let breaks = |c: &char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
            let lines = text.chars().filter(breaks).count() + 2;
            assert!(errors.iter().all(|error| error.span.start.line as usize <= lines));
            let shown = diagnostic::render(&errors);
            assert!(!shown.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "{shown:?}");
            let _ = diagnostic::to_json(&errors);
        }
        Ok(graph) => graph.pipeline().stages.iter().for_each(|stage| {
            let Work::Command { run, shell, .. } = &stage.work else { return };
            let values = |names: Vec<&String>| names.into_iter().map(|n| (n.clone(), VALUE.into())).collect();
            let values = command::Values {
                inputs: values(stage.inputs.keys().collect()),
                outputs: values(stage.outputs.iter().map(|port| &port.name).collect()),
                params: values(stage.params.keys().collect()),
                checkpoint: VALUE.into(),
            };
            // What was accepted can be filled in.
            let filled = command::expand(run, shell, &values);
            assert!(filled.is_ok(), "{filled:?}");
        }),
    }
}

fn provider() -> Option<Description> {
    let port = |name: &str| json!({ "name": name, "types": ["any"] });
    let whole = json!({ "type": "integer", "minimum": 0, "default": 1 });
    let params = json!({ "type": "object", "additionalProperties": false, "properties": {
        "steps": whole, "rate": { "type": "number", "default": 0.5 }, "name": { "type": "string", "default": "x" },
        "sizes": { "type": "array", "items": whole, "default": [] },
        "choice": { "enum": ["a", "b"], "default": "a" },
    }});
    let kind = json!({ "name": "train", "revision": 1, "summary": "", "inputs": [port("i")],
        "outputs": [port("o")], "params": params });
    serde_json::from_value(json!({ "protocol": 1, "provider": "test", "version": "1", "kinds": [kind] })).ok()
}

/// The file of a user.
pub fn user_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = Path::new("config.yaml");
    match read_user_file(file, text) {
        Ok(user) => assert_eq!(read_user_file(file, &user.to_text()).as_ref(), Ok(&user)),
        Err(errors) => assert!(!diagnostic::render(&errors).is_empty()),
    }
}

/// A lock file; three of them that are merged; a stanza that is made of any values.
pub fn lock_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = (LockFile::is_ours(text), check_version(Path::new("x"), text).is_ok());
    let read = |text: &str| LockFile::read(PathBuf::new(), text.to_owned());
    let _ = read(text);
    // The end of a line may be that of another system, and is ours when it is written.
    let text = &text.replace('\r', "");
    let lock = read(text);
    let _ = lock.keys().count();
    let again = read(&write_stanzas(lock.stanzas.iter()));
    assert_eq!(again.stanzas, lock.stanzas);
    let same = merge(&again, &again, &again);
    assert_eq!((read(&same.text).stanzas, same.conflicts.len()), (lock.stanzas.clone(), 0));
    let mut parts = text.splitn(3, "\n---\n").map(read);
    let mut next = || parts.next().unwrap_or_default();
    let (base, ours, theirs) = (next(), next(), next());
    let merged = merge(&base, &ours, &theirs);
    let names = |lock: &LockFile| lock.stanzas.keys().cloned().collect::<Vec<_>>();
    assert!(
        names(&read(&merged.text)).iter().all(|n| names(&ours).contains(n) || names(&theirs).contains(n))
    );
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        // A value of params, and one of a command that is a text.
        let key_inputs = json!({ "kind": "command", "params": { "p": value }, "run": text });
        let key = Digest::of_json(&key_inputs);
        let written = stanza::write(key, &key_inputs, &BTreeMap::new());
        let fields = stanza::fields(Some(key), &key_inputs);
        let read = stanza::read(&written);
        // A number has one spelling there, with or without a fraction.
        let is_same = |name, value| read.get(name).map(canonical_json) == Some(canonical_json(value));
        assert!(fields.iter().all(|(name, value)| is_same(name, value)), "{written}\n{read:?}");
    }
}
