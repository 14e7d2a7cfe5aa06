//! What makes a stage run again, and what does not.

use crate::common::Pipeline;

const LETTERS: &str = "
pipeline: letters
sources:
  text: { path: text.txt, type: corpus }
stages:
  lower:
    kind: command
    inputs: { text: text }
    run: tr A-Z a-z < {inputs.text} > {outputs.o}
    outputs: { o: corpus }
  count:
    kind: command
    inputs: { text: lower }
    params: { scale: 1e-3, unit: letters }
    run: echo $(wc -c < {inputs.text}) {params.scale} > {outputs.o}
    outputs: { o: table }
";

fn letters() -> Pipeline {
    Pipeline::new().yaml(LETTERS).file("text.txt", "Hello")
}

#[test]
fn an_upstream_rerun_that_gives_the_same_bytes_leaves_everything_below_alone() {
    let p = letters();
    p.run();
    p.write("text.txt", "HELLO");
    p.run().expect_ran(&["lower"]);
    p.write("text.txt", "HELLO THERE");
    p.run().expect_ran(&["lower", "count"]);
}

#[test]
fn a_comment_the_key_order_and_quotes_run_nothing() {
    let p = letters();
    p.run();
    p.edit("pipeline: letters", "# a comment\npipeline: letters");
    p.edit("{ scale: 1e-3, unit: letters }", "{ unit: \"letters\", scale: '1e-3' }");
    p.edit(
        "    kind: command\n    inputs: { text: lower }\n",
        "    inputs: { text: lower }\n    kind: command\n",
    );
    p.run().expect_ran(&[]);
}

#[test]
fn a_command_gets_a_number_as_it_is_written_and_another_spelling_runs_it_again() {
    let p = letters();
    for written in ["1e-3", "0.001", "99999999999999999998", "99999999999999999999", "02134", "3.10"] {
        p.write("kiln.yaml", &LETTERS.replace("1e-3", written));
        p.run();
        assert_eq!(p.out("letters/count/o"), format!("5 {written}\n"));
    }
}

#[test]
fn a_changed_and_a_removed_param_count() {
    let p = letters();
    p.run();
    p.edit("scale: 1e-3", "scale: 2e-3");
    p.run().expect_ran(&["count"]);
    p.edit(", unit: letters", "");
    p.run().expect_ran(&["count"]);
}

#[test]
fn retries_timeouts_and_resources_run_nothing() {
    let p = letters();
    p.run();
    p.edit(
        "    outputs: { o: table }",
        "    outputs: { o: table }\n    retries: 3\n    timeout: 9m\n    resources: { memory: 1GiB }",
    );
    p.run().expect_ran(&[]);
}

#[test]
fn an_artifact_that_is_gone_or_damaged_is_made_again() {
    let p = letters();
    p.run();
    let blob = std::fs::canonicalize(p.path("artifacts/out/letters/count/o")).unwrap();
    std::fs::remove_file(&blob).unwrap();
    p.run().expect_ran(&["count"]);
    let mut permissions = std::fs::metadata(&blob).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&blob, permissions).unwrap();
    std::fs::write(&blob, "garbage").unwrap();
    p.run().expect_ran(&["count"]);
    assert_eq!(p.out("letters/count/o"), "5 1e-3\n");
}

#[test]
fn plan_and_run_agree() {
    let p = letters();
    assert_eq!(p.states(&[]), ["lower=run", "count=maybe"]);
    let ran = p.run();
    assert_eq!(ran.0["plan"]["summary"]["run"], 1);
    assert_eq!(p.states(&[]), ["lower=cached", "count=cached"]);
    assert_eq!(p.ask(&["status", "-q"]).code, 0);
}

#[test]
fn a_source_that_changes_under_a_stage_serves_this_run_only() {
    let p = Pipeline::new().file("text.txt", "one").yaml(
        "
pipeline: p
sources: { text: { path: text.txt, type: corpus } }
stages:
  greedy: { kind: command, sandbox: off, inputs: { t: text }, run: 'cat {inputs.t} > {outputs.o}; echo more >> {inputs.t}', outputs: { o: table } }
  below: { kind: command, inputs: { o: greedy }, run: 'cat {inputs.o} > {outputs.o}', outputs: { o: table } }
",
    );
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(
        answer.err.contains("`text` changed while the stage ran; its result serves this run only"),
        "{}",
        answer.err
    );
    assert_eq!(p.out("p/below/o"), "one");
    assert_eq!(p.states(&[]), ["greedy=run", "below=maybe"]);
}
