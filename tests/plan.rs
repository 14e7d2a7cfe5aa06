//! Black-box tests of the commands that answer and run nothing.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};

use common::Pipeline;
use insta::assert_snapshot;

const CHAIN: &str = "\
pipeline: chain
sources:
  text: { path: text.txt, type: corpus }
stages:
  upper:
    kind: command
    inputs: { text: text }
    params: { from: a-z, to: A-Z }
    run: tr {params.from} {params.to} < {inputs.text} > {outputs.text}
    outputs: { text: corpus }
  lines:
    kind: command
    inputs: { text: upper }
    run: wc -l < {inputs.text} > {outputs.count}
    outputs: { count: table }
";

fn chain() -> Pipeline {
    Pipeline::new().yaml(CHAIN).file("text.txt", "to be\nor not\n")
}

#[test]
fn a_plan_of_nothing_done_yet() {
    assert_snapshot!(chain().ask(&["plan"]).good(), @r"
      upper  ~ run     no result yet
      lines  ~ maybe   waits on upper (kept if its bytes do not change)
    Plan: 1 to run, 1 maybe.
    ");
}

#[test]
fn a_plan_in_json() {
    let plan = chain().json(&["plan"]);
    assert_eq!(plan["schema"], "kiln.plan/1");
    assert_eq!(
        plan["summary"],
        serde_json::json!({ "cached": 0, "fetch": 0, "run": 1, "maybe": 1, "people": 0 })
    );
    assert_eq!(plan["stages"][0]["key"].as_str().unwrap().len(), 64);
    assert!(plan["stages"][1]["key"].is_null());
    assert_snapshot!(plan["stages"][0]["reasons"], @r#"[{"column":3,"file":"kiln.yaml","from":null,"line":5,"new":null,"old":null,"what":"no result yet"}]"#);
    assert_snapshot!(plan["stages"][1]["outputs"], @r#"{"count":{"digest":null,"type":"table"}}"#);
}

#[test]
fn a_plan_writes_nothing_into_a_fresh_folder() {
    let project = chain();
    for words in
        [&["plan"][..], &["status"], &["why", "lines"], &["graph"], &["log"], &["metrics"], &["doctor"]]
    {
        project.ask(words).good();
    }
    let mut names: Vec<_> = std::fs::read_dir(project.root())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["kiln.yaml", "text.txt"]);
}

#[test]
fn a_target_plans_what_it_needs_and_nothing_else() {
    assert_eq!(chain().states(&["upper"]), ["upper=run"]);
    assert_eq!(chain().states(&["kiln.yaml", "lines"]), ["upper=run", "lines=maybe"]);
}

#[test]
fn a_forced_stage_is_planned_to_run() {
    assert_eq!(chain().states(&["--force", "lines"]), ["upper=run", "lines=run"]);
}

#[test]
fn exit_codes_tell_changes() {
    let project = chain();
    assert_eq!(project.ask(&["plan"]).code, 0);
    assert_eq!(project.ask(&["plan", "--detailed-exitcode"]).code, 2);
    let quiet = project.ask(&["status", "-q"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (2, "", ""));
}

#[test]
fn status_and_why_before_the_first_run() {
    assert_snapshot!(chain().ask(&["status"]).good(), @r"
      upper  stale    no result yet
      lines  stale    waits on upper
    0 fresh, 2 stale, 0 running.
    ");
    assert_snapshot!(chain().ask(&["why", "lines"]).good(), @r"
    lines is stale because of 1 root cause
      upper  no result yet    kiln.yaml:5:3
      then: lines
    ");
}

#[test]
fn five_errors_of_one_file_come_in_one_pass_and_nothing_runs() {
    let project = Pipeline::new().yaml(
        "\
pipeline: wrong
stages:
  a:
    kind: command
    inputs: { x: b }
    run: touch ran {outputs.out}
    outputs: { out: any }
  b:
    kind: command
    inputs: { x: a }
    run: touch ran {outputs.out}
    outputs: { out: any }
  c:
    kind: command
    inputs: { x: nobody }
    run: touch ran {outputs.out}
    run: touch ran twice
    outputs: { out: tabel }
    retrys: 2
",
    );
    let answer = project.ask(&["plan"]);
    assert_eq!((answer.code, answer.out.as_str()), (3, ""));
    assert_snapshot!(answer.err);
    let errors = project.json(&["plan"]);
    assert_eq!(errors["schema"], "kiln.errors/1");
    assert!(errors["errors"].as_array().unwrap().len() >= 4);
    assert!(errors["errors"].as_array().unwrap().iter().all(|e| e["line"].as_u64() > Some(0)));
    assert!(!project.path("ran").exists());
}

#[test]
fn a_missing_source_is_shown_with_its_line() {
    let answer = Pipeline::new().yaml(CHAIN).ask(&["plan"]);
    assert_eq!(answer.code, 3);
    assert_snapshot!(answer.err, @r"
    error[no-source]: source `text`: there is no file or folder `text.txt`; make it, or correct its path
       kiln.yaml:3:3
    3 |   text: { path: text.txt, type: corpus }
      |   ^^^^
    1 error. Nothing was run.
    ");
}

#[test]
fn a_wrong_call_exits_with_3_and_says_what_is_right() {
    let project = chain();
    for words in
        [&["plan", "--no-such"][..], &["no-such"], &["why"], &["plan", "lnes"], &["show", "nothing"], &[]]
    {
        assert_eq!(project.ask(words).code, 3, "{words:?}");
    }
    assert!(project.ask(&["plan", "lnes"]).err.contains("did you mean `lines`?"));
}

#[test]
fn the_only_file_is_found_and_several_must_be_named() {
    let project = Pipeline::new();
    assert!(project.ask(&["plan"]).err.contains("kiln init"));
    let project = project.file("pipelines/a.yaml", CHAIN).file("text.txt", "x");
    assert_eq!(project.states(&[]).len(), 2);
    let project = project.file("pipelines/b.yaml", CHAIN);
    let answer = project.ask(&["plan"]);
    assert_eq!(answer.code, 3);
    assert!(answer.err.contains("pipelines/a.yaml, pipelines/b.yaml"), "{}", answer.err);
    assert_eq!(project.states(&["pipelines/b.yaml"]).len(), 2);
}

#[test]
fn what_init_writes_can_be_planned_and_is_never_overwritten() {
    let project = Pipeline::new();
    project.ask(&["init"]).good();
    assert_eq!(project.states(&[]), ["numbers=run", "sum=maybe"]);
    project.edit("count: 20", "count: 21");
    let again = project.ask(&["init"]);
    assert_eq!(again.code, 3);
    assert!(again.err.contains("already exists"));
    project.ask(&["init", "--template", "tiny", "other.yaml"]).good();
    assert!(project.path("other.yaml").is_file());
}

#[test]
fn the_graph_comes_in_four_forms() {
    let project = chain();
    assert_snapshot!(project.ask(&["graph"]).good(), @r"
    upper  command  <- text
    lines  command  <- upper
    ");
    assert!(project.ask(&["graph", "--format", "dot"]).good().starts_with("digraph"));
    assert!(project.ask(&["graph", "--format", "mermaid"]).good().starts_with("flowchart"));
    assert_eq!(project.json(&["graph"])["schema"], "kiln.graph/1");
}

#[test]
fn a_source_can_be_shown_before_anything_ran() {
    let shown = chain().ask(&["show", "text"]).good();
    assert!(shown.contains("to be\nor not\n"), "{shown}");
    assert_eq!(chain().json(&["show", "text"])["size"], 13);
    let missing = chain().ask(&["show", "lines"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("has not run here yet"));
}

#[test]
fn colours_come_only_when_asked_for() {
    let project = chain();
    assert!(!project.ask(&["plan"]).out.contains('\u{1b}'));
    assert!(project.ask(&["plan", "--color", "always"]).out.contains('\u{1b}'));
}

#[test]
fn a_reader_that_goes_away_ends_the_answer_quietly() {
    let project = chain();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("kiln"))
        .args(["schema"])
        .current_dir(project.root())
        .env("KILN_LOG", "error")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

/// A project that ran once.
fn after_a_run() -> Pipeline {
    let project = chain();
    let ran = project.ask(&["run"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    project
}

#[test]
fn after_a_run_everything_is_fresh() {
    let project = after_a_run();
    assert_snapshot!(project.ask(&["plan"]).good(), @r"
      upper  = cached  109a28a7  local
      lines  = cached  53c234e5  local
    Plan: 2 cached.
    ");
    assert_eq!(project.ask(&["plan", "--detailed-exitcode"]).code, 0);
    assert_eq!(project.ask(&["status", "-q"]).code, 0);
    assert_snapshot!(project.ask(&["status"]).good(), @r"
      upper  fresh
      lines  fresh
    2 fresh, 0 stale, 0 running.
    ");
    let digest = &project.json(&["plan"])["stages"][0]["outputs"]["text"]["digest"];
    assert_eq!(digest.as_str().unwrap(), project.json(&["show", "upper"])["digest"]);
}

#[test]
fn a_comment_the_order_of_keys_and_the_spelling_of_numbers_make_nothing_stale() {
    let project = after_a_run();
    project.edit("    params: { from: a-z, to: A-Z }\n", "");
    project.edit(
        "    kind: command\n    inputs: { text: text }",
        "    # hm\n    params: { to: \"A-Z\", from: a-z }\n    inputs: { text: text }\n    kind: command",
    );
    assert_eq!(project.states(&[]), ["upper=cached", "lines=cached"]);
}

#[test]
fn a_stage_that_failed_is_told_with_the_run_and_the_reason() {
    let project = Pipeline::new().yaml("stages: { a: { run: 'exit 7', outputs: { o: any } } }\n");
    assert_eq!(project.ask(&["run"]).code, 1);
    for words in [["plan"].as_slice(), &["why", "a"]] {
        let said = project.ask(words).good();
        assert!(said.contains("no result yet"), "{said}");
        assert!(said.contains("it failed in run r-0001: ") && said.contains("exit code 7"), "{said}");
        assert!(said.contains("`kiln log a`"), "{said}");
    }
}

#[test]
fn a_changed_param_is_told_with_old_and_new_value_and_line() {
    let project = after_a_run();
    project.edit("to: A-Z", "to: B-ZA");
    let plan = project.ask(&["plan"]).good();
    // How long it took the last time is the machine's business.
    assert!(plan.contains("Plan: 1 to run, 1 maybe. "), "{plan}");
    assert!(plan.contains("~ run     to A-Z -> B-ZA"), "{plan}");
    assert!(plan.contains("~ maybe   waits on upper (kept if its bytes do not change)"), "{plan}");
    let why = project.ask(&["why", "lines"]).good();
    let (why, compared) = why.rsplit_once("compared with ").unwrap();
    assert!(compared.starts_with("what was made by run r-0001 (today "), "{compared}");
    assert_snapshot!(why, @r"
    lines is stale because of 1 root cause
      upper  params.to  A-Z -> B-ZA  kiln.yaml:8:30
      then: lines
    unchanged: 1 param, 1 input
    ");
    let why = project.json(&["why", "lines"]);
    assert_eq!(why["schema"], "kiln.why/1");
    assert_eq!(why["roots"][0]["reasons"][0]["old"], "A-Z");
    assert_eq!(why["roots"][0]["compared_with"], "r-0001");
}

#[test]
fn set_and_unset_change_a_plan_and_not_the_file() {
    let project = after_a_run();
    assert_eq!(project.states(&["--set", "stages.upper.params.to=B-ZA"]), ["upper=run", "lines=maybe"]);
    assert_eq!(project.states(&[]), ["upper=cached", "lines=cached"]);
}

#[test]
fn a_stage_that_reruns_to_the_same_bytes_leaves_what_is_below_alone() {
    let project = after_a_run();
    project.write("text.txt", "TO BE\nor not\n");
    assert_eq!(project.states(&[]), ["upper=run", "lines=maybe"]);
    let run = project.json(&["run"]);
    let outcomes: Vec<_> =
        run["stages"].as_array().unwrap().iter().map(|s| s["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["ran", "cached"]);
}

#[test]
fn an_output_is_shown_and_its_path_can_be_read() {
    let project = after_a_run();
    let shown = project.ask(&["show", "upper.text"]).good();
    assert!(shown.contains("TO BE\nOR NOT\n") && shown.contains("made    by run r-0001"), "{shown}");
    let path = project.ask(&["show", "--path", "lines"]).good();
    assert_eq!(std::fs::read_to_string(path.trim_end()).unwrap().trim(), "2");
    project.edit("to: A-Z", "to: B-ZA");
    assert_eq!(project.json(&["show", "upper"])["stale"], true);
}

#[test]
fn runs_and_logs_are_kept() {
    let project = Pipeline::new().yaml(
        "pipeline: talk\nstages:\n  talk:\n    kind: command\n    run: echo hello; echo x > {outputs.out}\n    outputs: { out: any }\n",
    );
    project.ask(&["run"]).good();
    assert_eq!(project.json(&["run"])["run"], "r-0002");
    let runs = project.json(&["log"]);
    let ids: Vec<_> = runs["runs"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["r-0002", "r-0001"]);
    assert!(project.ask(&["log", "r-0001"]).good().contains("talk  + ran"));
    // The stage was cached in the second run: its last log is of the first.
    assert!(project.ask(&["log", "talk"]).good().contains("hello"));
    assert_eq!(project.json(&["log", "talk"])["run"], "r-0001");
    assert_eq!(project.ask(&["log", "nobody"]).code, 3);
}

#[test]
fn a_stage_that_runs_now_is_said_to_run() {
    let project = Pipeline::new().yaml(
        "pipeline: slow\nstages:\n  slow:\n    kind: command\n    run: while [ ! -e $GO ]; do sleep 0.02; done; echo x > {outputs.out}\n    env: { GO: /nowhere }\n    outputs: { out: any }\n",
    );
    let go = project.path("go");
    project.edit("/nowhere", go.to_str().unwrap());
    let mut runner = Command::new(assert_cmd::cargo::cargo_bin("kiln"))
        .arg("run")
        .current_dir(project.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = || project.json(&["status"])["stages"][0]["state"] == "running";
    let seen = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        running()
    });
    std::fs::write(&go, "").unwrap();
    assert!(runner.wait().unwrap().success());
    assert!(seen);
    assert!(!running());
}
