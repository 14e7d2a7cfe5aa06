//! What makes a key, and what never does: the key is fuzzed from both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::cas::types::ArtifactRef;
use crate::digest::Digest;
use crate::plan::key_inputs::{KeyInputs, key, platform};
use crate::protocol::Port;
use crate::provider::ProviderFacts;
use crate::spec::types::{
    EnvValue, Position, Reference, Resources, Run, Sandbox, Span, Spanned, Stage, Work,
};

fn spanned<T>(value: T, line: u32) -> Spanned<T> {
    Spanned { value, span: Span::on_line(Position { line, column: 1 }, 1) }
}

fn port(name: &str, artifact_type: &str) -> Port {
    Port { name: name.into(), types: vec![artifact_type.into()], optional: false, summary: String::new() }
}

/// A command stage with something of everything.
pub fn stage() -> Stage {
    Stage {
        work: Work::Command {
            run: Run::Script("wc {inputs.corpus} > {outputs.table}".into()),
            shell: vec!["bash".into(), "-eo".into(), "pipefail".into()],
            uses: vec![spanned("count.py".into(), 9)],
            cwd: Some(spanned("work".into(), 10)),
            sandbox: Sandbox::Folder,
        },
        inputs: BTreeMap::from([("corpus".into(), spanned(Reference::Source("plays".into()), 4))]),
        places: BTreeMap::from([("corpus".into(), spanned("data/plays".into(), 4))]),
        input_ports: vec![port("corpus", "any")],
        outputs: vec![port("table", "table")],
        output_paths: BTreeMap::from([("table".into(), spanned("table.csv".into(), 11))]),
        params: BTreeMap::from([
            ("rate".into(), spanned(json!("1e-3"), 5)),
            ("model".into(), spanned(json!("{\"layers\":2}"), 6)),
        ]),
        env: BTreeMap::from([
            ("LANG".into(), EnvValue::Literal("C".into())),
            ("CACHE".into(), EnvValue::Pass("XDG_CACHE_HOME".into())),
            ("TOKEN".into(), EnvValue::Secret("HF_TOKEN".into())),
        ]),
        resources: Resources::default(),
        ..Stage::named(spanned("lengths".into(), 3))
    }
}

/// A stage of a kind, with `cache: exact`.
fn kind() -> Stage {
    Stage {
        work: Work::Kind { kind: "pretrain".into(), revision: 3, provider: 0 },
        params: BTreeMap::from([
            ("rate".into(), spanned(json!(1e-3), 5)),
            ("seed".into(), spanned(json!(u64::MAX), 6)),
        ]),
        exact: true,
        places: BTreeMap::new(),
        output_paths: BTreeMap::new(),
        ..stage()
    }
}

fn artifact(text: &str) -> ArtifactRef {
    let digest = Digest::of_bytes(text.as_bytes());
    ArtifactRef { digest, tree: false, executable: false, size: text.len() as u64 }
}

fn provider() -> ProviderFacts {
    let numerics = BTreeMap::from([("backend".into(), "flex".into()), ("device".into(), "cpu".into())]);
    ProviderFacts { name: "kiln-stages".into(), program: None, numerics }
}

/// All that a key is made of, so that a test can change one thing.
#[derive(Debug, Clone)]
struct Case {
    stage: Stage,
    inputs: BTreeMap<String, ArtifactRef>,
    uses: BTreeMap<String, ArtifactRef>,
    provider: ProviderFacts,
    threads: u32,
    platform: String,
}

impl Case {
    fn of(stage: Stage) -> Self {
        Self {
            stage,
            inputs: BTreeMap::from([("corpus".into(), artifact("to be"))]),
            uses: BTreeMap::from([("count.py".into(), artifact("print"))]),
            provider: provider(),
            threads: 2,
            platform: "linux-x86_64".into(),
        }
    }

    fn key_inputs(&self) -> Value {
        let Self { stage, inputs, uses, provider, threads, platform } = self.clone();
        let is_kind = matches!(stage.work, Work::Kind { .. });
        let uses = if is_kind { BTreeMap::new() } else { uses };
        KeyInputs { inputs, uses, provider: is_kind.then_some(&provider), threads, platform }.to_json(&stage)
    }

    fn key(&self) -> Digest {
        key(&self.key_inputs())
    }

    fn input(&mut self) -> &mut ArtifactRef {
        self.inputs.get_mut("corpus").unwrap()
    }

    fn used(&mut self) -> &mut ArtifactRef {
        self.uses.get_mut("count.py").unwrap()
    }

    fn param(&mut self, name: &str) -> &mut Value {
        &mut self.stage.params.get_mut(name).unwrap().value
    }
}

#[test]
fn the_key_inputs_of_a_command_are_these() {
    let corpus = Digest::of_bytes(b"to be").to_string();
    let count = Digest::of_bytes(b"print");
    let mut case = Case::of(stage());
    case.used().executable = true;
    assert_eq!(
        case.key_inputs(),
        json!({
            "format": "kiln.key/2",
            "kind": "command",
            "params": { "model": "{\"layers\":2}", "rate": "1e-3" },
            "inputs": { "corpus": corpus },
            "outputs": { "table": "table" },
            "env": { "LANG": "C", "CACHE": { "from": "XDG_CACHE_HOME" }, "TOKEN": { "from": "HF_TOKEN" } },
            "environment_policy": 1,
            "run": "wc {inputs.corpus} > {outputs.table}",
            "shell": ["bash", "-eo", "pipefail"],
            "uses": { "count.py": format!("{count}*") },
            "at": { "corpus": "data/plays" },
            "path": { "table": "table.csv" },
            "cwd": "work",
            "platform": "linux-x86_64",
        })
    );
    assert!(platform().starts_with("linux-"));
}

#[test]
fn the_key_inputs_of_a_kind_are_these() {
    let corpus = Digest::of_bytes(b"to be").to_string();
    let mut case = Case::of(kind());
    case.stage.env.clear();
    assert_eq!(
        case.key_inputs(),
        json!({
            "format": "kiln.key/2",
            "provider": "kiln-stages",
            "kind": "pretrain",
            "revision": 3,
            "params": { "rate": 0.001, "seed": { "$int": "18446744073709551615" } },
            "inputs": { "corpus": corpus },
            "outputs": { "table": "table" },
            "env": {},
            "numerics": { "backend": "flex", "device": "cpu", "threads": 2 },
        })
    );
}

/// A change to what makes a key.
type Edit = fn(&mut Case);

/// Changes that every stage must see.
const OF_ALL: [(&str, Edit); 15] = [
    ("the kind of work", |c| {
        c.stage.work = Work::Kind { kind: "other".into(), revision: 3, provider: 0 };
    }),
    ("the bytes of an input", |c| *c.input() = artifact("not to be")),
    ("the executable bit of an input", |c| c.input().executable = true),
    ("a folder in place of a file", |c| c.input().tree = true),
    ("the name of an input", |c| {
        let known = c.inputs.remove("corpus").unwrap();
        c.inputs.insert("text".into(), known);
    }),
    ("another input", |c| _ = c.inputs.insert("more".into(), artifact("more"))),
    ("a changed param", |c| *c.param("rate") = json!(2e-3)),
    ("a param of another type", |c| *c.param("rate") = json!(["1e-3"])),
    ("a removed param", |c| _ = c.stage.params.remove("rate")),
    ("an added param", |c| _ = c.stage.params.insert("more".into(), spanned(Value::Null, 1))),
    ("the name of an output", |c| c.stage.outputs[0].name = "rows".into()),
    ("the type of an output", |c| c.stage.outputs[0].types = vec!["any".into()]),
    ("another output", |c| c.stage.outputs.push(port("log", "any"))),
    ("a literal variable", |c| _ = c.stage.env.insert("LANG".into(), EnvValue::Literal("de".into()))),
    ("which variable is passed", |c| _ = c.stage.env.insert("CACHE".into(), EnvValue::Pass("HOME".into()))),
];

fn command(c: &mut Case) -> (&mut Run, &mut Vec<String>, &mut Option<Spanned<String>>, &mut Sandbox) {
    match &mut c.stage.work {
        Work::Command { run, shell, cwd, sandbox, .. } => (run, shell, cwd, sandbox),
        _ => panic!("a command"),
    }
}

/// Changes that a command must see.
const OF_COMMANDS: [(&str, Edit); 15] = [
    ("the script", |c| *command(c).0 = Run::Script("wc".into())),
    ("a list in place of a script", |c| {
        *command(c).0 = Run::Exec(vec!["wc {inputs.corpus} > {outputs.table}".into()]);
    }),
    ("the shell", |c| *command(c).1 = vec!["sh".into(), "-e".into()]),
    ("the folder that it starts in", |c| *command(c).2 = Some(spanned("elsewhere".into(), 1))),
    ("no folder to start in", |c| *command(c).2 = None),
    ("sandbox: off", |c| *command(c).3 = Sandbox::Off),
    ("the bytes of a used file", |c| *c.used() = artifact("print!")),
    ("the executable bit of a used file", |c| c.used().executable = true),
    ("the path of a used file", |c| {
        let known = c.uses.remove("count.py").unwrap();
        c.uses.insert("lib/count.py".into(), known);
    }),
    ("another used file", |c| _ = c.uses.insert("more.py".into(), artifact("more"))),
    ("the place of an input", |c| _ = c.stage.places.insert("corpus".into(), spanned("x".into(), 1))),
    ("the path of an output", |c| _ = c.stage.output_paths.insert("table".into(), spanned("x".into(), 1))),
    ("the platform", |c| c.platform = "linux-aarch64".into()),
    ("platform: any", |c| c.stage.any_platform = true),
    ("cache: exact", |c| c.stage.exact = true),
];

/// Changes that a stage of a kind with `cache: exact` must see.
const OF_KINDS: [(&str, Edit); 6] = [
    ("the revision", |c| c.stage.work = Work::Kind { kind: "pretrain".into(), revision: 4, provider: 0 }),
    ("the provider's name", |c| c.provider.name = "other".into()),
    ("the numerics", |c| _ = c.provider.numerics.insert("device".into(), "cuda".into())),
    ("the threads", |c| c.threads = 3),
    ("cache: normal", |c| c.stage.exact = false),
    ("a neighbour beyond 2^53", |c| *c.param("seed") = json!(u64::MAX - 1)),
];

/// Changes that no stage may see.
const OF_NONE: [(&str, Edit); 14] = [
    ("the name of the stage", |c| c.stage.name = spanned("renamed".into(), 99)),
    ("the name of a source", |c| {
        c.stage.inputs.insert("corpus".into(), spanned(Reference::Source("renamed".into()), 99));
    }),
    ("a stage in place of a source", |c| {
        let reference = Reference::Stage { stage: "other".into(), output: Some("x".into()) };
        c.stage.inputs.insert("corpus".into(), spanned(reference, 99));
    }),
    ("lines", |c| c.stage.params.values_mut().for_each(|p| p.span.start.line += 10)),
    ("summaries and optional inputs", |c| {
        c.stage.outputs[0].summary = "for people".into();
        c.stage.input_ports[0].optional = true;
    }),
    ("retries", |c| c.stage.retries = 5),
    ("timeout", |c| c.stage.timeout = Some(Duration::from_secs(5))),
    ("linger", |c| c.stage.linger = Some(Duration::from_secs(5))),
    ("resources", |c| {
        c.stage.resources =
            Resources { cpus: 7, memory: 1 << 30, gpus: 1, time: Some(Duration::from_secs(1)) }
    }),
    ("the size of an input", |c| c.input().size += 1),
    ("the program of the provider", |c| c.provider.program = Some(Digest::of_bytes(b"rebuilt"))),
    ("a passed variable that becomes a secret", |c| {
        c.stage.env.insert("CACHE".into(), EnvValue::Secret("XDG_CACHE_HOME".into()));
    }),
    ("how `uses` is written", |c| {
        if let Work::Command { uses, .. } = &mut c.stage.work {
            *uses = vec![spanned("*.py".into(), 1), spanned("count.py".into(), 2)];
        }
    }),
    ("strict in place of folder", |c| {
        if let Work::Command { sandbox, .. } = &mut c.stage.work
            && *sandbox == Sandbox::Folder
        {
            *sandbox = Sandbox::Strict;
        }
    }),
];

/// A stage of a kind or a command, and all changes that it must see.
fn stage_and_edits(kinds: bool) -> (Stage, Vec<(&'static str, Edit)>) {
    let (stage, own) = if kinds { (kind(), &OF_KINDS[..]) } else { (stage(), &OF_COMMANDS[..]) };
    (stage, [&OF_ALL[..], own].concat())
}

#[test]
fn each_declared_thing_changes_the_key_and_no_two_changes_give_one_key() {
    for (stage, edits) in [false, true].map(stage_and_edits) {
        let mut keys = BTreeSet::from([Case::of(stage.clone()).key()]);
        for (what, edit) in edits {
            let mut case = Case::of(stage.clone());
            edit(&mut case);
            assert!(keys.insert(case.key()), "{what}");
        }
    }
}

#[test]
fn what_a_stage_does_not_depend_on_leaves_its_key_alone() {
    let keys = |edit: Edit, base: &Case| {
        let mut case = base.clone();
        edit(&mut case);
        (case.key(), base.key())
    };
    let mut loose = Case::of(kind());
    loose.stage.exact = false;
    for edit in [|c: &mut Case| c.threads = 9, |c: &mut Case| c.provider.numerics.clear()] {
        let (changed, base) = keys(edit, &loose);
        assert_eq!(changed, base);
    }
    let mut list = Case::of(stage());
    *command(&mut list).0 = Run::Exec(vec!["wc".into()]);
    let (changed, base) = keys(|c| command(c).1.clear(), &list);
    assert_eq!(changed, base, "no shell has a hand in a list");
    let mut anywhere = Case::of(stage());
    anywhere.stage.any_platform = true;
    let (changed, base) = keys(|c| c.platform.clear(), &anywhere);
    assert_eq!(changed, base);
}

#[test]
fn words_of_a_list_are_told_apart() {
    let with = |words: &[&str]| {
        let mut case = Case::of(stage());
        *command(&mut case).0 = Run::Exec(words.iter().map(|w| (*w).to_owned()).collect());
        case.key()
    };
    assert_ne!(with(&["a", "b c"]), with(&["a b", "c"]));
}

#[test]
fn a_key_can_be_checked_by_any_reader_of_json() {
    let case = Case::of(kind());
    let text = serde_json::to_string_pretty(&case.key_inputs()).unwrap();
    assert_eq!(Digest::of_json(&serde_json::from_str(&text).unwrap()), case.key());
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-9i64..9).prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn any_edits_change_the_key_if_and_only_if_one_of_them_is_declared(
        kinds in any::<bool>(),
        declared in prop::option::of(any::<prop::sample::Index>()),
        others in prop::collection::vec(select(OF_NONE.to_vec()), 0..6),
        line in 0u32..1000,
    ) {
        let (stage, edits) = stage_and_edits(kinds);
        let base = Case::of(stage);
        let mut case = base.clone();
        case.stage.name.span.start.line = line;
        others.iter().for_each(|(_, edit)| edit(&mut case));
        prop_assert_eq!(case.key(), base.key());
        if let Some(index) = declared {
            let (what, edit) = edits[index.index(edits.len())];
            edit(&mut case);
            prop_assert_ne!(case.key(), base.key(), "{}", what);
        }
    }

    #[test]
    fn the_spelling_of_a_number_never_changes_the_key_of_a_kind(x in -(1i64 << 53)..1 << 53) {
        let with = |value: Value| {
            let mut case = Case::of(kind());
            *case.param("seed") = value;
            case.key()
        };
        prop_assert_eq!(with(json!(x)), with(json!(x as f64)));
    }

    #[test]
    fn other_params_always_give_another_key(a in number(), b in number()) {
        let with = |value: &Value| {
            let mut case = Case::of(kind());
            *case.param("seed") = value.clone();
            case.key()
        };
        let exact = |v: &Value| v.as_i64().map(i128::from).or(v.as_u64().map(i128::from));
        let equal = match (exact(&a), exact(&b)) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        };
        prop_assert_eq!(with(&a) == with(&b), equal);
    }
}
