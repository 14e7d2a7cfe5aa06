//! What outlives an attempt: checkpoints, and what a stage made that could not be collected.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::Pipeline;
use crate::helpers::{Ran, is_root, stage, stages};

#[test]
fn a_command_finds_its_checkpoint_in_the_next_attempt() {
    let count = "echo x >> {checkpoint}/n\ntest $(wc -l < $KILN_CHECKPOINT/n) -ge 3\ncp \"{checkpoint}/n\" {outputs.o}";
    let p = stages(&[
        ("plain", "retries: 2", count),
        ("below", "retries: 2\ncwd: deep/er", count),
        ("off", "retries: 2\nsandbox: off", count),
        ("strict", "retries: 2\nsandbox: strict\nenv: { OF: its own }", count),
        ("list", "retries: 2", "true"),
        ("input", "retries: 2\ninputs: { script: count }", "bash {inputs.script}"),
    ]);
    p.edit("run: |\n      true", "run: [bash, -c, 'echo x >> $0/n; test $(wc -l < $0/n) -ge 3; cp $0/n $1', '{checkpoint}', '{outputs.o}']");
    p.edit("'echo x >> $0/n; test", "'set -e; echo x >> $0/n; test");
    p.edit("stages:\n", "sources: { count: { path: count.sh, type: any } }\nstages:\n");
    p.write("count.sh", "set -e; echo x >> $KILN_CHECKPOINT/n; test $(wc -l < $KILN_CHECKPOINT/n) -ge 3; cp $KILN_CHECKPOINT/n $KILN_OUTPUT_o");
    p.run();
    for name in ["plain", "below", "off", "strict", "list", "input"] {
        assert_eq!(p.out(&format!("p/{name}/o")), "x\nx\nx\n", "{name}");
    }
}

#[test]
fn an_attempt_meets_nothing_of_the_one_before_but_the_checkpoint() {
    let p = stage(
        "retries: 1",
        "test ! -e {outputs.o} -a ! -e extra -a ! -e $TMPDIR/x\ntouch {outputs.o} extra $TMPDIR/x\ntest -e {checkpoint}/x || { touch {checkpoint}/x; exit 1; }",
    );
    p.run();
}

#[test]
fn a_script_may_empty_its_folder_for_temporary_files_and_move_things_out_of_it() {
    let script = "test -z \"$(ls -A $TMPDIR)\"\ntouch $TMPDIR/{run,key,script,metrics}\nrm -rf \"$TMPDIR\"/*\ncd $(mktemp -d)\necho x > made\nmv made \"$OLDPWD\"/{outputs.o}";
    let p = stages(&[
        ("a", "", script),
        ("b", "sandbox: strict\nenv: { OF: its own }", script),
        ("c", "sandbox: off", "rm -rf \"$TMPDIR\"/*\necho x > {outputs.o}"),
    ]);
    p.run();
    assert_eq!(p.out("p/b/o"), "x\n");
}

#[test]
fn a_checkpoint_lasts_from_run_to_run_for_its_key_alone_and_goes_with_success() {
    let p = stage(
        "params: { n: 3 }",
        "echo x >> {checkpoint}/n\ntest $(wc -l < {checkpoint}/n) -ge {params.n}\ncp {checkpoint}/n {outputs.o}",
    );
    assert_eq!(p.ask(&["run"]).code, 1);
    p.edit("n: 3", "n: 4");
    assert_eq!(p.ask(&["run"]).code, 1);
    p.edit("n: 4", "n: 3");
    assert_eq!(p.ask(&["run"]).code, 1);
    let answer = p.ask(&["run"]);
    assert!(answer.err.contains("resumes from its checkpoint"), "{}", answer.err);
    assert_eq!(p.out("p/s/o"), "x\nx\nx\n");
    // A forced run begins anew.
    assert_eq!(p.ask(&["run", "--force", "s"]).code, 1);
}

#[test]
fn what_cannot_be_part_of_an_output_fails_the_stage_is_named_and_kept_to_be_looked_at() {
    let cases = [
        ("mkdir {outputs.o}\nln -s /etc/hostname {outputs.o}/out", "/etc/hostname"),
        ("mkdir {outputs.o}\nln -s ../../script {outputs.o}/up", "../../script"),
        ("ln -s nothing {outputs.o}", "nothing"),
        ("mkfifo {outputs.o}", "o"),
        ("mkdir -p {outputs.o}/deep\nmkfifo {outputs.o}/deep/pipe", "deep/pipe"),
        (
            "mkdir {outputs.o}\npython3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"outputs/o/sock\")'",
            "sock",
        ),
    ];
    for (script, named) in cases {
        let p = stage("", &format!("echo x >> @ROOT@/ran\n{script}"));
        let ran = p.run_with(&[]);
        let error = ran.error("s");
        assert!(error.contains(named) && error.contains("stays in "), "{script}: {error}");
        let kept = error.split("stays in ").nth(1).unwrap().split([' ', ':', ';']).next().unwrap();
        assert!(std::path::Path::new(kept).join("outputs/o").symlink_metadata().is_ok(), "{script}: {error}");
        assert_eq!(p.states(&[]), ["s=run"]);
        p.run_with(&[]);
        assert_eq!(
            std::fs::read_to_string(p.path("ran")).unwrap(),
            "x\nx\n",
            "{script}: a refused output runs again"
        );
    }
}

#[test]
fn links_within_an_output_stay_links_and_links_into_inputs_become_bytes() {
    let p = stages(&[
        (
            "made",
            "",
            "mkdir -p {outputs.o}/d\necho x > {outputs.o}/d/a\nln -s a {outputs.o}/d/b\nln -s d/a {outputs.o}/c\nln -s d {outputs.o}/e",
        ),
        (
            "kept",
            "inputs: { i: made }",
            "mkdir {outputs.o}\ncp -a {inputs.i}/. {outputs.o}\nln -s ../../{inputs.i}/d/a {outputs.o}/input\nln -s ../../{inputs.i} {outputs.o}/folder",
        ),
        (
            "told",
            "inputs: { i: kept }",
            "cd {inputs.i}\nreadlink d/b c e > ../../{outputs.o}\ncat input folder/d/a >> ../../{outputs.o}\ntest ! -L input -a ! -L folder",
        ),
    ]);
    p.run();
    assert_eq!(p.out("p/told/o"), "a\nd/a\nd\nx\nx\n");
}

#[test]
fn empty_folders_and_the_bits_of_files_are_part_of_outputs_and_sources() {
    let p = stages(&[
        (
            "made",
            "inputs: { s: src }",
            "mkdir -p {outputs.o}/a/b {outputs.o}/c\ncp -r {inputs.s} {outputs.o}/s",
        ),
        ("told", "inputs: { i: made }", "cd {inputs.i}\nfind . -type d | sort > ../../{outputs.o}"),
        (
            "run",
            "inputs: { tool: tool }\noutputs: { o: any, copy: any }",
            "{inputs.tool} > {outputs.o}\ncp {inputs.tool} {outputs.copy}",
        ),
        ("again", "inputs: { tool: run.copy }", "{inputs.tool} > {outputs.o}"),
        ("plain", "outputs: { same: any }", "printf '#!/bin/sh\\necho tool\\n' > {outputs.same}"),
        (
            "bits",
            "inputs: { a: run.copy, b: plain }",
            "cmp {inputs.a} {inputs.b}\ntest -x {inputs.a} -a ! -x {inputs.b}\ntouch {outputs.o}",
        ),
    ]);
    p.edit(
        "stages:\n",
        "sources:\n  src: { path: src, type: any }\n  tool: { path: tool, type: any }\nstages:\n",
    );
    p.write("tool", "#!/bin/sh\necho tool\n");
    std::fs::create_dir_all(p.path("src/empty/deep")).unwrap();
    let chmod =
        |mode| std::fs::set_permissions(p.path("tool"), std::fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o755);
    p.run();
    assert_eq!(p.out("p/told/o"), ".\n./a\n./a/b\n./c\n./s\n./s/empty\n./s/empty/deep\n");
    assert_eq!(p.out("p/again/o"), "tool\n");
    let key = p.key("made");
    std::fs::remove_dir(p.path("src/empty/deep")).unwrap();
    assert_ne!(p.key("made"), key, "an empty folder of a source is in the key");
    chmod(0o644);
    let ran = p.run_with(&["--keep-going"]);
    assert_eq!(ran.ended("failed"), ["run"], "the bit of a source is in the key: {:#}", ran.0);
}

/// A `kiln` command as an ordinary user, who owns the project.
fn as_user(p: &Pipeline, words: &[&str]) -> Command {
    let kiln = assert_cmd::cargo::cargo_bin("kiln");
    if !is_root() {
        let mut command = Command::new(kiln);
        command.args(words).current_dir(p.root());
        return command;
    }
    // The folder of the build may be closed to others.
    let copy = p.path(".kiln");
    if !copy.exists() {
        std::fs::copy(kiln, &copy).unwrap();
        Command::new("chown").args(["-R", "65534:65534"]).arg(p.root()).status().unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(copy).args(words);
    command.current_dir(p.root()).env("HOME", p.root()).env("PATH", "/usr/bin:/bin");
    command
}

fn run_as_user(p: &Pipeline) -> Ran {
    let output = as_user(p, &["run", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran(serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}")))
}

#[test]
fn read_only_folders_in_an_output_are_kept_and_their_scratch_is_removed() {
    let p = stage("", "mkdir -p {outputs.o}/a/b\necho x > {outputs.o}/a/b/c\nchmod -R a-w {outputs.o}");
    let ran = run_as_user(&p);
    assert_eq!(ran.outcome(), "ok", "{:#}", ran.0);
    assert_eq!(p.out("p/s/o/a/b/c"), "x\n");
    let mut left = Vec::new();
    for folder in std::fs::read_dir(p.path("artifacts/work")).unwrap().flatten() {
        left.extend(std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()));
    }
    assert!(left.is_empty(), "{left:?}");
    // A failing stage and an unreadable folder leave nothing that cannot be removed either.
    let p = stage("", "mkdir -p {outputs.o}/a\nchmod a-rwx {outputs.o}/a {outputs.o}\nexit 1");
    assert_eq!(run_as_user(&p).outcome(), "failed");
    p.edit("exit 1", "exit 0");
    run_as_user(&p);
    p.edit("exit 0", "chmod u+rwx {outputs.o} {outputs.o}/a");
    let ran = run_as_user(&p);
    assert_eq!(ran.outcome(), "ok", "{:#}", ran.0);
}

#[test]
fn what_could_not_be_kept_for_want_of_permission_is_collected_by_the_next_run_if_untouched() {
    for touched in [false, true] {
        let p = stage(
            "",
            "echo x >> @ROOT@/ran\nmkdir {outputs.o}\necho made > {outputs.o}/x\nmkdir -p @ROOT@/artifacts/blobs\nchmod a-w @ROOT@/artifacts/blobs",
        );
        let first = run_as_user(&p);
        let error = first.error("s");
        assert!(error.contains("stays in "), "{error}");
        let kept = error.split("stays in ").nth(1).unwrap().split([' ', ':', ';']).next().unwrap().to_owned();
        Command::new("chmod").arg("u+w").arg(p.path("artifacts/blobs")).status().unwrap();
        if touched {
            std::fs::write(std::path::Path::new(&kept).join("outputs/o/x"), "lied\n").unwrap();
        }
        let second = run_as_user(&p);
        let ran = std::fs::read_to_string(p.path("ran")).unwrap();
        if touched {
            assert_eq!(ran, "x\nx\n", "what was touched is made again");
        } else {
            assert_eq!((second.outcome(), ran.as_str()), ("ok", "x\n"), "{:#}", second.0);
            assert_eq!(p.out("p/s/o/x"), "made\n");
        }
    }
}

#[test]
fn a_full_disk_fails_a_stage_and_the_next_run_converges() {
    let p = stage(
        "",
        "echo x >> @ROOT@/ran\nhead -c 300000 /dev/zero > {outputs.o}\ntest -e @ROOT@/room || cat /dev/zero > @ROOT@/artifacts/fill || true",
    );
    std::fs::create_dir(p.path("artifacts")).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(p.path("artifacts"))
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user cannot mount a small file system");
        return;
    }
    let full = p.ask(&["run"]);
    let _ = std::fs::remove_file(p.path("artifacts/fill"));
    p.write("room", "");
    let second = p.ask(&["run"]);
    let states = p.states(&[]);
    let size = std::fs::metadata(p.path("artifacts/out/p/s/o")).map(|meta| meta.len());
    Command::new("umount").arg("-l").arg(p.path("artifacts")).status().unwrap();
    assert_eq!((full.code, second.code), (1, 0), "{} {}", full.err, second.err);
    assert!(full.err.contains("stays in "), "{}", full.err);
    assert_eq!((states, size.unwrap()), (vec!["s=cached".to_owned()], 300_000));
}
