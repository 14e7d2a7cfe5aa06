//! A stop that was asked for: exit 0 of a command is no success then, `done` of a provider is.

use crate::helpers::{odd, stage, stages};

/// Commands that trap a stop and exit with 0, each in its own way, with further keys of the stage.
const TRAPS: [(&str, &str); 6] = [
    (
        "",
        "trap 'exit 0' TERM\nseq 3 > {outputs.o}\ntouch @ROOT@/begun\nwhile ! test -e @ROOT@/calm; do sleep 0.02; done",
    ),
    (
        "shell: sh",
        "trap 'exit 0' TERM\nseq 3 > {outputs.o}\ntouch @ROOT@/begun\nwhile ! test -e @ROOT@/calm; do sleep 0.02; done",
    ),
    (
        "sandbox: off",
        "trap 'exit 0' TERM\nseq 3 > {outputs.o}\ntouch begun\nwhile ! test -e calm; do sleep 0.02; done",
    ),
    // A program below the shell that ends well when it is told to.
    (
        "",
        "python3 -c 'import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint(1, flush=True)\nopen(\"@ROOT@/begun\", \"w\").close()\nwhile not os.path.exists(\"@ROOT@/calm\"): time.sleep(.02)' > {outputs.o}",
    ),
    // The whole pipeline is told, and its reader ends well with what it has.
    (
        "",
        "(trap 'exit 0' TERM; seq 3; touch @ROOT@/begun; while ! test -e @ROOT@/calm; do sleep 0.02; done) | (trap '' TERM; cat) > {outputs.o} || true",
    ),
    // What it leaves behind ends well, too.
    (
        "",
        "trap 'sleep 0.1 & exit 0' TERM\nseq 3 > {outputs.o}\ntouch @ROOT@/begun\nwhile ! test -e @ROOT@/calm; do sleep 0.02; done",
    ),
];

#[test]
fn a_command_that_traps_a_stop_and_exits_with_0_is_not_cached() {
    for (i, (more, script)) in TRAPS.into_iter().enumerate() {
        let p = stage(more, script);
        let word = ["INT", "TERM", "HUP"][i % 3];
        let (ran, code) = p.interrupt(word);
        assert_eq!((ran.outcome(), code), ("interrupted", Some(130)), "{script}: {:#}", ran.0);
        assert_eq!(p.states(&[]), ["s=run"], "{script}");
        p.write("calm", "");
        p.run().expect_ran(&["s"]);
    }
}

#[test]
fn a_command_that_is_out_of_time_and_exits_with_0_failed() {
    let p = stage("timeout: 300ms", "trap 'exit 0' TERM\nseq 3 > {outputs.o}\nwhile :; do sleep 0.02; done");
    let ran = p.run_with(&[]);
    assert!(ran.error("s").contains("not done within its `timeout` of 0.3 s"), "{}", ran.error("s"));
    assert_eq!(p.states(&[]), ["s=run"]);
}

#[test]
fn what_had_ended_before_a_stop_is_kept() {
    let p = stages(&[
        ("early", "", "echo 1 > {outputs.o}"),
        (
            "late",
            "inputs: { i: early }",
            "touch @ROOT@/begun\ntest -e @ROOT@/calm || sleep 300\ncp {inputs.i} {outputs.o}",
        ),
    ]);
    let (ran, _) = p.interrupt("INT");
    assert_eq!(ran.ended("ran"), ["early"], "{:#}", ran.0);
    assert_eq!(p.states(&[]), ["early=cached", "late=run"]);
    p.write("calm", "");
    p.run().expect_ran(&["late"]);
}

#[test]
fn a_provider_that_says_done_after_a_stop_is_kept_and_one_that_only_exits_with_0_is_not() {
    for (how, ends, state) in [("finish", "ran", "s=cached"), ("quit", "skipped", "s=run")] {
        let p = odd(how, "");
        let (ran, _) = p.interrupt("INT");
        assert_eq!(ran.ended(ends), ["s"], "{how}: {:#}", ran.0);
        assert_eq!(p.states(&[]), [state], "{how}");
    }
}

#[test]
fn a_provider_that_never_says_done_failed() {
    let ran = odd("silent", "").run_with(&[]);
    assert!(ran.error("s").contains("never said that it was done"), "{}", ran.error("s"));
}
