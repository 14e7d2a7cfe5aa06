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
      upper  ~ run     never ran
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
    assert_snapshot!(plan["stages"][0]["reasons"], @r#"[{"column":3,"file":"kiln.yaml","from":null,"line":5,"new":null,"old":null,"what":"never ran"}]"#);
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
      upper  stale    never ran
      lines  stale    waits on upper
    0 fresh, 2 stale, 0 running.
    ");
    assert_snapshot!(chain().ask(&["why", "lines"]).good(), @r"
    lines is stale because of 1 root cause
      upper  never ran    kiln.yaml:5:3
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
    error[no-source]: source `text`: there is no file or folder `text.txt`; make it, or name its real place
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
    assert!(again.err.contains("is there already"));
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
fn the_doctor_answers_everywhere() {
    let answer = Pipeline::new().json(&["doctor"]);
    let names: Vec<_> =
        answer["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(
        ["cores", "memory", "disk", "worker", "store"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
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
