//! Tests of whole pipeline files.
//!
//! Purpose: what a file means, and what its errors look like.
//! Invariant: every error is checked with its place.
//! Must not know: how `spec` is divided.

use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use crate::spec::testing::{Fake, GOOD, load, load_with, options, short, short_errors};
use crate::spec::types::{EnvValue, Pipeline, Reference, Run, Stage, Work};

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
                Work::Kind { .. } | Work::Download(_) => format!("{work:?}"),
                Work::Command { run, uses, .. } => {
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
    assert_eq!((base.params["steps"].span.start.line, base.params["steps"].span.start.column), (11, 48));
    assert_eq!(base.params["schedule"].span.start.line, 0);
    assert_eq!(base.params["seed"].span.start.line, 2);
    let lengths = stage(pipeline, "lengths");
    let Work::Command { run: Run::Script(_), uses, .. } = &lengths.work else { panic!("a shell command") };
    assert_eq!(uses[0].value, "count.py");
    assert_eq!(lengths.env["N"], EnvValue::Literal("3".into()));
    assert_eq!(params(pipeline, "lengths"), json!({"seed": "1337"}));
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
fn choices_of_schedules_take_a_name_or_a_mapping() {
    let with = |schedule: &str| {
        let text = GOOD.replace("steps: 2000", &format!("schedule: {schedule}"));
        load(&text).map(|g| params(g.pipeline(), "base")["schedule"].clone()).map_err(|all| short(&all))
    };
    assert_eq!(with("constant"), Ok(json!("constant")));
    assert_eq!(with("{ steps: { every: 5 } }"), Ok(json!({"steps": {"every": 5}})));
    insta::assert_snapshot!(with("cosin").unwrap_err(), @r"choice 11:51 parameter `schedule` of stage `base` (kind pretrain) must be `constant` or `cosine` or a mapping, not a string `cosin` (did you mean `cosine`?)");
    insta::assert_snapshot!(with("{ steps: { every: x } }").unwrap_err(), @r"type 11:69 parameter `schedule.steps.every` of stage `base` (kind pretrain) must be a whole number, not a string `x`");
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

#[test]
fn the_schema_of_the_file_describes_every_key_that_the_checks_know() {
    let schema = crate::spec::schema::pipeline_schema(&[]);
    let described = |pointer: &str| -> Vec<String> {
        schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let sorted = |keys: &[&str]| {
        let mut keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    };
    assert_eq!(described("/properties"), sorted(&crate::spec::load::KEYS));
    assert_eq!(described("/$defs/stage.command/properties"), sorted(&crate::spec::stage::KEYS));
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
