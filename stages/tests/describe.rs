//! What the worker says of itself.

// Helpers of tests fail as tests do; clippy takes only the tests themselves for tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use kiln::protocol::{ARTIFACT_TYPES, CheckAnswer, CheckRequest, Description, PROTOCOL, StageParams};
use serde_json::{Value, json};

fn description() -> Description {
    let out = Command::new(env!("CARGO_BIN_EXE_kiln-stages")).arg("describe").output().unwrap();
    assert!(out.status.success());
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Every object schema within a schema, with the path to it.
fn objects<'a>(schema: &'a Value, path: String, found: &mut Vec<(String, &'a Value)>) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") {
                found.push((path.clone(), schema));
            }
            for (key, value) in map.iter().filter(|(key, _)| *key != "default") {
                objects(value, format!("{path}/{key}"), found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| objects(v, format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

#[test]
fn every_param_of_every_kind_has_a_default_and_a_description() {
    for kind in description().kinds {
        let mut found = Vec::new();
        objects(&kind.params, kind.name.clone(), &mut found);
        // A kind without params refuses them all.
        let refuses = kind.params["additionalProperties"] == Value::Bool(false);
        assert!(!found.is_empty() || refuses, "{} takes unknown params", kind.name);
        for (path, schema) in found {
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(property.get("default").is_some(), "{path}: {name} has no default");
                let told = property.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(!told.is_empty(), "{path}: {name} has no description");
            }
            assert_eq!(schema["additionalProperties"], Value::Bool(false), "{path} takes unknown params");
        }
    }
}

#[test]
fn the_kinds_are_sorted_and_their_ports_are_of_known_types() {
    let description = description();
    assert_eq!(description.protocol, PROTOCOL);
    assert_eq!(description.provider, "kiln-stages");
    let names: Vec<&str> = description.kinds.iter().map(|k| k.name.as_str()).collect();
    assert!(names.is_sorted() && names.iter().collect::<BTreeSet<_>>().len() == names.len(), "{names:?}");
    for kind in [
        "tokenizer",
        "tokenize",
        "model",
        "pretrain",
        "sft",
        "merge",
        "sample",
        "rank",
        "reward",
        "ppo",
        "dpo",
        "eval",
    ] {
        assert!(names.contains(&kind), "{kind}");
    }
    let revisions: Vec<(&str, u32)> =
        description.kinds.iter().map(|k| (k.name.as_str(), k.revision)).collect();
    for of_today in [
        ("tokenizer", 4),
        ("pretrain", 6),
        ("sft", 5),
        ("model", 2),
        ("tokenize", 2),
        ("reward", 5),
        ("ppo", 4),
        ("dpo", 3),
        ("sample", 2),
        ("eval", 5),
    ] {
        assert!(revisions.contains(&of_today), "{of_today:?} is not in {revisions:?}");
    }
    for kind in &description.kinds {
        assert!(kind.revision > 0 && !kind.summary.is_empty() && !kind.outputs.is_empty(), "{}", kind.name);
        for port in kind.inputs.iter().chain(&kind.outputs) {
            assert!(
                port.types.iter().all(|t| ARTIFACT_TYPES.contains(&t.as_str())),
                "{}: {port:?}",
                kind.name
            );
            assert!(!port.summary.is_empty());
        }
        assert!(kind.outputs.iter().all(|p| p.types.len() == 1 && !p.optional), "{}", kind.name);
    }
}

#[test]
fn the_numbers_depend_on_a_backend_that_is_named() {
    let numerics = description().numerics;
    for name in ["backend", "arch"] {
        assert!(!numerics[name].is_empty(), "{name}");
    }
    if numerics["backend"] == "libtorch" {
        assert!(numerics["libtorch"].starts_with(char::is_numeric), "{numerics:?}");
    }
}

#[test]
fn every_type_of_a_port_is_declared() {
    let description = description();
    let ports = description.kinds.iter().flat_map(|kind| kind.inputs.iter().chain(&kind.outputs));
    let used: BTreeSet<String> = ports.flat_map(|port| port.types.clone()).filter(|t| t != "any").collect();
    assert_eq!(description.types, used.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_libraries_variables_and_devices_that_the_numbers_depend_on_are_declared() {
    let description = description();
    if description.numerics["backend"] != "libtorch" {
        assert!(description.files.is_empty() && description.environment.is_empty());
        return;
    }
    for name in ["libtorch_cpu.so", "libc10.so"] {
        assert!(description.files.iter().any(|path| path.ends_with(name)), "{:?}", description.files);
    }
    assert!(description.files.iter().all(|path| path.is_absolute() && path.is_file()));
    for name in ["LD_LIBRARY_PATH", "LIBTORCH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME"] {
        assert!(description.environment.iter().any(|variable| variable == name), "{name}");
    }
    for path in ["/dev/nvidiactl", "/dev/nvidia0"] {
        assert!(description.devices.iter().any(|device| device.as_os_str() == path), "{path}");
    }
}

#[test]
fn the_same_worker_describes_itself_in_the_same_bytes() {
    let bytes = || Command::new(env!("CARGO_BIN_EXE_kiln-stages")).arg("describe").output().unwrap().stdout;
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_call_without_a_known_word_is_a_usage_error_on_stderr() {
    for arguments in [&[][..], &["dance"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_kiln-stages")).args(arguments).output().unwrap();
        assert_eq!(out.status.code(), Some(3));
        assert!(out.stdout.is_empty());
        assert!(String::from_utf8(out.stderr).unwrap().contains("usage"));
    }
}

#[test]
fn every_param_that_is_a_float_has_a_least_and_a_largest_value() {
    for kind in description().kinds {
        let mut found = Vec::new();
        objects(&kind.params, kind.name.clone(), &mut found);
        for (path, schema) in found {
            for (name, property) in schema["properties"].as_object().unwrap() {
                let is_float = property["format"] == "double";
                let has = |bounds: [&str; 2]| bounds.iter().any(|bound| property.get(*bound).is_some());
                let is_bounded = has(["minimum", "exclusiveMinimum"]) && has(["maximum", "exclusiveMaximum"]);
                assert!(!is_float || is_bounded, "{path}: {name}");
            }
        }
    }
}

#[test]
fn what_params_are_called_elsewhere_stands_for_params_that_are_there() {
    let mut known = 0;
    for kind in description().kinds {
        let mut found = Vec::new();
        objects(&kind.params, kind.name.clone(), &mut found);
        for (path, schema) in found {
            let has = |schema: &Value, name: &str| schema["properties"].get(name).is_some();
            for (name, stands_for) in schema["x-other-names"].as_object().into_iter().flatten() {
                let here = stands_for.as_str().unwrap().split(' ').next().unwrap();
                let (first, rest) = here.split_once('.').unwrap_or((here, ""));
                assert!(has(schema, first) && !has(schema, name), "{path}: {name} -> {stands_for}");
                if !rest.is_empty() {
                    let reference = schema["properties"][first]["$ref"].as_str().unwrap();
                    let inner = kind.params.pointer(reference.trim_start_matches('#')).unwrap();
                    assert!(has(inner, rest), "{path}: {name} -> {stands_for}");
                }
                known += 1;
            }
        }
    }
    assert!(known > 50, "{known}");
}

#[test]
fn params_that_do_not_fit_together_are_told_without_any_input() {
    let description = description();
    let default = |kind: &str| {
        let kind = description.kinds.iter().find(|k| k.name == kind).unwrap();
        let properties = kind.params["properties"].as_object().unwrap();
        properties.iter().map(|(name, schema)| (name.clone(), schema["default"].clone())).collect::<Value>()
    };
    let stage = |kind: &str, name: &str, value: Value| {
        let mut params = default(kind);
        params[name] = value;
        StageParams { kind: kind.to_owned(), params }
    };
    let mut heads = default("pretrain")["model"].clone();
    heads["heads"] = json!(3);
    let stages = vec![
        stage("pretrain", "steps", json!(5)),
        stage("pretrain", "model", heads),
        stage("ppo", "minibatches", json!(3)),
        stage("reward", "calibrate", json!(true)),
        StageParams {
            kind: "reward".to_owned(),
            params: json!({"calibrate": true, "validation_fraction": 0.0}),
        },
        StageParams { kind: "dance".to_owned(), params: json!({}) },
    ];
    let request = serde_json::to_vec(&CheckRequest { stages }).unwrap();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_kiln-stages"));
    let mut worker = worker.arg("check").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    worker.stdin.take().unwrap().write_all(&request).unwrap();
    let out = worker.wait_with_output().unwrap();
    assert!(out.status.success());
    let answer: CheckAnswer = serde_json::from_slice(&out.stdout).unwrap();
    let said = |i: usize| answer.problems[i].as_deref().unwrap_or_default();
    assert_eq!((answer.problems.len(), said(0), said(3)), (6, "", ""));
    assert!(said(1).contains("hidden_size 128 is no multiple of heads 3"), "{}", said(1));
    assert!(said(2).contains("`minibatches: 3` does not divide `prompts_per_batch: 64`"), "{}", said(2));
    assert!(said(4).contains("`calibrate`"), "{}", said(4));
    assert!(said(5).contains("there is no kind `dance`"), "{}", said(5));
}
