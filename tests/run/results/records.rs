//! What is recorded for a key: forced runs replace it, providers that change are told, nothing is left out.

use std::path::PathBuf;

use crate::common::Pipeline;
use crate::helpers::{copy_fixture, stages};

/// All files below a folder.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { files(entry.path()) } else { vec![entry.path()] })
        .collect()
}

#[test]
fn a_forced_run_with_other_bytes_replaces_the_record_and_says_both_digests() {
    let p = stages(&[
        ("a", "", "date +%s%N > {outputs.o}"),
        ("b", "inputs: { i: a }", "cp {inputs.i} {outputs.o}"),
    ]);
    p.run();
    let (before, old) = (p.out("p/a/o"), p.json(&["show", "a"])["digest"].as_str().unwrap().to_owned());
    let answer = p.ask(&["run", "--force", "a"]);
    let new = p.json(&["show", "a"])["digest"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    for text in ["not deterministic", "this result replaces it", &old[..8], &new[..8]] {
        assert!(answer.err.contains(text), "no {text} in {}", answer.err);
    }
    let after = p.out("p/a/o");
    assert_ne!(before, after);
    assert!(p.ask(&["show", "a"]).good().contains(after.trim()), "show gives the new bytes");
    assert_eq!(p.out("p/b/o"), after, "what is below has the new bytes");
    assert_eq!(p.states(&[]), ["a=cached", "b=cached"]);
    assert!(p.ask(&["run", "--locked"]).code == 0, "the lock file has the new digests");
    let previous = files(p.path("artifacts/actions"))
        .into_iter()
        .find(|path| path.display().to_string().ends_with("previous"));
    let previous = std::fs::read_to_string(previous.expect("the old action stays")).unwrap();
    assert!(previous.contains(&old), "{previous}");
}

#[test]
fn a_forced_run_with_the_same_bytes_says_nothing_and_leaves_what_is_below_alone() {
    let p = stages(&[
        ("a", "", "echo same > {outputs.o}"),
        ("b", "inputs: { i: a }", "cp {inputs.i} {outputs.o}"),
    ]);
    p.run();
    let answer = p.ask(&["run", "--force", "a"]);
    assert!(!answer.err.contains("deterministic"), "{}", answer.err);
    p.run_with(&["--force", "a"]).expect_ran(&["a"]);
    assert!(
        !files(p.path("artifacts/actions"))
            .iter()
            .any(|path| path.display().to_string().ends_with("previous"))
    );
}

#[test]
fn a_forced_folder_and_the_bits_of_its_files_are_replaced_as_well() {
    let p = stages(&[
        ("a", "sandbox: off", "mkdir {outputs.o}\ncp -a now {outputs.o}/x"),
        ("b", "inputs: { i: a }", "if test -x {inputs.i}/x; then echo yes; else echo no; fi > {outputs.o}"),
    ]);
    p.write("now", "x");
    p.run();
    assert_eq!(p.out("p/b/o"), "no\n");
    std::process::Command::new("chmod").arg("+x").arg(p.path("now")).status().unwrap();
    let ran = p.run_with(&["--force", "a"]);
    assert_eq!((ran.outcome(), ran.ended("ran")), ("ok", vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(p.out("p/b/o"), "yes\n");
}

#[test]
fn a_forced_stage_that_fails_leaves_the_record_as_it_was() {
    let p = stages(&[("a", "sandbox: off", "test ! -e broken\ncp now {outputs.o}")]);
    p.write("now", "first");
    p.run();
    p.write("broken", "");
    assert_eq!(p.ask(&["run", "--force", "a"]).code, 1);
    assert_eq!((p.states(&[]), p.out("p/a/o")), (vec!["a=cached".to_owned()], "first".to_owned()));
}

/// A pipeline with a stage `made` of the kind `parts`, and what stands below it.
fn parts(below: &str) -> Pipeline {
    let p = Pipeline::new()
        .yaml(&format!("pipeline: p\nproviders: [./parts.py]\nstages:\n  made: {{ kind: parts }}\n{below}"));
    copy_fixture(&p, "parts.py", "parts.py");
    p
}

#[test]
fn a_provider_that_adds_an_output_without_a_new_revision_makes_its_stage_run_once() {
    let p = parts("");
    p.run();
    for outputs in ["one two", "one two three", "zero one two three"] {
        p.write("outputs", outputs);
        p.run().expect_ran(&["made"]);
        p.run().expect_ran(&[]);
        for name in outputs.split(' ') {
            assert_eq!(p.out(&format!("p/made/{name}")), format!("{name} parts\n"));
        }
    }
}

#[test]
fn what_reads_an_output_or_gives_an_input_that_a_provider_dropped_is_an_error() {
    let p = parts(
        "  below: { kind: command, inputs: { i: made.two }, run: 'cp {inputs.i} {outputs.o}', outputs: { o: any } }\n",
    );
    p.write("outputs", "one two");
    p.run().expect_ran(&["made", "below"]);
    p.write("outputs", "one");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 3, "{}", answer.err);
    assert!(answer.err.contains("two") && answer.err.contains("Nothing was run"), "{}", answer.err);

    let p = parts("  fed: { kind: parts, inputs: { x: made } }\n");
    p.write("inputs", "x?");
    p.run();
    p.write("inputs", "");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 3, "{}", answer.err);
    assert!(answer.err.contains("`x`"), "{}", answer.err);
}

#[test]
fn an_input_that_a_provider_now_demands_is_an_error_where_it_is_missing() {
    let p = parts("");
    p.run();
    p.write("inputs", "x");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 3, "{}", answer.err);
    assert!(answer.err.contains("`x`"), "{}", answer.err);
    p.write("inputs", "x?");
    p.run();
}

#[test]
fn what_was_made_from_outputs_that_were_lost_and_come_out_as_others_is_made_again() {
    let p = stages(&[
        ("root", "", "date +%s%N > {outputs.o}"),
        ("kept", "inputs: { i: root }", "cp {inputs.i} {outputs.o}"),
        ("below", "inputs: { i: kept }", "cat < {inputs.i} > {outputs.o}"),
        ("late", "inputs: { i: root }", "cat {inputs.i} > {outputs.o}"),
    ]);
    p.run().expect_ran(&["root", "kept", "below", "late"]);
    // The blob of the root goes, and only `late` needs it.
    let blob = p.path("artifacts/out/p/root/o").canonicalize().unwrap();
    let copies = files(p.path("artifacts/blobs"));
    let bytes = std::fs::read(&blob).unwrap();
    for copy in copies.iter().filter(|copy| std::fs::read(copy).unwrap() == bytes) {
        std::fs::remove_file(copy).unwrap();
    }
    p.edit("cat {inputs.i}", "cat {inputs.i} {inputs.i}");
    let answer = p.ask(&["run"]);
    assert_eq!(answer.code, 0, "{}", answer.err);
    let root = p.out("p/root/o");
    assert_eq!(p.out("p/late/o"), root.repeat(2));
    assert_eq!((p.out("p/kept/o"), p.out("p/below/o")), (root.clone(), root));
    p.run().expect_ran(&[]);
}
