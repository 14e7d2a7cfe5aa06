//! What makes a key, and what never does.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::plan::ProviderFacts;
use crate::plan::ingredients::{Surroundings, ingredients, key};
use crate::protocol::Port;
use crate::spec::types::{Spanned, Position, Reference, Resources, Run, Stage, Work};
use crate::store::types::ArtifactRef;

fn at<T>(value: T, line: u32) -> Spanned<T> {
    At { value, at: Position { line, column: 1 } }
}

fn port(name: &str, artifact_type: &str) -> Port {
    Port { name: name.into(), types: vec![artifact_type.into()], optional: false, summary: String::new() }
}

/// A command stage with something of everything.
pub fn stage() -> Stage {
    Stage {
        name: at("lengths".into(), 3),
        work: Work::Command {
            run: Run::Script("wc {inputs.corpus} > {outputs.table}".into()),
            uses: vec![at("count.py".into(), 9)],
        },
        inputs: BTreeMap::from([("corpus".into(), at(Reference::Source("plays".into()), 4))]),
        input_ports: vec![port("corpus", "any")],
        outputs: vec![port("table", "table")],
        params: BTreeMap::from([
            ("rate".into(), at(json!(1e-3), 5)),
            ("model".into(), at(json!({ "layers": 2 }), 6)),
        ]),
        env: BTreeMap::from([("LANG".into(), "C".into())]),
        exact: false,
        resources: Resources::default(),
        retries: 0,
        timeout: None,
    }
}

fn artifact(text: &str) -> ArtifactRef {
    ArtifactRef { digest: Digest::of_bytes(text.as_bytes()), tree: false, size: text.len() as u64 }
}

fn around<'a>() -> Surroundings<'a> {
    Surroundings {
        inputs: BTreeMap::from([("corpus".into(), artifact("to be"))]),
        uses: BTreeMap::from([("count.py".into(), artifact("print"))]),
        provider: None,
        threads: 2,
    }
}

fn key_of(stage: &Stage) -> Digest {
    key(&ingredients(stage, &around()))
}

#[test]
fn the_ingredients_of_a_command_are_these() {
    let corpus = Digest::of_bytes(b"to be").to_string();
    let count = Digest::of_bytes(b"print").to_string();
    assert_eq!(
        ingredients(&stage(), &around()),
        json!({
            "format": "kiln.ingredients/1",
            "kind": "command",
            "params": { "model": { "layers": 2 }, "rate": 0.001 },
            "inputs": { "corpus": corpus },
            "env": { "LANG": "C" },
            "run": "wc {inputs.corpus} > {outputs.table}",
            "uses": { "count.py": count },
            "outputs": { "table": "table" },
        })
    );
}

#[test]
fn the_ingredients_of_a_kind_hold_its_revision_and_no_command() {
    let mut kind = stage();
    kind.work = Work::Kind { kind: "pretrain".into(), revision: 3, provider: 0 };
    let found = ingredients(&kind, &around());
    assert_eq!((&found["kind"], &found["revision"]), (&json!("pretrain"), &json!(3)));
    assert!(found.get("run").is_none() && found.get("numerics").is_none());
}

#[test]
fn a_folder_and_a_file_of_one_digest_differ() {
    let mut folder = around();
    folder.inputs.values_mut().for_each(|a| a.tree = true);
    assert_ne!(key(&ingredients(&stage(), &folder)), key_of(&stage()));
}

#[test]
fn exact_stages_hold_the_numerics_and_the_thread_count() {
    let facts =
        ProviderFacts { program: None, numerics: BTreeMap::from([("backend".into(), "flex".into())]) };
    let mut exact = stage();
    exact.exact = true;
    exact.work = Work::Kind { kind: "pretrain".into(), revision: 3, provider: 0 };
    let with = |threads| ingredients(&exact, &Surroundings { provider: Some(&facts), threads, ..around() });
    assert_eq!(with(2)["numerics"], json!({ "backend": "flex", "threads": "2" }));
    assert_ne!(key(&with(2)), key(&with(3)));
}

/// A change to a stage.
type Edit = fn(&mut Stage);

#[test]
fn each_of_these_changes_the_key() {
    let edits: [(&str, Edit); 9] = [
        ("kind", |s| s.work = Work::Kind { kind: "x".into(), revision: 1, provider: 0 }),
        ("a changed param", |s| s.params.get_mut("rate").unwrap().value = json!(2e-3)),
        ("a nested param", |s| s.params.get_mut("model").unwrap().value = json!({ "layers": 3 })),
        ("a removed param", |s| drop(s.params.remove("rate"))),
        ("env", |s| drop(s.env.insert("LANG".into(), "de".into()))),
        ("the name of an output", |s| s.outputs[0].name = "rows".into()),
        ("the type of an output", |s| s.outputs[0].types = vec!["any".into()]),
        ("the command", |s| s.work = Work::Command { run: Run::Script("wc".into()), uses: vec![] }),
        ("exact", |s| s.exact = true),
    ];
    for (what, edit) in edits {
        let mut changed = stage();
        edit(&mut changed);
        assert_ne!(key_of(&changed), key_of(&stage()), "{what}");
    }
    let exec = |words: &[&str]| Run::Exec(words.iter().map(|w| (*w).to_owned()).collect());
    let keys = [exec(&["a", "b c"]), exec(&["a b", "c"]), Run::Script("a b c".into())].map(|run| {
        let mut changed = stage();
        changed.work = Work::Command { run, uses: vec![] };
        key_of(&changed)
    });
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i32>().prop_map(Value::from), (-1e9..1e9f64).prop_map(Value::from)]
}

proptest! {
    #[test]
    fn names_lines_resources_and_retries_never_change_the_key(
        name in "[a-z]{1,8}",
        source in "[a-z]{1,8}",
        line in 0u32..1000,
        (cpus, memory, retries, seconds) in (any::<u32>(), any::<u64>(), any::<u32>(), any::<u32>()),
        threads in any::<u32>(),
    ) {
        let mut other = stage();
        other.name = at(name, line);
        other.inputs.insert("corpus".into(), at(Reference::Source(source), line));
        other.params.values_mut().for_each(|p| p.at.line = line);
        other.resources = Resources { cpus, memory };
        other.retries = retries;
        other.timeout = Some(Duration::from_secs(seconds.into()));
        let around = Surroundings { threads, ..around() };
        prop_assert_eq!(key(&ingredients(&other, &around)), key_of(&stage()));
    }

    #[test]
    fn the_spelling_of_a_number_never_changes_the_key(x in -1_000_000i64..1_000_000) {
        let with = |value: Value| {
            let mut s = stage();
            s.params.insert("n".into(), at(value, 1));
            key_of(&s)
        };
        prop_assert_eq!(with(json!(x)), with(json!(x as f64)));
    }

    #[test]
    fn other_params_always_give_another_key(a in number(), b in number()) {
        let with = |value: &Value| {
            let mut s = stage();
            s.params.insert("n".into(), at(value.clone(), 1));
            key_of(&s)
        };
        prop_assert_eq!(with(&a) == with(&b), a.as_f64() == b.as_f64());
    }
}
