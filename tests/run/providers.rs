//! Stages of a provider, through the whole protocol.

use std::path::Path;

use crate::common::Pipeline;

/// A pipeline with one training stage of the tiny provider.
pub fn provider(params: &str) -> Pipeline {
    with_provider(&format!(
        "
pipeline: p
providers: [./provider.py]
sources: {{ text: {{ path: text.txt, type: corpus }} }}
stages:
  model: {{ kind: train, inputs: {{ corpus: text }}, params: {params} }}
"
    ))
}

fn with_provider(yaml: &str) -> Pipeline {
    let p = Pipeline::new().yaml(yaml).file("text.txt", "some text");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/provider.py");
    // A copy keeps the permission to execute it.
    std::fs::copy(fixture, p.path("provider.py")).unwrap();
    p
}

fn odd(how: &str) -> Pipeline {
    with_provider(&format!(
        "pipeline: p\nproviders: [./provider.py]\nstages:\n  s: {{ kind: odd, params: {{ how: {how} }} }}\n"
    ))
}

#[test]
fn a_stage_of_a_provider_runs_once_and_tells_its_numbers() {
    let p = provider("{ steps: 4 }");
    let ran = p.run();
    ran.expect_ran(&["model"]);
    assert_eq!(ran.0["stages"][0]["summary"], serde_json::json!([["loss", 0.25], ["steps", 4.0]]));
    p.run().expect_ran(&[]);
    let metrics = p.json(&["metrics"]);
    assert_eq!(metrics["stages"]["model"]["loss"]["last"], 0.25);
    let samples = std::fs::read_to_string(p.path("artifacts/runs/r-0001/samples.jsonl")).unwrap();
    assert!(samples.contains("\"completion\":\"world\""), "{samples}");
}

#[test]
fn people_see_health_and_the_numbers_that_matter() {
    let p = provider("{ steps: 4 }");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("! model  all is odd. look away"), "{}", answer.err);
    assert!(answer.err.contains("loss 0.250  steps 4"), "{}", answer.err);
}

#[test]
fn defaults_of_params_are_filled_in_and_wrong_ones_run_nothing() {
    let p = provider("{ steps: many, sed: 2 }");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 3, "{}", answer.err);
    assert!(answer.err.contains("`seed`") && answer.err.contains("steps"), "{}", answer.err);
    assert!(!p.path("artifacts/runs").exists());
    p.edit("steps: many, sed: 2", "seed: 1");
    p.run().expect_ran(&["model"]);
    p.edit("seed: 1", "steps: 5");
    p.run().expect_ran(&[]);
}

#[test]
fn an_error_event_is_the_stages_error() {
    let ran = odd("error").run_with(&[]);
    assert_eq!(ran.error("s"), "row 7 is empty; remove it (exit code 3)");
    let answer = odd("error").ask(&["run"]);
    assert!(answer.err.contains("! s  about to fail"), "{}", answer.err);
    assert_eq!(answer.err.matches("row 7 is empty; remove it").count(), 1, "{}", answer.err);
}

#[test]
fn a_crash_is_told_with_its_signal() {
    let ran = odd("crash").run_with(&[]);
    assert_eq!(ran.error("s"), "killed by signal 11");
}

#[test]
fn a_provider_that_makes_nothing_failed() {
    let ran = odd("nothing").run_with(&[]);
    assert!(ran.error("s").contains("did not create `out`"), "{}", ran.error("s"));
}

#[test]
fn free_text_on_stdout_goes_to_the_log() {
    let p = odd("talk");
    p.run().expect_ran(&["s"]);
    let log = std::fs::read_to_string(p.path("artifacts/runs/r-0001/logs/s.log")).unwrap();
    assert!(log.contains("no event at all\n") && log.contains("info: still here\n"));
    assert!(log.len() < 2_000_000, "{}", log.len());
}

#[test]
fn a_missing_worker_is_told_with_what_to_build() {
    let p = Pipeline::new().yaml("pipeline: p\nstages:\n  s: { kind: train }\n");
    let mut command = p.kiln(&["run"]);
    let answer = command.env("KILN_PROVIDER", "/nowhere/kiln-stages").output().unwrap();
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(answer.status.code(), Some(3), "{said}");
    assert!(said.contains("/nowhere/kiln-stages is missing"), "{said}");
}

#[test]
fn the_named_default_provider_is_used() {
    let p = with_provider("pipeline: p\nstages:\n  s: { kind: odd, params: { how: fine } }\n");
    let mut command = p.kiln(&["run"]);
    command.env("KILN_PROVIDER", p.path("provider.py")).assert().success();
    assert_eq!(p.out("p/s/out"), "fine");
}

#[test]
fn prompts_are_answered_by_the_provider_of_the_model() {
    let p = provider("{ steps: 3 }");
    p.run();
    let mark = p.out("p/model/model/state.txt")[..4].to_owned();
    assert_eq!(p.ask(&["generate", "model", "hello"]).good(), format!("{mark} heard hello\n"));
    let answer = p.json(&["generate", "model.model", "one", "two"]);
    assert_eq!(answer["replies"][1]["text"], format!("{mark} heard two"));
    assert_eq!(answer["replies"][0]["tokens"], 3);
    let mut chat = p.kiln(&["chat", "model"]);
    let answer = chat.write_stdin("hi\n\nthere\n").output().unwrap();
    let said = String::from_utf8(answer.stdout).unwrap();
    assert_eq!(said, format!("{mark} heard hi\n{mark} heard there\n"));
    let mut chat = p.kiln(&["chat", "model", "--json"]);
    let answer = chat.write_stdin(b"hi\r\n\xff\xfe x\nthere".as_slice()).output().unwrap();
    let told = String::from_utf8(answer.stderr).unwrap();
    assert!(answer.status.success() && told.contains("! this line is not UTF-8 and is left out"), "{told}");
    let said: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(
        (said["replies"][0]["prompt"].as_str(), said["replies"][1]["prompt"].as_str()),
        (Some("hi"), Some("there"))
    );
    assert!(said["replies"][2].is_null());
}

#[test]
fn a_warning_about_a_prompt_is_told_beside_the_reply() {
    let p = provider("{ steps: 3 }");
    p.run();
    let answer = p.ask(&["generate", "model", "long"]);
    assert_eq!((answer.code, answer.err.as_str()), (0, "! the prompt is cut\n"));
    assert!(answer.out.ends_with(" heard long\n"), "{}", answer.out);
    assert!(p.ask(&["generate", "model", "short"]).err.is_empty());
}

#[test]
fn joiners_of_a_reply_are_printed_and_marks_that_reorder_text_are_not() {
    let p = provider("{ steps: 3 }");
    p.run();
    let said =
        p.ask(&["generate", "model", "\u{1f469}\u{200d}\u{1f4bb} \u{645}\u{200c}\u{646} \u{202e}x"]).good();
    assert!(said.ends_with("\u{1f469}\u{200d}\u{1f4bb} \u{645}\u{200c}\u{646} \u{fffd}x\n"), "{said}");
}

#[test]
fn a_temperature_that_is_no_number_of_0_or_more_is_refused() {
    let p = provider("{ steps: 3 }");
    for temperature in ["-1", "nan", "inf", "warm"] {
        for command in ["generate", "chat"] {
            let answer = p.ask(&[command, "model", "x", "--temperature", temperature]);
            assert_eq!(answer.code, 3, "{}", answer.err);
            assert!(answer.err.contains("a number of 0 or more is expected"), "{}", answer.err);
        }
    }
}

#[test]
fn a_model_that_fails_is_told() {
    let p = provider("{ steps: 3 }");
    assert!(p.ask(&["generate", "model", "x"]).err.contains("has not run here yet"));
    p.run();
    let answer = p.ask(&["generate", "model", "fail"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("the model is tired"), "{}", answer.err);
}

#[test]
fn params_that_do_not_fit_together_are_told_before_anything_runs() {
    let p = with_provider(
        "pipeline: p
providers: [./provider.py]
sources: { text: { path: text.txt, type: corpus } }
stages:
  first: { kind: train, inputs: { corpus: text } }
  last: { kind: train, inputs: { corpus: text, base: first }, params: { steps: 13, seed: 13 } }
",
    );
    for command in ["plan", "run"] {
        let answer = p.ask(&[command]);
        assert_eq!(answer.code, 3, "{}", answer.err);
        assert!(
            answer.err.contains("error[params]: the parameters of stage `last` do not fit"),
            "{}",
            answer.err
        );
        assert!(answer.err.contains("`steps: 13` is no good with `seed: 13`"), "{}", answer.err);
        assert!(answer.err.contains("kiln.yaml:6:3"), "{}", answer.err);
    }
    assert!(!p.path("artifacts/runs").exists());
    // What does not run is not looked at.
    p.ask(&["run", "first"]).good();
    let answer = p.ask(&["plan", "--set", "stages.last.seed=1"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
}

#[test]
fn a_param_by_the_name_of_another_tool_is_told_its_name_here() {
    let answer = provider("{ iterations: 4 }").ask(&["plan"]);
    assert!(answer.err.contains("it is called `steps` here"), "{}", answer.err);
    let answer = provider("{}").ask(&["plan", "--set", "params={\"iterations\": 4}"]);
    assert!(answer.err.contains("no stage takes the pipeline's parameter `iterations`"), "{}", answer.err);
    assert!(answer.err.contains("it is called `steps` here"), "{}", answer.err);
}

#[test]
fn a_reply_that_ends_with_the_context_says_so() {
    let p = provider("{ steps: 3 }");
    p.run();
    let answer = p.ask(&["generate", "model", "full"]);
    assert!(answer.err.starts_with("! the reply ends because the context"), "{}", answer.err);
    assert_eq!(p.json(&["generate", "model", "full"])["replies"][0]["end"], "context");
    assert_eq!(p.json(&["generate", "model", "x"])["replies"][0]["end"], "stop");
}

#[test]
fn a_reply_that_ends_as_a_later_version_knows_is_a_reply_and_a_torn_one_is_an_error() {
    let p = provider("{ steps: 3 }");
    p.run();
    let reply = &p.json(&["generate", "model", "later"])["replies"][0];
    assert_eq!((&reply["finished"], &reply["end"]), (&false.into(), &serde_json::Value::Null));
    let answer = p.ask(&["generate", "model", "torn"]);
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("the provider's reply cannot be read"), "{}", answer.err);
}

#[test]
fn a_provider_that_is_looking_at_params_ends_with_the_runner() {
    let p = provider("{ seed: 99 }");
    let program = assert_cmd::cargo::cargo_bin("kiln");
    let mut runner = std::process::Command::new(program)
        .arg("plan")
        .current_dir(p.root())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait = |until: &dyn Fn() -> bool| {
        (0..1000).any(|_| until() || (std::thread::sleep(std::time::Duration::from_millis(20)), false).1)
    };
    let pid = || std::fs::read_to_string(p.path("checking")).unwrap_or_default();
    assert!(wait(&|| !pid().is_empty()));
    runner.kill().unwrap();
    runner.wait().unwrap();
    let folder = Path::new("/proc").join(pid());
    assert!(wait(&|| !folder.join("exe").exists()), "{}", pid());
}

#[test]
fn what_is_no_language_model_is_refused_with_the_stages_that_make_one() {
    let p = with_provider(
        "pipeline: p
providers: [./provider.py]
sources: { text: { path: text.txt, type: corpus } }
stages:
  clean: { inputs: { t: text }, run: 'cp {inputs.t} {outputs.c}', outputs: { c: corpus } }
  model: { kind: train, inputs: { corpus: clean } }
",
    );
    p.run();
    for (name, what) in [("clean", "clean.c"), ("clean.c", "clean.c"), ("text", "text")] {
        for command in [&["generate", name, "x"][..], &["chat", name]] {
            let answer = p.ask(command);
            assert_eq!(answer.code, 3, "{}", answer.err);
            let wanted = format!(
                "`{what}` has the type corpus and is no language model; the stages that make one: model"
            );
            assert!(answer.err.contains(&wanted), "{}", answer.err);
        }
    }
    let answer = p.ask(&["generate", "model", "--file", "nowhere.txt"]);
    assert!(answer.err.contains("read the prompts in nowhere.txt"), "{}", answer.err);
}

#[test]
fn results_that_are_stale_are_said_to_be_so() {
    let p = provider("{ steps: 3 }");
    p.run();
    for command in [&["generate", "model", "x"][..], &["metrics"], &["show", "--path", "model"]] {
        assert_eq!(p.ask(command).err, "", "{command:?}");
    }
    p.edit("steps: 3", "steps: 4");
    for command in [&["generate", "model", "x"][..], &["show", "--path", "model"]] {
        let answer = p.ask(command);
        assert!(answer.err.starts_with("! `model` is stale; this is what run r-0001 made"), "{}", answer.err);
        assert_eq!(answer.code, 0);
    }
    assert!(
        p.ask(&["metrics"]).err.starts_with("! stale, so the numbers are those of an earlier run: model;")
    );
    assert_eq!(p.json(&["metrics"])["stale"], serde_json::json!(["model"]));
}

#[test]
fn a_run_keeps_what_the_command_line_changed() {
    let p = provider("{ steps: 3, seed: 4 }");
    p.ask(&["run", "--set", "stages.model.steps=2", "--unset", "stages.model.params.seed"]).good();
    let record = &p.json(&["log", "r-0001"])["runs"][0];
    assert_eq!(record["set"], serde_json::json!(["stages.model.steps=2"]));
    let listed = p.ask(&["log"]).good();
    assert!(listed.contains("--set stages.model.steps=2 --unset stages.model.params.seed"), "{listed}");
    let p = odd("fine");
    p.ask(&["run", "--set", "stages.s.how=http://me:hunter2@127.0.0.1/x"]).good();
    let record = std::fs::read_to_string(p.path("artifacts/runs/r-0001/run.json")).unwrap();
    assert!(record.contains("http://") && !record.contains("hunter2"), "{record}");
}
