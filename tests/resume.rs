//! Black-box tests of what `plan` and `status` show of an interrupted stage, and of forecasts.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::Pipeline;

fn training() -> Pipeline {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/provider.py");
    let project = Pipeline::new().file("text.txt", "some text").yaml(
        "\
pipeline: p
providers: [./provider.py]
sources: { text: { path: text.txt, type: corpus } }
stages:
  model: { kind: train, inputs: { corpus: text }, params: { steps: 200, pause_ms: 10 } }
",
    );
    std::fs::copy(fixture, project.path("provider.py")).unwrap();
    project
}

/// Runs until the stage has a checkpoint, and sends the runner a signal.
fn interrupt(project: &Pipeline, signal: &str) {
    let mut runner = Command::new(assert_cmd::cargo::cargo_bin("kiln"))
        .arg("run")
        .current_dir(project.root())
        .env_remove("KILN_STORE")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let events =
        || std::fs::read_to_string(project.path("artifacts/runs/r-0001/events.jsonl")).unwrap_or_default();
    for _ in 0..3000 {
        if events().contains("\"progress\"") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args([&format!("-{signal}"), &runner.id().to_string()]).status().unwrap();
    runner.wait().unwrap();
}

#[test]
fn a_plan_after_an_interruption_says_at_which_step_the_stage_resumes() {
    for signal in ["INT", "KILL"] {
        let project = training();
        interrupt(&project, signal);
        let resumes = &project.json(&["plan"])["stages"][0]["resumes"];
        let (step, total) = (resumes["step"].as_u64().unwrap(), resumes["total"].as_u64().unwrap());
        assert!(step > 0 && step < 200 && total == 200, "{signal}: {resumes}");
        if signal == "INT" {
            // A flood of progress is thinned out, so the last steps may be missing.
            let work = project.path("artifacts/work");
            let found = find(&work, "state.json").unwrap();
            let state: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(found).unwrap()).unwrap();
            let behind = state["step"].as_u64().unwrap() - step;
            assert!(behind < 20, "{state}, {step}");
        }
        let said = format!("interrupted, resumes near step {step}/200");
        for words in ["plan", "status"] {
            let answer = project.ask(&[words]).good();
            assert!(answer.contains(&said) && !answer.contains("no result yet"), "{answer}");
        }
        assert_eq!(project.json(&["status"])["stages"][0]["resumes"]["step"].as_u64(), Some(step));
        project.edit("pause_ms: 10", "pause_ms: 0");
        let other = project.ask(&["plan"]).good();
        assert!(other.contains("no result yet"), "another key has no checkpoint: {other}");
    }
}

fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

#[test]
fn a_plan_predicts_time_and_bytes_from_the_last_run() {
    let project = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  a:\n    kind: command\n    run: sleep 1; head -c 5000 /dev/zero > {outputs.o}\n    outputs: { o: any }\n",
    );
    assert!(project.json(&["plan"])["stages"][0]["seconds"].is_null());
    project.ask(&["run"]).good();
    project.edit("sleep 1", "sleep 1.0");
    let stage = &project.json(&["plan"])["stages"][0];
    assert!(stage["seconds"].as_f64().unwrap() >= 1.0, "{stage}");
    assert_eq!(stage["bytes"], 5000);
    let text = project.ask(&["plan"]).good();
    assert!(text.contains("s  5.0 KB\n") && text.contains("About 1"), "{text}");
}

#[test]
fn a_quiet_status_answers_with_its_exit_code_alone() {
    let project = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  a:\n    kind: command\n    run: echo x > {outputs.o}\n    outputs: { o: any }\n",
    );
    for (code, words) in [(2, "before the run"), (0, "after it")] {
        let quiet = project.ask(&["status", "-q"]);
        assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (code, "", ""), "{words}");
        project.ask(&["run"]).good();
    }
    project.write("kiln.yaml", "pipeline: p\nstages: 7\n");
    assert_eq!(project.ask(&["status", "-q"]).code, 3);
}
