//! What does not count: ignored files, and descriptions of providers that may have changed.

use std::fs;

use crate::common::Pipeline;
use crate::helpers::{copy_fixture, stage, stages};

#[test]
fn caches_that_a_stage_leaves_under_uses_make_nothing_stale() {
    // In the execution folder, and in the project itself, where `sandbox: off` puts them.
    for sandbox in ["folder", "off"] {
        let p = stage(&format!("sandbox: {sandbox}\nuses: [lib, main.py]"), "python3 main.py > {outputs.o}");
        p.write("lib/helper.py", "X = 7\n");
        p.write("main.py", "from lib.helper import X\nprint(X)\n");
        let answer = p.ask(&["run"]);
        assert!(answer.code == 0 && !answer.err.contains("changed while"), "{}", answer.err);
        assert_eq!(p.states(&[]), ["s=cached"]);
        for name in [
            "lib/__pycache__/x.pyc",
            "lib/old.pyc",
            "lib/.DS_Store",
            "lib/helper.py~",
            "lib/.helper.py.swp",
            "lib/.ipynb_checkpoints/a",
        ] {
            p.write(name, "x");
            assert_eq!(p.states(&[]), ["s=cached"], "{name}");
        }
        p.write("lib/other.py", "");
        assert_eq!(p.states(&[]), ["s=run"]);
    }
}

#[test]
fn an_editors_dangling_lock_link_in_a_source_or_under_uses_stops_nothing() {
    let p =
        stage("inputs: { s: src, g: globbed }\nuses: [lib]", "ls -A {inputs.s} {inputs.g} lib > {outputs.o}");
    p.edit(
        "stages:\n",
        "sources:\n  src: { path: src, type: any }\n  globbed: { path: 'src/*', type: any }\nstages:\n",
    );
    p.write("src/a.txt", "a");
    p.write("lib/a.sh", "a");
    p.run();
    for folder in ["src", "lib"] {
        std::os::unix::fs::symlink("me@host.1234:1", p.path(&format!("{folder}/.#a.txt"))).unwrap();
        fs::create_dir_all(p.path(&format!("{folder}/.git"))).unwrap();
    }
    assert_eq!(p.states(&[]), ["s=cached"]);
    p.run_with(&["--force", "s"]).expect_ran(&["s"]);
    assert!(!p.out("p/s/o").contains(".#"), "{}", p.out("p/s/o"));
}

#[test]
fn the_pipeline_and_the_project_say_what_else_does_not_count_and_git_says_nothing() {
    let p = stage(
        "inputs: { s: src }\nuses: [lib]",
        "find . -name '*.log' -o -name '*.tmp' -o -name '*.keep.pyc' | sort > {outputs.o}",
    );
    p.edit(
        "stages:\n",
        "ignore: ['*.log', '!*.keep.pyc']\nsources:\n  src: { path: src, type: any }\nstages:\n",
    );
    p.write(".kilnignore", "*.tmp\n# a comment\nbuild/\n");
    p.write(".gitignore", "*\n");
    for name in [
        "src/a",
        "src/x.log",
        "src/x.tmp",
        "src/build/x",
        "src/x.keep.pyc",
        "src/deep/a",
        "lib/a",
        "lib/x.log",
    ] {
        p.write(name, "x");
    }
    p.run();
    assert_eq!(p.out("p/s/o"), "./inputs/s/x.keep.pyc\n");
    for name in ["src/x.log", "src/deep/y.tmp", "src/build/z", "lib/y.tmp"] {
        p.write(name, "other");
    }
    assert_eq!(p.states(&[]), ["s=cached"]);
    p.write("src/b", "counts whatever git ignores");
    assert_eq!(p.states(&[]), ["s=run"]);
    p.write(".kilnignore", "a{\n[z-a]\n");
    assert_eq!(p.ask(&["plan"]).code, 3);
}

#[test]
fn a_source_that_holds_the_store_is_an_error_at_load() {
    for path in [".", "artifacts", "./", "./artifacts"] {
        let p = stage("inputs: { s: src }", "ls {inputs.s} > {outputs.o}");
        p.edit("stages:\n", &format!("sources:\n  src: {{ path: '{path}', type: any }}\nstages:\n"));
        fs::create_dir_all(p.path("artifacts/blobs")).unwrap();
        let answer = p.ask(&["plan"]);
        assert_eq!(answer.code, 3, "{path}: {}", answer.err);
        assert!(answer.err.contains("`src`"), "{path}: {}", answer.err);
    }
}

#[test]
fn a_provider_that_is_a_script_is_asked_again_whatever_it_imports() {
    let p = Pipeline::new().yaml("pipeline: p\nproviders: [./parts.py]\nstages:\n  s: { kind: parts }\n");
    copy_fixture(&p, "parts.py", "parts.py");
    let outputs = |p: &Pipeline| p.json(&["plan"])["stages"][0]["outputs"].as_object().unwrap().len();
    assert_eq!(outputs(&p), 1);
    p.run();
    // The file itself stays as it is; what it reads says something else now.
    p.write("outputs", "one two");
    assert_eq!(outputs(&p), 2);
    p.run();
    p.write("outputs", "one two three");
    assert_eq!((outputs(&p), p.states(&[])), (3, vec!["s=run".to_owned()]));
}

#[test]
fn an_entry_point_that_is_upgraded_is_asked_again() {
    // The entry point is a shell script that stays; the program behind it is another one.
    let p = Pipeline::new().yaml("pipeline: p\nproviders: [./provide]\nstages:\n  s: { kind: parts }\n");
    p.write("provide", "#!/bin/sh\nexec python3 \"$(dirname \"$0\")/venv/parts.py\" \"$@\"\n");
    std::process::Command::new("chmod").arg("+x").arg(p.path("provide")).status().unwrap();
    fs::create_dir(p.path("venv")).unwrap();
    copy_fixture(&p, "parts.py", "venv/parts.py");
    p.run();
    let key = p.key("s");
    let text = fs::read_to_string(p.path("venv/parts.py")).unwrap();
    p.write("venv/parts.py", &text.replace("\"revision\": 1", "\"revision\": 2"));
    assert_ne!(p.key("s"), key);
    assert_eq!(p.states(&[]), ["s=run"]);
}

#[test]
fn a_source_that_changes_while_a_command_runs_leaves_its_result_to_the_old_key() {
    let p = stages(&[(
        "s",
        "inputs: { t: text }\nuses: [lib]",
        "echo more >> @ROOT@/text.txt\necho more >> @ROOT@/lib/a\ncat {inputs.t} lib/a > {outputs.o}",
    )]);
    p.edit("stages:\n", "sources:\n  text: { path: text.txt, type: any }\nstages:\n");
    p.write("text.txt", "one\n");
    p.write("lib/a", "two\n");
    let before = p.key("s");
    p.run();
    assert_eq!(p.out("p/s/o"), "one\ntwo\n", "it saw what its key says");
    assert_eq!(p.states(&[]), ["s=run"]);
    p.write("text.txt", "one\n");
    p.write("lib/a", "two\n");
    assert_eq!(p.planned("s"), (before, "cached".to_owned()));
}
