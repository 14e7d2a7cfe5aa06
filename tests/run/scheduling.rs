//! Stages side by side, and runners side by side.

use std::process::Output;

use crate::common::Pipeline;
use crate::helpers::{Ran, wait_until};

/// Waits in a shell until the file is there, or gives up after a while.
fn await_file(name: &str) -> String {
    format!("n=0; while ! test -e {name}; do n=$((n+1)); test $n -gt 2000 && exit 9; sleep 0.01; done")
}

#[test]
fn stages_that_need_nothing_of_each_other_run_side_by_side() {
    // Each waits for the other: alone, neither would end well.
    let stage = |mine: &str, other: &str| {
        format!(
            "  {mine}: {{ kind: command, sandbox: off, run: 'touch {mine}.here; {}; touch {{outputs.o}}', outputs: {{ o: table }} }}\n",
            await_file(&format!("{other}.here"))
        )
    };
    let p = Pipeline::new().yaml(&format!(
        "pipeline: p\nstages:\n{}{}",
        stage("left", "right"),
        stage("right", "left")
    ));
    let ran = p.run_with(&["--jobs", "2"]);
    assert_eq!(ran.outcome(), "ok", "{:#}", ran.0);
}

#[test]
fn one_job_at_a_time_means_one() {
    let stage = |name: &str| {
        format!(
            "  {name}: {{ kind: command, sandbox: off, run: 'mkdir busy && sleep 0.05 && rmdir busy && touch {{outputs.o}}', outputs: {{ o: table }} }}\n"
        )
    };
    let p =
        Pipeline::new().yaml(&format!("pipeline: p\nstages:\n{}{}{}", stage("a"), stage("b"), stage("c")));
    let ran = p.run_with(&["--jobs", "1"]);
    assert_eq!(ran.outcome(), "ok", "{:#}", ran.0);
}

#[test]
fn memory_that_is_not_there_is_not_lent_twice() {
    let stage = |name: &str| {
        format!(
            "  {name}: {{ kind: command, sandbox: off, run: 'mkdir busy && sleep 0.05 && rmdir busy && touch {{outputs.o}}', outputs: {{ o: table }}, resources: {{ memory: 4000GiB }} }}\n"
        )
    };
    let p = Pipeline::new().yaml(&format!("pipeline: p\nstages:\n{}{}", stage("a"), stage("b")));
    let ran = p.run_with(&["--jobs", "4"]);
    assert_eq!(ran.outcome(), "ok", "{:#}", ran.0);
}

#[test]
fn many_short_stages_of_unlike_needs_keep_within_jobs_and_memory() {
    let mut text = "pipeline: p\nstages:\n".to_owned();
    for i in 0..60 {
        let counted = format!(
            "mkdir running/{i} && test $(ls running | wc -l) -le 2 && sleep 0.005 && rmdir running/{i}"
        );
        let (run, needs) = match i % 3 {
            0 => (format!("mkdir alone && {counted} && rmdir alone"), "memory: 4000GiB"),
            _ => (counted, "cpus: 1"),
        };
        text += &format!(
            "  s{i}: {{ kind: command, sandbox: off, run: '{run} && touch {{outputs.o}}', outputs: {{ o: table }}, resources: {{ {needs} }} }}\n"
        );
    }
    let p = Pipeline::new().yaml(&text);
    std::fs::create_dir(p.path("running")).unwrap();
    let ran = p.run_with(&["--jobs", "2"]);
    assert_eq!(ran.ended("ran").len(), 60, "{:#}", ran.0);
}

#[test]
fn large_and_small_outputs_of_stages_in_a_row_are_all_kept() {
    let mut text = "pipeline: p\nstages:\n".to_owned();
    for i in 0..12 {
        let size = if i % 2 == 0 { 600_000 } else { 6 };
        text += &format!(
            "  s{i}: {{ kind: command, shell: sh, run: 'yes {i} | head -c {size} > {{outputs.o}}', outputs: {{ o: table }} }}\n"
        );
    }
    let p = Pipeline::new().yaml(&text);
    p.run_with(&["--jobs", "1"]);
    for i in 0..12 {
        let size = if i % 2 == 0 { 600_000 } else { 6 };
        let line = format!("{i}\n");
        assert_eq!(p.out(&format!("p/s{i}/o")), line.repeat(size)[..size]);
    }
    p.run().expect_ran(&[]);
}

#[test]
fn the_longest_way_to_the_end_goes_first() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  short: { kind: command, sandbox: off, run: 'echo short >> order; touch {outputs.o}', outputs: { o: table } }
  head: { kind: command, sandbox: off, run: 'echo head >> order; touch {outputs.o}', outputs: { o: table } }
  tail: { kind: command, sandbox: off, inputs: { o: head }, run: 'echo tail >> order; cp {inputs.o} {outputs.o}', outputs: { o: table } }
",
    );
    p.run_with(&["--jobs", "1"]);
    let order = std::fs::read_to_string(p.path("order")).unwrap();
    assert!(order.starts_with("head\n"), "{order}");
}

#[test]
fn nothing_is_begun_after_a_stage_failed_even_if_it_failed_before_it_began() {
    let p = Pipeline::new().yaml(&format!(
        "
pipeline: p
stages:
  first: {{ kind: command, sandbox: off, run: 'rm gone; touch {{outputs.o}}', outputs: {{ o: table }} }}
  bad: {{ kind: command, inputs: {{ o: first }}, uses: [gone], run: 'cp {{inputs.o}} {{outputs.o}}', outputs: {{ o: table }} }}
  slow: {{ kind: command, sandbox: off, run: '{}; touch {{outputs.o}}', outputs: {{ o: table }} }}
  late: {{ kind: command, sandbox: off, inputs: {{ o: slow }}, run: 'touch late.ran; touch {{outputs.o}}', outputs: {{ o: table }} }}
",
        await_file("go")
    ));
    p.write("gone", "");
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let runner = p.spawn(&["run", "--json", "--jobs", "2"]);
    let events = p.path("artifacts/runs/r-0001/events.jsonl");
    let failed = || std::fs::read_to_string(&events).unwrap_or_default().contains("\"failed\"");
    wait_until("`bad` to fail", failed);
    p.write("go", "");
    let end = runner.wait_with_output().unwrap();
    let ran = Ran(serde_json::from_slice(&end.stdout).unwrap());
    assert_eq!(ran.ended("failed"), ["bad"], "{:#}", ran.0);
    assert!(!p.path("late.ran").exists(), "{:#}", ran.0);
}

#[test]
fn two_runners_on_one_store_do_each_piece_of_work_once() {
    let mut text = "pipeline: p\nstages:\n".to_owned();
    for i in 0..20 {
        text += &format!(
            "  s{i}: {{ kind: command, sandbox: off, run: 'echo {i} >> ran; sleep 0.02; echo {i} > {{outputs.o}}', outputs: {{ o: table }} }}\n"
        );
    }
    let p = Pipeline::new().yaml(&text);
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let runners: Vec<_> = (0..3).map(|_| p.spawn(&["run", "--json"])).collect();
    let ends: Vec<Output> = runners.into_iter().map(|r| r.wait_with_output().unwrap()).collect();
    for end in &ends {
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    }
    let ran = std::fs::read_to_string(p.path("ran")).unwrap();
    let mut lines: Vec<u32> = ran.lines().map(|line| line.parse().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_runner_that_waits_for_another_names_it() {
    let p = Pipeline::new().yaml(&format!(
        "pipeline: p\nstages:\n  slow: {{ kind: command, sandbox: off, run: 'touch begun; {}; touch {{outputs.o}}', outputs: {{ o: table }} }}\n",
        await_file("go")
    ));
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let first = p.spawn(&["run"]);
    p.wait_for("begun");
    let second = p.spawn(&["run"]);
    let told = || {
        let events =
            std::fs::read_to_string(p.path("artifacts/runs/r-0002/events.jsonl")).unwrap_or_default();
        events.contains("\"waiting\"") && events.contains(&format!("process {}", first.id()))
    };
    wait_until("the second runner to name the first", told);
    p.write("go", "");
    let (first, second) = (first.wait_with_output().unwrap(), second.wait_with_output().unwrap());
    assert!(first.status.success() && second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("1 cached"), "{said}");
}

#[test]
fn two_stages_that_do_the_same_work_do_it_once() {
    let run = "run: 'echo x >> @ROOT@/ran; sleep 0.3; echo same > {outputs.o}', outputs: { o: any }";
    let p = Pipeline::new();
    let text = format!(
        "pipeline: p\nstages:\n  a: {{ kind: command, {run} }}\n  b: {{ kind: command, {run} }}\n  c: {{ kind: command, inputs: {{ a: a, b: b }}, run: 'cat {{inputs.a}} {{inputs.b}} > {{outputs.o}}', outputs: {{ o: any }} }}\n"
    );
    p.write("kiln.yaml", &text.replace("@ROOT@", &p.root().display().to_string()));
    p.run();
    assert_eq!(std::fs::read_to_string(p.path("ran")).unwrap(), "x\n");
    assert_eq!(p.out("p/c/o"), "same\nsame\n");
    // Forced together, each result replaces the one before, and they agree.
    let answer = p.ask(&["run", "--force", "a", "--force", "b"]);
    assert!(answer.code == 0 && !answer.err.contains("deterministic"), "{}", answer.err);
}

#[test]
fn a_stage_whose_key_names_its_cores_may_ask_for_those_of_another_machine_alone() {
    let p = Pipeline::new().yaml(
        "pipeline: p\nexecutor: slurm\nstages:\n  big: { run: 'touch {outputs.o}', cache: exact, resources: { cpus: 4000 }, outputs: { o: table } }\n",
    );
    assert_eq!(p.states(&[]), ["big=run"]);
    let here = p.ask(&["run", "--executor", "local"]);
    assert_eq!(here.code, 3, "{}", here.err);
    assert!(here.err.contains("asks for 4000 cores, but this machine has"), "{}", here.err);
    p.edit("executor: slurm\n", "");
    let refused = p.ask(&["plan"]);
    assert!(refused.code == 3 && refused.err.contains("[too-few-cores]"), "{} {}", refused.code, refused.err);
}
