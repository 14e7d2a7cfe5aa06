//! Runners that die or are stopped, and what the next one makes of it.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::Pipeline;
use crate::helpers::{processes_with, signal, stage, wait_until};
use crate::providers::provider;

/// Two chains of slow commands; the marker makes their processes findable.
fn slow(marker: &str) -> String {
    let mut text = "pipeline: slow\nstages:\n".to_owned();
    for chain in ["a", "b"] {
        for i in 0..4 {
            let input = if i == 0 { String::new() } else { format!("inputs: {{ i: {chain}{} }}, ", i - 1) };
            let read = if i == 0 { "echo start" } else { "cat {inputs.i}" };
            text += &format!(
                "  {chain}{i}: {{ kind: command, {input}run: '{read} > {{outputs.o}}; sleep 0.1; : {marker}; echo {chain}{i} >> {{outputs.o}}; sleep 0.05', outputs: {{ o: table }} }}\n"
            );
        }
    }
    text
}

#[test]
fn a_runner_killed_at_any_moment_is_made_good_by_a_plain_run() {
    let quiet = Pipeline::new().yaml(&slow("undisturbed"));
    quiet.run();
    let expected = quiet.digests();
    for (i, wait) in [5, 40, 90, 150, 230, 340, 470].into_iter().enumerate() {
        let marker = format!("marker-{}-{i}", std::process::id());
        let p = Pipeline::new().yaml(&slow(&marker));
        std::fs::create_dir(p.path("artifacts")).unwrap();
        let mut runner = p.spawn(&["run", "--jobs", "2"]);
        std::thread::sleep(Duration::from_millis(wait));
        signal(&runner, "KILL");
        runner.wait().unwrap();
        let ran = p.run();
        assert_eq!(ran.outcome(), "ok");
        // The marker is part of the command and so of the keys, never of the bytes.
        assert_eq!(p.digests(), expected, "killed after {wait} ms");
        assert_eq!(processes_with(&marker), Vec::<String>::new(), "killed after {wait} ms");
    }
}

#[test]
fn one_stage_runs_again_at_once_although_an_orphan_of_another_goes_on() {
    for i in 0..5 {
        let marker = format!("other-{}-{i}", std::process::id());
        // Started together, either may have got the other's lock by accident.
        let stage = |name: &str, seconds: u32| {
            format!(
                "  {name}: {{ kind: command, sandbox: off, run: 'touch begun_{name}; echo x > {{outputs.o}}; test -e calm || sleep {seconds}; : {marker}', outputs: {{ o: table }} }}\n"
            )
        };
        let p =
            Pipeline::new().yaml(&format!("pipeline: p\nstages:\n{}{}", stage("a", 300), stage("b", 301)));
        std::fs::create_dir(p.path("artifacts")).unwrap();
        let mut runner = p.spawn(&["run", "--jobs", "2"]);
        p.wait_for("begun_a");
        p.wait_for("begun_b");
        signal(&runner, "KILL");
        runner.wait().unwrap();
        p.write("calm", "");
        p.run_with(&["a"]).expect_ran(&["a"]);
        assert_eq!(processes_with(&marker), Vec::<String>::new());
    }
}

#[test]
fn a_run_ends_although_nobody_reads_what_it_says_and_nothing_can_be_shown() {
    let p = Pipeline::new().yaml(&slow("silent")).file("artifacts/out", "in the way of the links");
    let mut runner = p.spawn(&["run", "--jobs", "2", "--log-level", "debug"]);
    drop(runner.stderr.take());
    wait_until("the run has ended", || runner.try_wait().unwrap().is_some());
    assert_eq!(p.run().ended("cached").len(), 8);
}

#[test]
fn orphans_of_a_dead_runner_are_ended_before_their_work_is_done_again() {
    let marker = format!("orphan-{}", std::process::id());
    // The orphan would write its output late; the next attempt must not meet it.
    let p = Pipeline::new().yaml(&format!(
        "pipeline: p\nstages:\n  s: {{ kind: command, sandbox: off, run: 'echo x >> begun; if test -e calm; then echo good > {{outputs.o}}; else sh -c \"sleep 300; : {marker}\" & sleep 300; fi', outputs: {{ o: table }} }}\n"
    ));
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let mut runner = p.spawn(&["run"]);
    p.wait_for("begun");
    signal(&runner, "KILL");
    runner.wait().unwrap();
    p.write("calm", "");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert_eq!(p.out("p/s/o"), "good\n");
    assert_eq!(processes_with(&marker), Vec::<String>::new());
}

#[test]
fn ctrl_c_ends_a_run_with_130_and_the_next_run_goes_on() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  quick: { kind: command, run: 'touch {outputs.o}', outputs: { o: table } }
  slow: { kind: command, sandbox: off, inputs: { o: quick }, run: 'touch begun; test -e calm || sleep 300; touch {outputs.o}', outputs: { o: table } }
",
    );
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let runner = p.spawn(&["run", "--json"]);
    p.wait_for("begun");
    signal(&runner, "INT");
    let end = runner.wait_with_output().unwrap();
    assert_eq!(end.status.code(), Some(130), "{}", String::from_utf8_lossy(&end.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!(answer["outcome"], "interrupted");
    p.write("calm", "");
    p.run().expect_ran(&["slow"]);
}

#[test]
fn after_ctrl_c_nothing_is_begun_even_if_what_runs_ends_well() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  calm: { kind: command, sandbox: off, run: \"trap 'touch {outputs.o}; exit 0' TERM; touch begun; test ! -e calm || trap - TERM; while test ! -e calm; do sleep 0.05; done; touch {outputs.o}\", outputs: { o: table } }
  next: { kind: command, sandbox: off, run: 'touch next.ran; touch {outputs.o}', outputs: { o: table } }
",
    );
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let runner = p.spawn(&["run", "--json", "--jobs", "1"]);
    p.wait_for("begun");
    signal(&runner, "INT");
    let end = runner.wait_with_output().unwrap();
    assert_eq!(end.status.code(), Some(130), "{}", String::from_utf8_lossy(&end.stderr));
    assert!(!p.path("next.ran").exists());
    // After a stop was asked for, exit 0 of a command is no success.
    p.write("calm", "");
    p.run().expect_ran(&["calm", "next"]);
}

#[test]
fn a_second_ctrl_c_kills_what_will_not_stop() {
    let p = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  deaf: { kind: command, sandbox: off, run: 'trap : TERM; : > begun; while :; do sleep 1 || true; done', outputs: { o: table } }\n",
    );
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let mut runner = p.spawn(&["run"]);
    p.wait_for("begun");
    signal(&runner, "INT");
    std::thread::sleep(Duration::from_millis(200));
    assert!(runner.try_wait().unwrap().is_none(), "it was to wait for the stage");
    signal(&runner, "INT");
    let end = runner.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(130), "{said}");
    assert!(said.contains("Stopping: 1 running stage may") && said.contains("Killing 1 stage."), "{said}");
}

#[test]
fn what_a_background_process_had_not_finished_at_ctrl_c_is_not_kept() {
    for signals in 1..=2 {
        let p = Pipeline::new().yaml(
            "pipeline: p\nstages:\n  late: { kind: command, run: 'echo half > {outputs.o}; (sleep 300; echo rest >> {outputs.o}) & touch $BEGUN', env: { BEGUN: { pass: BEGUN } }, outputs: { o: table } }\n",
        );
        std::fs::create_dir(p.path("artifacts")).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.arg("run").current_dir(p.root()).env("BEGUN", p.path("begun"));
        let mut runner = command.stderr(Stdio::null()).spawn().unwrap();
        p.wait_for("begun");
        // The shell itself ends now.
        std::thread::sleep(Duration::from_millis(100));
        (0..signals).for_each(|_| signal(&runner, "INT"));
        assert_eq!(runner.wait().unwrap().code(), Some(130), "{signals}");
        assert_eq!(p.states(&[]), ["late=run"], "{signals}");
    }
}

#[test]
fn a_training_killed_with_its_runner_goes_on_from_its_checkpoint_to_the_same_bytes() {
    let quiet = provider("{ steps: 40, pause_ms: 0 }");
    quiet.run();
    let expected = quiet.out("p/model/model/state.txt");
    for victim in ["runner", "worker"] {
        // The pause is a param and so of the key; the bytes do not depend on it.
        let p = provider("{ steps: 40, pause_ms: 25 }");
        std::fs::create_dir(p.path("artifacts")).unwrap();
        let mut runner = p.spawn(&["run"]);
        let text = || {
            std::fs::read_to_string(p.path("artifacts/runs/r-0001/metrics/model.jsonl")).unwrap_or_default()
        };
        wait_until("some steps", || text().lines().count() >= 5);
        if victim == "runner" {
            signal(&runner, "KILL");
            runner.wait().unwrap();
        } else {
            let workers = processes_with(&p.root().display().to_string());
            let pid = workers.first().unwrap().split(' ').next().unwrap().to_owned();
            std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            assert_eq!(runner.wait().unwrap().code(), Some(1));
        }
        p.run().expect_ran(&["model"]);
        assert_eq!(p.out("p/model/model/state.txt"), expected, "{victim}");
        let log = std::fs::read_to_string(p.path("artifacts/runs/r-0002/logs/model.log")).unwrap();
        assert!(log.contains("resumed at"), "{victim}: {log}");
        let metrics = std::fs::read_to_string(p.path("artifacts/runs/r-0002/metrics/model.jsonl")).unwrap();
        for step in [1, 20, 40] {
            let found = metrics.matches(&format!("\"step\":{step},")).count();
            assert_eq!(found, 1, "{victim}: step {step} in {metrics}");
        }
    }
}

#[test]
fn a_training_asked_to_stop_checkpoints_and_goes_on() {
    let p = provider("{ steps: 40, pause_ms: 25 }");
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let mut runner = p.spawn(&["run"]);
    let text =
        || std::fs::read_to_string(p.path("artifacts/runs/r-0001/metrics/model.jsonl")).unwrap_or_default();
    wait_until("some steps", || text().lines().count() >= 5);
    signal(&runner, "INT");
    assert_eq!(runner.wait().unwrap().code(), Some(130));
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("resumes from its checkpoint"), "{}", answer.err);
}

#[test]
fn ctrl_c_while_a_stage_waits_for_its_next_attempt_ends_the_run() {
    let p = stage("retries: 5", "touch @ROOT@/begun\nexit 1");
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let runner = p.spawn(&["run", "--json"]);
    let events = || std::fs::read_to_string(p.path("artifacts/runs/r-0001/events.jsonl")).unwrap_or_default();
    wait_until("two attempts to fail", || events().matches("\"retry\"").count() >= 2);
    signal(&runner, "INT");
    let start = std::time::Instant::now();
    assert_eq!(runner.wait_with_output().unwrap().status.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(5));
}
