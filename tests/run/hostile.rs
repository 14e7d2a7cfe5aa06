//! Commands that do what they should not.

use crate::common::Pipeline;
use crate::helpers::{processes_with, stage, stages};

#[test]
fn a_command_that_writes_to_its_input_is_caught_and_the_next_run_makes_it_anew() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  made: { kind: command, run: 'echo precious > {outputs.o}', outputs: { o: table } }
  vandal: { kind: command, sandbox: off, inputs: { i: made }, run: 'chmod u+w {inputs.i}; test -e calm || echo spoilt > {inputs.i}; cp {inputs.i} {outputs.o}', outputs: { o: table } }
",
    );
    let ran = p.run_with(&[]);
    assert!(
        ran.error("vandal").contains("its input `i` was damaged while it ran"),
        "{}",
        ran.error("vandal")
    );
    p.write("calm", "");
    p.run().expect_ran(&["made", "vandal"]);
    assert_eq!(p.out("p/vandal/o"), "precious\n");
}

#[test]
fn a_large_input_that_is_changed_in_place_fails_its_readers_and_is_made_again() {
    // Where reflinks are missing the files of a large input are hard links of blobs.
    let p = stages(&[
        ("big", "", "head -c 67108864 /dev/zero > {outputs.o}"),
        (
            "vandal",
            "inputs: { i: big }",
            "if ! test -e @ROOT@/calm; then chmod u+w {inputs.i}; echo spoilt >> {inputs.i}; fi\nwc -c < {inputs.i} > {outputs.o}",
        ),
        (
            "mover",
            "inputs: { i: big }",
            "mv {inputs.i} moved\nif ! test -e @ROOT@/calm; then chmod u+w moved; echo spoilt >> moved; fi\nwc -c < moved > {outputs.o}",
        ),
    ]);
    let ran = p.run_with(&["--keep-going"]);
    if ran.outcome() == "ok" {
        // Each had a copy of its own.
        assert_eq!(p.out("p/vandal/o"), "67108871\n");
        p.write("calm", "");
        p.run().expect_ran(&[]);
        return;
    }
    assert_eq!(ran.ended("failed"), ["mover", "vandal"], "{:#}", ran.0);
    for name in ["mover", "vandal"] {
        assert!(ran.error(name).contains("its input `i`"), "{}", ran.error(name));
    }
    p.write("calm", "");
    p.run().expect_ran(&["big", "mover", "vandal"]);
    assert_eq!((p.out("p/vandal/o"), p.out("p/mover/o")), ("67108864\n".into(), "67108864\n".into()));
}

#[test]
fn a_large_input_that_is_changed_and_changed_back_fails_those_who_may_have_read_it() {
    let p = stages(&[
        ("big", "", "head -c 67108864 /dev/zero > {outputs.o}"),
        (
            "vandal",
            "inputs: { i: big }",
            "if ! test -e @ROOT@/calm; then chmod u+w {inputs.i}; printf X | dd of={inputs.i} conv=notrunc bs=1; touch @ROOT@/spoilt; while ! test -e @ROOT@/read; do sleep 0.02; done; printf '\\0' | dd of={inputs.i} conv=notrunc bs=1; fi; touch @ROOT@/mended; echo > {outputs.o}",
        ),
        (
            "reader",
            "inputs: { i: big }",
            "while ! test -e @ROOT@/spoilt; do sleep 0.02; done; head -c 1 {inputs.i} | od -An -c > {outputs.o}; touch @ROOT@/read; while ! test -e @ROOT@/mended; do sleep 0.02; done",
        ),
    ]);
    let ran = p.run_with(&["--keep-going"]);
    if ran.outcome() == "ok" {
        // Each had a copy of its own.
        assert_eq!(p.out("p/reader/o"), "  \\0\n");
        return;
    }
    assert_eq!(ran.ended("failed"), ["reader", "vandal"], "{:#}", ran.0);
    for name in ["reader", "vandal"] {
        assert!(ran.error(name).contains("its input `i` was written to"), "{}", ran.error(name));
    }
    p.write("calm", "");
    p.run().expect_ran(&["reader", "vandal"]);
    assert_eq!(p.out("p/reader/o"), "  \\0\n");
}

#[test]
fn a_command_that_writes_to_its_own_copy_of_an_input_harms_nobody() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  made: { kind: command, run: 'echo precious > {outputs.o}', outputs: { o: table } }
  vandal: { kind: command, inputs: { i: made }, run: 'echo spoilt > {inputs.i}; mv {inputs.i} {outputs.o}', outputs: { o: table } }
  below: { kind: command, inputs: { i: made, v: vandal }, run: 'cat {inputs.i} {inputs.v} > {outputs.o}', outputs: { o: table } }
",
    );
    p.run();
    assert_eq!(p.out("p/below/o"), "precious\nspoilt\n");
    p.run().expect_ran(&[]);
}

#[test]
fn a_stage_that_kills_its_supervisor_failed_and_leaves_nothing_running() {
    let marker = format!("6{}", std::process::id());
    let script = format!(
        "setsid sleep {marker} &\n(setsid sleep {marker} &)\nsleep 0.2\nkill -9 $PPID\nsleep 5\ntouch {{outputs.o}}"
    );
    let ran = stage("", &script).run_with(&[]);
    assert!(ran.error("s").contains("its supervisor was killed"), "{}", ran.error("s"));
    assert_eq!(processes_with(&marker), Vec::<String>::new());
}

#[test]
fn a_supervisor_that_is_killed_between_two_stages_harms_none() {
    // `a` and `b` need two supervisors, and `c` kills the one that is idle then.
    let kill_others = "me=$PPID; parent() { read -r line < /proc/$1/stat && set -- ${line##*)} && echo $2; }\n\
         for p in /proc/[0-9]*; do p=${p#/proc/}\n\
         if [ $p != $me ] && [ \"$(parent $p 2> /dev/null)\" = $(parent $me) ]; then kill -9 $p; echo killed; fi\n\
         done > {outputs.o}";
    let after = |input: &str| format!("inputs: {{ i: {input} }}");
    let p = stages(&[
        ("a", "", "sleep 0.5; echo a > {outputs.o}"),
        ("b", "", "sleep 0.5; echo b > {outputs.o}"),
        ("c", "inputs: { a: a, b: b }", kill_others),
        ("d", &after("c"), "sleep 0.2; cat {inputs.i} > {outputs.o}"),
        ("e", &after("c"), "sleep 0.3; cat {inputs.i} > {outputs.o}"),
    ]);
    p.run_with(&["--jobs", "2"]).expect_ran(&["a", "b", "c", "d", "e"]);
    assert_eq!(p.out("p/e/o"), "killed\n");
}

#[test]
fn a_pipe_or_a_socket_in_a_source_is_an_error_and_not_waited_for() {
    for (more, made) in [("inputs: { i: src }", "src/pipe"), ("uses: [lib]", "lib/pipe")] {
        let p = stage(more, "ls > {outputs.o}").file("src/a", "a").file("lib/a", "a");
        p.edit("stages:\n", "sources: { src: { path: src, type: any } }\nstages:\n");
        std::process::Command::new("mkfifo").arg(p.path(made)).status().unwrap();
        let answer = p.ask(&["run"]);
        assert!(answer.code != 0 && answer.err.contains(made), "{}", answer.err);
    }
}

fn fails(run: &str) -> String {
    let p = Pipeline::new().file("secret.txt", "secret").yaml(&format!(
        "pipeline: p\nstages:\n  s: {{ kind: command, run: '{run}', outputs: {{ o: table }} }}\n"
    ));
    let ran = p.run_with(&[]);
    assert_eq!(ran.outcome(), "failed", "{:#}", ran.0);
    assert!(p.path("secret.txt").exists());
    ran.error("s").to_owned()
}

#[test]
fn links_and_odd_things_in_outputs_are_refused() {
    for run in ["ln -s / {outputs.o}", "ln -s $PWD/secret.txt {outputs.o}"] {
        assert!(fails(run).contains("is not within the same output"), "{run}: {}", fails(run));
    }
    for run in ["mkfifo {outputs.o}", "mkdir {outputs.o}; mkfifo {outputs.o}/x"] {
        assert!(
            fails(run).contains("an artifact is made of plain files and folders"),
            "{run}: {}",
            fails(run)
        );
    }
    let dangling = fails("mkdir {outputs.o}; ln -s /nowhere {outputs.o}/x");
    assert!(dangling.contains("is a link to /nowhere"), "{dangling}");
    let climbing = fails(r#"mkdir {outputs.o}; echo x > "{outputs.o}/a\\b""#);
    assert!(climbing.contains("cannot be part of an artifact"), "{climbing}");
}

#[test]
fn a_relative_link_within_an_output_stays_a_link() {
    let p = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  s: { kind: command, run: 'mkdir {outputs.o}; echo x > {outputs.o}/a; ln -s a {outputs.o}/b', outputs: { o: any } }\n",
    );
    p.run();
    assert_eq!(p.out("p/s/o/b"), "x\n");
}

#[test]
fn a_command_that_puts_a_link_in_place_of_its_folder_loses_nobody_a_file() {
    let p = Pipeline::new().file("mine/keep.txt", "precious").yaml(
        "
pipeline: p
stages:
  first: { kind: command, run: 'touch {outputs.o}', outputs: { o: table } }
  s: { kind: command, sandbox: off, inputs: { i: first }, run: 'd=$(dirname {outputs.o}); rm -rf $d; ln -s $PWD/mine $d; echo x > {outputs.o}', outputs: { o: table } }
",
    );
    p.run();
    assert_eq!(p.out("p/s/o"), "x\n");
    assert_eq!(std::fs::read_to_string(p.path("mine/keep.txt")).unwrap(), "precious");
    let shown = std::fs::symlink_metadata(p.path("artifacts/out/p/s")).unwrap();
    assert!(shown.is_dir(), "a link out of the store is not what people are shown");
}

#[test]
fn a_log_cannot_steer_the_terminal() {
    let p = Pipeline::new().yaml(
        "pipeline: p\nstages:\n  s: { kind: command, run: \"printf '\\\\033[2Jgone\\\\n'; exit 1\", outputs: { o: table } }\n",
    );
    let answer = p.ask(&["run", "--color", "never"]);
    assert!(answer.err.contains("gone") && !answer.err.contains('\u{1b}'), "{:?}", answer.err);
}

#[test]
fn another_result_of_a_forced_run_is_told_and_replaces_the_first_one() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  dice: { kind: command, sandbox: off, run: 'cp salt {outputs.o}', outputs: { o: table } }
  below: { kind: command, inputs: { o: dice }, run: 'cp {inputs.o} {outputs.o}', outputs: { o: table } }
",
    );
    p.write("salt", "1");
    p.run();
    p.write("salt", "2");
    let answer = p.ask(&["run", "--force", "dice"]);
    assert!(answer.err.contains("not deterministic"), "{}", answer.err);
    assert_eq!((answer.code, p.out("p/below/o").as_str()), (0, "2"));
}
