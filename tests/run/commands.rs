//! Command stages: what runs, what they get, how they fail.

use crate::common::Pipeline;

const CHAIN: &str = "
pipeline: chain
sources:
  words: { path: words.txt, type: corpus }
stages:
  sorted:
    kind: command
    inputs: { words: words }
    run: sort {inputs.words} > {outputs.list}
    outputs: { list: table }
  first:
    kind: command
    inputs: { list: sorted }
    run: head -n 1 {inputs.list} > {outputs.word}
    outputs: { word: table }
";

#[test]
fn a_pipeline_runs_once_and_is_cached_after() {
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "pear\napple\n");
    p.run().expect_ran(&["sorted", "first"]);
    assert_eq!(p.out("chain/first/word"), "apple\n");
    p.run().expect_ran(&[]);
}

#[test]
fn people_see_what_ran_and_how_much_the_cache_saved() {
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "pear\napple\n");
    let first = p.ask(&["run"]);
    assert_eq!((first.code, first.out.as_str()), (0, ""), "{}", first.err);
    assert!(first.err.contains("+ sorted") && first.err.contains("Done: 2 ran."), "{}", first.err);
    let second = p.ask(&["run"]);
    assert!(second.err.contains("= sorted, first   cached\nDone: 2 cached."), "{}", second.err);
}

#[test]
fn only_what_a_target_needs_runs() {
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "b\na\n");
    p.run_with(&["sorted"]).expect_ran(&["sorted"]);
    assert!(!p.path("artifacts/out/chain/first").exists());
}

#[test]
fn a_forced_stage_runs_though_it_is_fresh_and_what_is_below_stays() {
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "b\na\n");
    p.run();
    p.run_with(&["--force", "sorted"]).expect_ran(&["sorted"]);
}

#[test]
fn a_forced_stage_that_no_target_needs_is_an_error_and_nothing_runs() {
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "b\na\n");
    p.run();
    for command in ["run", "plan"] {
        let answer = p.ask(&[command, "--force", "first", "sorted"]);
        assert!(answer.code == 3 && answer.err.contains("no target needs the stage `first`"), "{answer:?}");
    }
}

#[test]
fn folders_and_globs_are_inputs_and_outputs_too() {
    let p = Pipeline::new().file("data/a.txt", "A").file("data/b.txt", "B").yaml(
        "
pipeline: folders
sources: { all: { path: data/*.txt, type: corpus } }
stages:
  copy: { kind: command, inputs: { all: all }, run: 'mkdir -p {outputs.d}/deep && cp {inputs.all}/*.txt {outputs.d}/deep/', outputs: { d: corpus } }
  join: { kind: command, inputs: { d: copy }, run: 'cat {inputs.d}/deep/a.txt {inputs.d}/deep/b.txt > {outputs.o}', outputs: { o: table } }
",
    );
    p.run().expect_ran(&["copy", "join"]);
    assert_eq!(p.out("folders/join/o"), "AB");
    assert_eq!(p.out("folders/copy/d/deep/b.txt"), "B");
    p.write("data/c.txt", "C");
    p.run().expect_ran(&["copy", "join"]);
}

#[test]
fn a_failing_command_shows_the_end_of_its_log_and_where_that_is() {
    let p = Pipeline::new().yaml(
        "
pipeline: bad
stages:
  breaks: { kind: command, run: 'for i in $(seq 100); do echo line $i; done; echo no cheese >&2; exit 7', outputs: { o: table } }
  below: { kind: command, inputs: { o: breaks }, run: 'cp {inputs.o} {outputs.p}', outputs: { p: table } }
",
    );
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 1, "{}", answer.err);
    let log = p.path("artifacts/runs/r-0001/logs/breaks.log");
    for text in ["exit code 7", "line 100", "no cheese", &log.display().to_string(), "`breaks` failed"] {
        assert!(answer.err.contains(text), "no {text:?} in {}", answer.err);
    }
    assert!(!answer.err.contains("line 50\n"), "{}", answer.err);
    assert!(std::fs::read_to_string(log).unwrap().contains("line 50\n"));
    let ran = p.run_with(&[]);
    assert_eq!((ran.outcome(), ran.ended("skipped")), ("failed", vec!["below".to_owned()]));
}

#[test]
fn an_output_that_was_not_made_is_a_failure() {
    let p = Pipeline::new()
        .yaml("pipeline: p\nstages:\n  s: { kind: command, run: 'true', outputs: { here: table } }\n");
    let ran = p.run_with(&[]);
    assert!(ran.error("s").contains("did not create `here`"), "{}", ran.error("s"));
}

#[test]
fn what_does_not_need_a_failed_stage_goes_on_if_asked_to() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  bad: { kind: command, run: 'exit 1', outputs: { o: table } }
  below: { kind: command, inputs: { o: bad }, run: 'cp {inputs.o} {outputs.o}', outputs: { o: table } }
  good: { kind: command, run: 'echo 1 > {outputs.o}', outputs: { o: table } }
  fine: { kind: command, inputs: { o: good }, run: 'cp {inputs.o} {outputs.o}', outputs: { o: table } }
",
    );
    let stopped = p.run_with(&["--jobs", "1"]);
    assert_eq!(stopped.ended("skipped"), ["below", "fine", "good"]);
    let ran = p.run_with(&["--jobs", "1", "--keep-going"]);
    assert_eq!(ran.ended("ran"), ["fine", "good"]);
    assert_eq!((ran.ended("failed"), ran.ended("skipped")), (vec!["bad".into()], vec!["below".into()]));
}

#[test]
fn a_stage_that_may_be_tried_again_is() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  flaky:
    kind: command
    sandbox: off
    run: 'echo x >> tries; test $(wc -l < tries) -ge 2 && echo ok > {outputs.o}'
    outputs: { o: table }
    retries: 2
",
    );
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("attempt 1 failed: exit code 1"), "{}", answer.err);
    assert_eq!(std::fs::read_to_string(p.path("tries")).unwrap(), "x\nx\n");
}

#[test]
fn a_stage_out_of_time_is_ended() {
    let p = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  slow: { kind: command, run: 'sleep 600', outputs: { o: table }, timeout: 1s }\n",
    );
    let ran = p.run_with(&[]);
    assert!(ran.error("slow").contains("not done within its `timeout` of 1 s"), "{}", ran.error("slow"));
}

#[test]
fn a_command_sees_declared_variables_and_nothing_else_of_the_caller() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  env: { kind: command, run: 'env | sort > {outputs.o}', outputs: { o: table }, env: { COLOUR: teal }, resources: { cpus: 1 } }
",
    );
    let mut command = p.kiln(&["run"]);
    command.env("SECRET_OF_MINE", "1").assert().success();
    let seen = p.out("p/env/o");
    assert!(seen.contains("COLOUR=teal\n") && seen.contains("OMP_NUM_THREADS=1\n"), "{seen}");
    assert!(seen.contains("PATH=") && !seen.contains("SECRET_OF_MINE"), "{seen}");
}

#[test]
fn a_list_is_executed_without_a_shell() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  exec: { kind: command, run: [cp, '{inputs.i}', '{outputs.o}'], inputs: { i: i }, outputs: { o: table } }
sources: { i: { path: \"a $(touch oops) 'b\", type: corpus } }
",
    );
    p.write("a $(touch oops) 'b", "odd name");
    p.run();
    assert_eq!(p.out("p/exec/o"), "odd name");
    assert!(!p.path("oops").exists());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let p = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  s: { kind: command, run: [no-such-program], outputs: { o: table } }\n",
    );
    let ran = p.run_with(&[]);
    assert!(ran.error("s").starts_with("cannot start `no-such-program`"), "{}", ran.error("s"));
}

#[test]
fn nothing_is_left_in_the_scratch_folder() {
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "b\na\n");
    p.run();
    for folder in std::fs::read_dir(p.path("artifacts/work")).unwrap() {
        let left: Vec<_> = std::fs::read_dir(folder.unwrap().path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn the_lock_file_is_a_function_of_what_was_made() {
    let lock = |p: &Pipeline| std::fs::read_to_string(p.path("kiln.lock")).unwrap();
    let p = Pipeline::new().yaml(CHAIN).file("words.txt", "pear\napple\n");
    p.run();
    let first = lock(&p);
    let q = Pipeline::new().yaml(CHAIN).file("words.txt", "pear\napple\n");
    q.run();
    assert_eq!(first, lock(&q));
    assert!(first.find("  first:").unwrap() < first.find("  sorted:").unwrap(), "{first}");
    let written = std::fs::metadata(p.path("kiln.lock")).unwrap().modified().unwrap();
    p.run();
    assert_eq!(std::fs::metadata(p.path("kiln.lock")).unwrap().modified().unwrap(), written);
    p.write("words.txt", "fig\n");
    p.run();
    assert_ne!(first, lock(&p));
}
