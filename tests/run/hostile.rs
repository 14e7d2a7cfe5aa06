//! Commands that do what they should not.

use crate::common::Pipeline;

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
    assert!(ran.error("vandal").contains("wrote to its input `i`"), "{}", ran.error("vandal"));
    p.write("calm", "");
    p.run().expect_ran(&["made", "vandal"]);
    assert_eq!(p.out("p/vandal/o"), "precious\n");
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
