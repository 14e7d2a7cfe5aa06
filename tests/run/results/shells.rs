//! Lines that fail: the shell of a command stops at the first of them.

use crate::helpers::{stage, stages};

/// Scripts of which one part fails, and the exit code that tells.
const FAILING: [(&str, &str, u32); 14] = [
    ("", "seq 5 > {outputs.o}\nno-such-program >> {outputs.o}\necho done >> {outputs.o}", 127),
    ("", "(seq 3; exit 7) | cat > {outputs.o}", 7),
    ("", "(seq 3; exit 7) | cat | cat > {outputs.o}\ntrue", 7),
    ("", "x=$(exit 4)\necho \"$x\" > {outputs.o}", 4),
    ("", "x=$(false; echo fine)\necho \"$x\" > {outputs.o}", 1),
    ("", "(false; echo fine) > {outputs.o}", 1),
    ("", "f() { false; echo fine; }\nf > {outputs.o}", 1),
    ("", "for i in 1 2; do cat no-such-file; done > {outputs.o}\necho done", 1),
    ("", "touch {outputs.o}\ncd nowhere\ntouch x", 1),
    ("", "touch {outputs.o}\n{ false; echo fine; }", 1),
    ("shell: bash -e", "touch {outputs.o}\nfalse\ntrue", 1),
    ("shell: sh -e", "touch {outputs.o}\nfalse\ntrue", 1),
    ("shell: [bash, -o, pipefail]", "touch {outputs.o}\nexit 6 | cat", 6),
    ("cwd: sub", "touch {outputs.o}\ntest -e no-such-file\ntrue", 1),
];

#[test]
fn a_failing_line_a_part_of_a_pipe_or_of_a_substitution_fails_the_stage() {
    let names: Vec<_> = (0..FAILING.len()).map(|i| format!("s{i:02}")).collect();
    let all: Vec<_> =
        names.iter().zip(FAILING).map(|(name, (more, script, _))| (name.as_str(), more, script)).collect();
    let p = stages(&all);
    let ran = p.run_with(&["--keep-going"]);
    for (name, (_, script, code)) in names.iter().zip(FAILING) {
        let error = ran.error(name);
        assert!(error.starts_with(&format!("exit code {code}")), "{script}: {error}");
    }
    assert!(p.states(&[]).iter().all(|state| state.ends_with("=run")));
}

#[test]
fn another_shell_is_asked_for_by_name_and_is_in_the_key() {
    let script = "false\necho fine > {outputs.o}";
    let p = stage("shell: sh", script);
    p.run();
    assert_eq!(p.out("p/s/o"), "fine\n");
    let mut keys = vec![p.key("s")];
    for shell in ["bash", "bash -eo pipefail", "[python3]"] {
        p.write("kiln.yaml", &format!("pipeline: p\nstages:\n  s: {{ kind: command, shell: {shell}, outputs: {{ o: any }}, run: 'true' }}\n"));
        keys.push(p.key("s"));
    }
    // The usual shell is not another one when it is named.
    p.edit("shell: [python3], ", "");
    assert_eq!(p.key("s"), keys[2]);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}

#[test]
fn a_script_for_another_program_reads_its_values_from_the_environment() {
    let p = stage(
        "shell: python3\nparams: { n: 007 }",
        "import os\nopen(os.environ['KILN_OUTPUT_o'], 'w').write(os.environ['KILN_PARAM_n'])",
    );
    p.run();
    assert_eq!(p.out("p/s/o"), "007");
}

#[test]
fn a_missing_shell_is_told_before_anything_runs() {
    let p = stage("", "echo x > {outputs.o}");
    let mut kiln = p.kiln(&["run"]);
    let output = kiln.env("PATH", p.root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("stage `s` runs in the shell `bash`") && said.contains("`shell: sh`"), "{said}");
    assert_eq!(p.states(&[]), ["s=run"]);
}

#[test]
fn a_producer_that_its_reader_left_is_explained() {
    let ran = stage("", "yes | head -n 1 > {outputs.o}").run_with(&[]);
    let error = ran.error("s");
    assert!(
        error.starts_with("exit code 141") && error.contains("`head`") && error.contains("SIGPIPE"),
        "{error}"
    );
    let p = stage("", "(yes || test $? = 141) | head -n 1 > {outputs.o}");
    p.run();
    assert_eq!(p.out("p/s/o"), "y\n");
}

#[test]
fn a_script_may_be_longer_than_a_command_line() {
    let long = "x".repeat(300_000);
    let p = stage("", &format!("x={long}\necho ${{#x}} > {{outputs.o}}"));
    p.run();
    assert_eq!(p.out("p/s/o"), "300000\n");
}
