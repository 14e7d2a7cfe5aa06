//! Tests of whole pipeline files.
//!
//! Purpose: what a file means, and what its errors look like.
//! Invariant: every error is checked with its place.
//! Must not know: how `spec` is divided.

use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use crate::spec::testing::{Fake, GOOD, errors, load, load_with, options, short, short_errors};
use crate::spec::types::{Pipeline, Reference, Run, Stage, Work};

fn stage<'p>(pipeline: &'p Pipeline, name: &str) -> &'p Stage {
    pipeline.stage(name).unwrap()
}

fn params(pipeline: &Pipeline, name: &str) -> Value {
    stage(pipeline, name).params_json()
}

/// A pipeline without positions.
fn content(text: &str) -> String {
    let graph = load(text).unwrap();
    let pipeline = graph.pipeline();
    let mut stages: Vec<_> = pipeline
        .stages
        .iter()
        .map(|s| {
            let inputs: Vec<_> = s.inputs.iter().map(|(k, v)| (k, &v.value)).collect();
            let Stage { work, outputs, env, exact, resources, retries, timeout, .. } = s;
            let params = params(pipeline, &s.name.value);
            let work = match work {
                Work::Kind { .. } => format!("{work:?}"),
                Work::Command { run, uses } => {
                    format!("{run:?} {:?}", uses.iter().map(|u| &u.value).collect::<Vec<_>>())
                }
            };
            let name = &s.name.value;
            format!("{name} {work} {inputs:?} {params} {outputs:?} {env:?} {exact} {resources:?} {retries} {timeout:?}")
        })
        .collect();
    stages.sort();
    let sources: Vec<_> = pipeline.sources.iter().map(|(k, s)| (k, &s.path, &s.artifact_type)).collect();
    format!("{} {sources:?} {stages:#?}", pipeline.name)
}

#[test]
fn a_good_file_becomes_a_typed_pipeline() {
    let graph = load(GOOD).unwrap();
    let pipeline = graph.pipeline();
    assert_eq!(pipeline.name, "assistant");
    assert_eq!(pipeline.sources["notes"].artifact_type, "any");
    let base = stage(pipeline, "base");
    assert_eq!(base.work, Work::Kind { kind: "pretrain".into(), revision: 3, provider: 0 });
    assert_eq!(base.inputs["corpus"].value, Reference::Source("plays".into()));
    assert_eq!((base.resources.cpus, base.resources.memory), (2, 4 << 30));
    assert_eq!((base.timeout.unwrap().as_secs(), base.retries, base.exact), (7200, 2, true));
    assert_eq!((base.params["steps"].at.line, base.params["steps"].at.column), (11, 48));
    assert_eq!(base.params["schedule"].at.line, 0);
    assert_eq!(base.params["seed"].at.line, 2);
    let lengths = stage(pipeline, "lengths");
    let Work::Command { run: Run::Shell(_), uses } = &lengths.work else { panic!("a shell command") };
    assert_eq!(uses[0].value, "count.py");
    assert_eq!(lengths.env["N"], "3");
    assert_eq!(params(pipeline, "lengths"), json!({"seed": 1337}));
    let outputs: Vec<_> = lengths.outputs.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(outputs, ["table", "log"]);
}

#[test]
fn defaults_are_filled_in_at_every_depth() {
    let graph = load(GOOD).unwrap();
    assert_eq!(
        params(graph.pipeline(), "base"),
        json!({
            "model": {"preset": "small", "layers": null, "dropout": 0.1},
            "learning_rate": 0.001, "steps": 2000, "schedule": "cosine", "warmup": null,
            "betas": [0.9, 0.95], "seed": 1337, "tags": [], "init": null,
        })
    );
}

#[test]
fn a_provider_is_asked_only_when_a_stage_wants_a_kind() {
    let mut fake = Fake::default();
    let text = "stages: { a: { run: 'echo > {outputs.o}', outputs: { o: any } } }";
    load_with(text, &options(), &mut fake).unwrap();
    assert!(fake.asked.is_empty());
    load_with(GOOD, &options(), &mut fake).unwrap();
    assert_eq!(fake.asked, [None]);
    // The file's own provider offers all kinds here.
    let mut fake = Fake::default();
    let graph = load_with(&format!("{GOOD}providers: [./mine, other]\n"), &options(), &mut fake).unwrap();
    assert_eq!(fake.asked, [Some("/project/./mine".into()), Some("other".into())]);
    let Work::Kind { provider, .. } = stage(graph.pipeline(), "tok").work else { panic!("a kind") };
    assert_eq!(graph.pipeline().providers[provider].to_str(), Some("/project/./mine"));
}

#[test]
fn a_provider_that_fails_is_one_error_and_not_one_a_stage() {
    let mut fake = Fake { fails: true, ..Fake::default() };
    let all = load_with(GOOD, &options(), &mut fake).unwrap_err();
    insta::assert_snapshot!(short(&all), @r"provider 7:16 no provider: build it with `make`");
}

#[test]
fn five_different_slips_give_five_messages_in_one_pass() {
    let text = "\
sources:
  plays: { path: plays.txt, type: corpus }
stages:
  tok: { kind: tokenizer, inputs: { corpus: plays } }
  base:
    kind: pretrain
    inputs: { tokenizer: tok, corpus: plays }
    params:
      learning_rat: 1e-5
      steps: 10
      steps: 20
  one: { kind: sft, inputs: { base: bse }, params: { epochs: 1 } }
  two: { kind: sft, inputs: { base: tok }, params: { epochs: 1 } }
  a: { kind: sft, inputs: { base: b }, params: { epochs: 1 } }
  b: { kind: sft, inputs: { base: a }, params: { epochs: 1 } }
";
    insta::assert_snapshot!(errors(text), @r"
        error[unknown-key]: stage `base` (kind pretrain) has no parameter `learning_rat`
           p.yaml:9:7
        9 |       learning_rat: 1e-5
          |       ^^^^^^^^^^^^ did you mean `learning_rate`?
        error[duplicate-key]: the key `steps` stands here twice
           p.yaml:11:7
        11 |       steps: 20
           |       ^^^^^ the first one is at line 10
        error[unknown-ref]: `one.inputs.base` names `bse`; there is: tok, base, one, two, a, b, plays
           p.yaml:12:37
        12 |   one: { kind: sft, inputs: { base: bse }, params: { epochs: 1 } }
           |                                     ^^^ did you mean `base`?
        error[wrong-type]: `two.inputs.base` takes checkpoint, but `tok` makes tokenizer
           p.yaml:13:37
        13 |   two: { kind: sft, inputs: { base: tok }, params: { epochs: 1 } }
           |                                     ^^^
        error[cycle]: the stages form a cycle: a -> b -> a
           p.yaml:14:35
        14 |   a: { kind: sft, inputs: { base: b }, params: { epochs: 1 } }
           |                                   ^
        5 errors. Nothing was run.
    ");
}

#[test]
fn every_wrong_parameter_is_reported_with_its_place() {
    let text = "\
params: { seed: x, epochz: 3 }
sources: { plays: { path: plays.txt, type: corpus } }
stages:
  tok: { kind: tokenizer, inputs: { corpus: plays }, params: { vocab_size: 3 } }
  base:
    kind: pretrain
    inputs: { tokenizer: tok, corpus: plays }
    params:
      model: { preset: tinny, layer: 2, dropout: 1.5 }
      learning_rate: 0
      steps: 1.5
      schedule: { steps: { evry: 3 } }
      warmup: -1
      betas: [0.9]
      tags: [a, 1]
      init: { preset: small, layers: many }
  sft: { kind: sft, inputs: { base: base } }
  again: { kind: sft, inputs: { base: base }, params: { epochs: '2' } }
";
    insta::assert_snapshot!(short_errors(text), @r"
        type 1:17 parameter `seed` of stage `base` (kind pretrain) must be a whole number, not a string `x`
        unused-param 1:20 no stage takes the pipeline's parameter `epochz` (did you mean `epochs`?)
        range 4:76 parameter `vocab_size` of stage `tok` (kind tokenizer) must be at least 256, not `3`
        choice 9:24 parameter `model.preset` of stage `base` (kind pretrain) must be one of tiny, small, not `tinny` (did you mean `tiny`?)
        unknown-key 9:31 parameter `model` of stage `base` (kind pretrain) has no `layer` (did you mean `layers`?)
        range 9:50 parameter `model.dropout` of stage `base` (kind pretrain) must be at most 0.9, not `1.5`
        range 10:22 parameter `learning_rate` of stage `base` (kind pretrain) must be above 0, not `0`
        type 11:14 parameter `steps` of stage `base` (kind pretrain) must be a whole number, not `1.5`
        unknown-key 12:28 parameter `schedule.steps` of stage `base` (kind pretrain) has no `evry` (did you mean `every`?)
        range 13:15 parameter `warmup` of stage `base` (kind pretrain) must be at least 0, not `-1`
        range 14:14 parameter `betas` of stage `base` (kind pretrain) must have at least 2 items, not 1
        type 15:17 parameter `tags[1]` of stage `base` (kind pretrain) must be a string, not a number `1`
        type 16:38 parameter `init.layers` of stage `base` (kind pretrain) must be a whole number, not a string `many`
        missing-param 17:3 stage `sft` (kind sft) needs the parameter `epochs`, which has no default
        type 18:65 parameter `epochs` of stage `again` (kind sft) must be a whole number, not a string `2`
    ");
}

#[test]
fn choices_of_schedules_take_a_name_or_a_mapping() {
    let with = |schedule: &str| {
        let text = GOOD.replace("steps: 2000", &format!("schedule: {schedule}"));
        load(&text).map(|g| params(g.pipeline(), "base")["schedule"].clone()).map_err(|all| short(&all))
    };
    assert_eq!(with("constant"), Ok(json!("constant")));
    assert_eq!(with("{ steps: { every: 5 } }"), Ok(json!({"steps": {"every": 5}})));
    insta::assert_snapshot!(with("cosin").unwrap_err(), @r"choice 11:51 parameter `schedule` of stage `base` (kind pretrain) must be one of constant, cosine, not `cosin` (did you mean `cosine`?)");
    insta::assert_snapshot!(with("{ steps: { every: x } }").unwrap_err(), @r"type 11:69 parameter `schedule.steps.every` of stage `base` (kind pretrain) must be a whole number, not a string `x`");
}

#[test]
fn keys_that_do_not_exist_are_errors_with_the_nearest_one() {
    let text = "\
pipelin: x
matrix: {}
sources:
  plays: { pth: x, type: corpsu }
  far: { path: ../../x }
  net: s3://bucket/x
  url: { url: 'https://x', sha256: y }
stages:
  9!: { run: 'true' }
  plays: { run: 'true' }
  a: { kind: tokeniser, inputs: { corpus: plays } }
  b: { kind: tokenizer, input: {}, run: x, cache: exat, retries: many, timeout: soon }
  c: { inputs: { x: plays }, params: { n: 1 } }
  d: { run: 'cat {inputs.y} {params.m} {input.x}', inputs: { x: plays } }
  e: { run: 'cat {inputs.y} {params.m}', inputs: { x: plays }, params: { n: 1 }, outputs: { o: tabel } }
  f: { kind: command, uses: [../x], resources: { cpu: 2, memory: big }, env: { A: [] } }
  g: nonsense
  h: { run: ls, inputs: { x: [plays] } }
  i: { run: [], inputs: 3 }
";
    insta::assert_snapshot!(short_errors(text), @r"
        unknown-key 1:1 a pipeline file has no key `pipelin` (did you mean `pipeline`?)
        unknown-key 2:1 a pipeline file has no key `matrix` (there is: pipeline, params, sources, stages, providers)
        unknown-key 4:12 source `plays` has no key `pth` (did you mean `path`?)
        unknown-type 4:26 source `plays` has the type `corpsu`, which does not exist (did you mean `corpus`?)
        outside-root 5:16 source `far` `../../x` climbs out of the project root (name it by its absolute path, or move it inside)
        unsupported-source 6:8 source `net` lies on the net; this version reads local files and folders only (fetch it with a `command` stage, or name a local path)
        unsupported-source 7:10 source `url` lies on the net; this version reads local files and folders only (fetch it with a `command` stage, or name a local path)
        bad-name 9:3 `9!` cannot be the name of a stage (a name has at most 100 letters, digits, `_` and `-`, and starts with no `-`)
        duplicate-name 10:3 stage `plays` has the name of a source (the source is at line 4)
        unknown-kind 11:14 stage `a` has the kind `tokeniser`, which does not exist (did you mean `tokenizer`?)
        unknown-key 12:25 stage `b` (kind tokenizer) has no key `input` (did you mean `inputs`?)
        unknown-key 12:36 stage `b` (kind tokenizer) has `run`, which only commands have
        choice 12:51 `cache` of stage `b` (kind tokenizer) must be `exact` or `normal` (did you mean `exact`?)
        type 12:66 `retries` of stage `b` (kind tokenizer) must be a whole number up to 1000, not `many`
        type 12:81 `timeout` of stage `b` (kind tokenizer) must be a duration such as `90s`, `10m` or `2h`
        missing-key 13:3 stage `c` has no `kind` and no `run` (there is: command, pretrain, sft, tokenizer)
        placeholder 14:13 `run` of stage `d` (kind command): `{input.x}` is no placeholder; did you mean `{inputs.x}`? (write `{{input.x}}` for the plain text)
        placeholder 15:13 `run` of stage `e` (kind command) names `{inputs.y}`; its inputs: x
        placeholder 15:13 `run` of stage `e` (kind command) names `{params.m}`; its params: n
        unknown-type 15:96 output `o` of stage `e` (kind command) has the type `tabel`, which does not exist (did you mean `table`?)
        missing-key 16:3 stage `f` (kind command) has no `run`
        outside-root 16:30 `uses` of stage `f` (kind command) `../x` climbs out of the project root (name it by its absolute path, or move it inside)
        unknown-key 16:50 `resources` of stage `f` (kind command) has no key `cpu` (did you mean `cpus`?)
        type 16:66 `memory` in `resources` of stage `f` (kind command) must be a size such as `4GiB`
        type 16:83 `env.A` of stage `f` (kind command) must be a string
        type 17:6 stage `g` must be a mapping, not a string
        type 18:30 input `x` of stage `h` (kind command) must be a string, not a list
        type 19:13 `run` of stage `i` (kind command) must be a command line or a list of words
        type 19:25 `inputs` of stage `i` (kind command) must be a mapping, not a number
    ");
}

#[test]
fn damage_makes_no_second_errors() {
    let text = "\
params: { seed: 3 }
sources: [plays]
stages:
  odd: { kind: nonsense, inputs: { x: plays } }
  a: { kind: sft, inputs: { base: odd.checkpoint }, params: { epochs: 1 } }
  b: { run: 'cat {inputs.x} {params.y}', inputs: { x: odd }, params: [] }
";
    insta::assert_snapshot!(short_errors(text), @r"
        type 2:10 `sources` must be a mapping, not a list
        unknown-kind 4:16 stage `odd` has the kind `nonsense`, which does not exist (there is: command, pretrain, sft, tokenizer)
        type 6:70 `params` of stage `b` (kind command) must be a mapping, not a list
    ");
}

#[test]
fn a_misspelt_key_is_not_missing_as_well() {
    let text = "\
sources: { plays: { paht: x } }
stages:
  a: { kind: tokenizer, input: { corpus: plays } }
  b: { kind: tokenizer, inputs: { corpsu: plays } }
  c: { rum: ls }
  d: { kind: command, rn: ls }
  e: { kind: sft, inputs: { base: x }, params: { epoch: 3 } }
  f: { kind: pretrain, inputs: { corpus: plays, tokenizer: b }, params: { dropout: 0.5 } }
";
    insta::assert_snapshot!(short_errors(text), @r"
        unknown-key 1:21 source `plays` has no key `paht` (did you mean `path`?)
        unknown-key 3:25 stage `a` (kind tokenizer) has no key `input` (did you mean `inputs`?)
        unknown-key 4:35 stage `b` (kind tokenizer) has no input `corpsu` (did you mean `corpus`?)
        unknown-key 5:8 stage `c` has no key `rum` (did you mean `run`?)
        unknown-key 6:23 stage `d` (kind command) has no key `rn` (did you mean `run`?)
        unknown-ref 7:35 `e.inputs.base` names `x`; there is: a, b, c, d, e, f, plays
        unknown-key 7:50 stage `e` (kind sft) has no parameter `epoch` (did you mean `epochs`?)
        unknown-key 8:75 stage `f` (kind pretrain) has no parameter `dropout` (did you mean `model.dropout`?)
    ");
    assert_eq!(
        short_errors("source: { x: y }\nstages: { a: { run: ls, inputs: { x: x } } }"),
        "unknown-key 1:1 a pipeline file has no key `source` (did you mean `sources`?)"
    );
}

#[test]
fn what_is_no_pipeline_is_one_error() {
    for (text, expected) in [
        ("", "missing-key 1:1 a pipeline file needs `stages`"),
        ("- a\n", "type 1:1 a pipeline file must be a mapping, not a list"),
        ("stages: 3", "type 1:9 `stages` must be a mapping, not a number"),
        ("stages: { a: [1, 2 }", "syntax 1:14 mismatched bracket"),
    ] {
        let found = short_errors(text);
        assert!(found.starts_with(expected) && !found.contains('\n'), "{text}: {found}");
    }
    let missing = crate::graph::load("none.yaml".as_ref(), &options(), &mut Fake::default()).unwrap_err();
    assert_eq!((missing.len(), missing[0].code), (1, "io"));
}

#[test]
fn environment_variables_are_expanded_and_take_the_type_that_is_wanted() {
    let text = GOOD.replace("seed: 1337", "seed: '${SEED}'").replace("steps: 2000", "steps: '${STEPS:-50}'");
    let graph = load(&text.replace("corpus: plays", "corpus: '${NAME}'")).unwrap();
    let params = params(graph.pipeline(), "base");
    assert_eq!((&params["seed"], &params["steps"]), (&json!(7), &json!(50)));
    assert_eq!(
        short_errors(&GOOD.replace("1337", "'${NO_SEED}'")),
        "unset-variable 2:17 the environment variable `NO_SEED` is not set (set it, or write `${NO_SEED:-default}`)"
    );
}

#[test]
fn errors_as_json_have_their_place_and_hint() {
    let all = load("stages: { a: { rum: x, kind: command } }").unwrap_err();
    let json = crate::spec::diagnostic::to_json(&all);
    insta::assert_json_snapshot!(json, @r#"
        {
          "errors": [
            {
              "code": "unknown-key",
              "column": 16,
              "file": "p.yaml",
              "hint": "did you mean `run`?",
              "line": 1,
              "message": "stage `a` (kind command) has no key `rum`"
            }
          ],
          "schema": "kiln.errors/1"
        }
    "#);
}

#[test]
fn hostile_texts_cannot_steer_the_terminal() {
    let rendered = errors("stages: { \"a\\e[31m\\u202e\": { run: x }, b: { run: y, kimd: 2 } } # \u{202e}");
    assert!(!rendered.contains(['\u{1b}', '\u{202e}']), "{rendered}");
    let long = format!("stages: {{ a: {{ {}: 1 }} }}", "x".repeat(100_000));
    assert!(errors(&long).lines().all(|line| line.chars().count() < 1200));
}

#[test]
fn the_schema_of_the_file_has_a_branch_for_each_kind_and_no_dangling_reference() {
    let schema = crate::spec::schema::pipeline_schema(&[crate::spec::testing::description()]);
    let text = schema.to_string();
    for (at, _) in text.match_indices("\"$ref\":\"#") {
        let pointer: String = text[at + 9..].chars().take_while(|c| *c != '"').collect();
        assert!(schema.pointer(&pointer).is_some(), "{pointer}");
    }
    assert_eq!(schema["properties"]["stages"]["additionalProperties"]["oneOf"].as_array().unwrap().len(), 4);
    let branch = &schema["$defs"]["stage.pretrain"]["properties"];
    assert_eq!(branch["params"]["properties"]["learning_rate"]["description"], "The learning rate.");
    for key in ["retries", "timeout", "resources"] {
        assert!(
            branch[key]["description"].as_str().unwrap().contains("Never part of the stage's key"),
            "{key}"
        );
    }
}

/// The same number, spelt in some other way.
fn spelt(value: f64, style: u8) -> String {
    match style % 4 {
        0 => format!("{value}"),
        1 => format!("{value:e}"),
        2 => format!("{value:?}"),
        _ => format!("+{value}"),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn key_order_comments_and_number_spelling_change_nothing(
        order in proptest::sample::subsequence((0..5usize).collect::<Vec<_>>(), 5).prop_shuffle(),
        styles in proptest::array::uniform3(0u8..4),
        rate in 1e-6f64..1.0,
        steps in 1u32..100_000,
        comments in proptest::bool::ANY,
    ) {
        let file = |order: &[usize], styles: [u8; 3], comments: bool| {
            let comment = if comments { " # a comment: { x" } else { "" };
            let params = [
                format!("learning_rate: {}", spelt(rate, styles[0])),
                format!("steps: {}", spelt(f64::from(steps), styles[1])),
                format!("model: {{ dropout: {}, preset: tiny }}", spelt(0.25, styles[2])),
                "tags: [a, b]".to_owned(),
                "warmup: null".to_owned(),
            ];
            let lines: Vec<_> = order.iter().map(|i| format!("      {}{comment}\n", params[*i])).collect();
            let stage = format!(
                "  base:\n    kind: pretrain\n    inputs: {{ corpus: plays, tokenizer: tok }}\n    params:\n{}", lines.concat());
            let tok = "  tok: { kind: tokenizer, inputs: { corpus: plays } }\n".to_owned();
            let stages = if comments { [stage, tok] } else { [tok, stage] };
            format!("sources: {{ plays: {{ path: p, type: corpus }} }}{comment}\nstages:\n{}", stages.concat())
        };
        let plain = content(&file(&[0, 1, 2, 3, 4], [0; 3], false));
        proptest::prop_assert_eq!(content(&file(&order, styles, comments)), plain);
    }

    #[test]
    fn no_file_makes_the_loader_panic(text in "(stages|params|sources|kind|run|inputs|outputs|[a-c{}: ,\\[\\]\n\"0-9.-]){0,40}") {
        let _ = load(&text);
    }
}
