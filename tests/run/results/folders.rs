//! The execution folder: a command sees what it declared, at places that are the same everywhere.

use std::fs;
use std::process::Command;

use crate::common::Pipeline;
use crate::helpers::{is_root, stage, stages};

/// A pipeline whose stages write how they were called into what they make, as many tools do.
const TALKATIVE: [(&str, &str, &str); 5] = [
    (
        "script",
        "inputs: { i: words }",
        "tool() { echo \"@CL $0 $*\"; }\ntool {inputs.i} {outputs.o} \"{inputs.i}\" $KILN_INPUT_i $BASH_SOURCE > {outputs.o}\ncat {inputs.i} >> {outputs.o}",
    ),
    (
        "below",
        "inputs: { i: script }\ncwd: a/b",
        "echo $0 {inputs.i} {outputs.o} {checkpoint} > {outputs.o}\ncat {inputs.i} >> {outputs.o}",
    ),
    (
        "python",
        "inputs: { i: below, w: words }\nuses: [show.py]",
        "python3 show.py {inputs.i} {inputs.w} {outputs.o}",
    ),
    ("exec", "inputs: { i: python }\nuses: [show.py]", "EXEC"),
    (
        "strict",
        "inputs: { i: exec }\nsandbox: strict",
        "echo $0 {inputs.i} > {outputs.o}\nls -R >> {outputs.o}",
    ),
];

fn talkative() -> Pipeline {
    let p = stages(&TALKATIVE);
    p.edit(
        "run: |\n      EXEC",
        "run: [python3, show.py, '{inputs.i}', '{params.x}', '{outputs.o}']\n    params: { x: '{inputs.i}' }",
    );
    p.edit("stages:\n", "sources:\n  words: { path: words.txt, type: any }\nstages:\n");
    p.write("words.txt", "some words\n");
    p.write("show.py", "import sys\nopen(sys.argv[-1], 'w').write(' '.join(sys.argv) + chr(10))\n");
    p
}

#[test]
fn a_pipeline_gives_the_same_bytes_and_the_same_lock_file_in_any_folder() {
    let (p, q) = (talkative(), talkative());
    p.run();
    // Deeper, with a space, forced and through another store: nothing of that may be seen.
    let deep = q.path("my project/and deeper");
    fs::create_dir_all(&deep).unwrap();
    for name in ["kiln.yaml", "words.txt", "show.py"] {
        fs::copy(q.path(name), deep.join(name)).unwrap();
    }
    let mut kiln = q.kiln(&["--store", q.path("store of mine").to_str().unwrap(), "run"]);
    kiln.current_dir(&deep).assert().success();
    let lock = |folder: &std::path::Path| fs::read_to_string(folder.join("kiln.lock")).unwrap();
    assert_eq!(lock(p.root()), lock(&deep));
    let before = p.digests();
    let names: Vec<_> = TALKATIVE.iter().flat_map(|(name, ..)| ["--force", name]).collect();
    let answer = p.ask(&[&["run"][..], &names].concat());
    assert!(answer.code == 0 && !answer.err.contains("deterministic"), "{}", answer.err);
    assert_eq!(p.digests(), before);
    assert!(p.out("p/script/o").starts_with("@CL "), "{}", p.out("p/script/o"));
    assert!(!p.out("p/strict/o").contains(&p.root().display().to_string()));
}

#[test]
fn a_script_that_was_not_declared_is_not_there_and_the_error_names_the_line_to_add() {
    for (more, run, wanted) in [
        ("", "bash tools/make.sh {outputs.o}", "uses: [tools/make.sh]"),
        ("", "tools/make.sh {outputs.o}", "uses: [tools/make.sh]"),
        ("", "cat data.txt > {outputs.o}", "uses: [data.txt]"),
        ("", "bash ./tools/make.sh --in=data.txt {outputs.o}", "uses: [tools/make.sh, data.txt]"),
        ("uses: [data.txt]", "bash tools/make.sh {outputs.o}", "uses: [tools/make.sh]"),
        ("cwd: tools", "bash make.sh {outputs.o}", "uses: [tools/make.sh]"),
    ] {
        let p = stage(more, run);
        p.write("tools/make.sh", "echo x > ${!#}");
        p.write("data.txt", "data");
        let ran = p.run_with(&[]);
        assert!(ran.error("s").contains(wanted), "{run}: {}", ran.error("s"));
        // With that line it runs, and an edit of what it names is seen.
        p.write(
            "kiln.yaml",
            &fs::read_to_string(p.path("kiln.yaml"))
                .unwrap()
                .replace("    run:", "    uses: [tools, data.txt]\n    run:")
                .replacen("    uses: [data.txt]\n", "", 1),
        );
        Command::new("chmod").arg("+x").arg(p.path("tools/make.sh")).status().unwrap();
        p.run();
        p.write("tools/make.sh", "echo y > ${!#}");
        p.write("data.txt", "data 2");
        assert_eq!(p.states(&[]), ["s=run"], "{run}");
    }
}

#[test]
fn a_command_sees_what_it_declared_and_nothing_else() {
    let p = stage(
        "inputs: { i: src, moved: { from: src, at: data/raw } }\nuses: [lib, one.txt]\noutputs: { o: any, left: { type: any, path: made/left.txt } }",
        "find . -type f | sort > {outputs.o}\nfind .. -maxdepth 1 | sort >> {outputs.o}\ngit rev-parse 2>/dev/null && exit 1\ntouch made/left.txt",
    );
    p.edit("stages:\n", "sources:\n  src: { path: src, type: any }\nstages:\n");
    for name in ["src/a", "src/b", "lib/x/y", "one.txt", "other.txt", ".hidden", ".git/HEAD"] {
        p.write(name, "x");
    }
    p.run();
    let seen = p.out("p/s/o");
    for name in
        ["./inputs/i/a", "./inputs/i/b", "./data/raw/a", "./lib/x/y", "./one.txt", "../checkpoint", "../tmp"]
    {
        assert!(seen.contains(&format!("{name}\n")), "no {name} in {seen}");
    }
    assert!(!seen.contains("other") && !seen.contains("hidden") && !seen.contains("kiln.yaml"), "{seen}");
}

#[test]
fn an_existing_script_runs_unedited_with_at_path_and_cwd() {
    let p = stage(
        "inputs: { data: { from: data, at: exp/data/prepared.csv } }\nuses: [exp/train.py, exp/lib]\noutputs: { model: { type: any, path: exp/model.pkl }, plots: { type: any, path: exp/plots } }\ncwd: exp",
        "python3 train.py",
    );
    p.edit("stages:\n", "sources:\n  data: { path: big/data.csv, type: any }\nstages:\n");
    p.write("big/data.csv", "1,2\n");
    p.write("exp/lib/sibling.py", "NAME = 'sibling'\n");
    p.write(
        "exp/train.py",
        "import os\nfrom lib.sibling import NAME\nos.mkdir('plots')\nopen('plots/a.txt', 'w').write(NAME)\nopen('model.pkl', 'w').write(open('data/prepared.csv').read())\n",
    );
    p.run();
    assert_eq!((p.out("p/s/model").as_str(), p.out("p/s/plots/a.txt").as_str()), ("1,2\n", "sibling"));
    assert!(!p.path("exp/model.pkl").exists(), "the project itself stays as it was");
}

#[test]
fn two_claims_on_one_place_are_an_error_at_load() {
    for (more, words) in [
        ("inputs: { a: { from: x, at: d }, b: { from: x, at: d/e } }", "one inside the other"),
        ("inputs: { a: { from: x, at: outputs/o } }", "the same place"),
        ("uses: [lib]\noutputs: { o: { type: any, path: lib/made } }", "lib/made"),
        ("inputs: { a: { from: x, at: ../up } }", "../up"),
        ("inputs: { a: { from: x, at: /abs } }", "/abs"),
    ] {
        let p = stage(more, "true").file("x", "x").file("lib/a", "a");
        p.edit("stages:\n", "sources:\n  x: { path: x, type: any }\nstages:\n");
        let answer = p.ask(&["run"]);
        assert!(answer.code == 3 && answer.err.contains(words), "{more}: {}", answer.err);
    }
}

#[test]
fn a_strict_command_reads_neither_the_project_nor_the_store_nor_a_neighbour() {
    let p = stages(&[
        ("made", "", "echo made > {outputs.o}"),
        (
            "s",
            "sandbox: strict\ninputs: { i: made }\nuses: [own.txt]",
            "cat {inputs.i} own.txt > {outputs.o}\nfor f in @ROOT@/secret.txt @ROOT@/kiln.yaml @ROOT@/artifacts/blobs @ROOT@/artifacts/actions @ROOT@/own.txt; do\n  if cat $f/* $f > /dev/null 2>&1 || ls $f/ > /dev/null 2>&1; then echo can read $f >> {outputs.o}; fi\n  if (echo x > $f/new) 2> /dev/null || (echo x >> $f) 2> /dev/null; then echo can write $f >> {outputs.o}; fi\ndone\necho x >> {checkpoint}/c\necho x > $TMPDIR/t\npython3 -c 'print(\"tools work\")' >> {outputs.o}",
        ),
    ]);
    p.write("secret.txt", "secret");
    p.write("own.txt", "own\n");
    p.run();
    assert_eq!(p.out("p/s/o"), "made\nown\ntools work\n");
    // A stricter sandbox changes nothing of what is made, so it is not in the key.
    p.edit("sandbox: strict", "sandbox: folder");
    assert_eq!(p.states(&[]), ["made=cached", "s=cached"]);
    p.edit("sandbox: folder", "sandbox: off");
    assert_eq!(p.states(&[]), ["made=cached", "s=run"]);
}

#[test]
fn without_a_sandbox_a_command_runs_in_the_project_with_absolute_paths() {
    let p = stage(
        "sandbox: off\ncwd: sub",
        "echo {outputs.o} > {outputs.o}\npwd >> {outputs.o}\ncat ../beside.txt >> {outputs.o}",
    );
    p.write("beside.txt", "beside\n");
    fs::create_dir(p.path("sub")).unwrap();
    p.run();
    let out = p.out("p/s/o");
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].starts_with('/'), "{out}");
    assert_eq!(lines[1], fs::canonicalize(p.path("sub")).unwrap().display().to_string());
    assert_eq!(lines[2], "beside");
}

#[test]
fn inputs_are_plain_files_that_can_be_archived_imported_and_appended_to() {
    let p = stages(&[
        (
            "made",
            "",
            "mkdir -p {outputs.o}/pkg\necho 'from pkg.sibling import X' > {outputs.o}/main.py\necho 'print(X)' >> {outputs.o}/main.py\necho 'X = 7' > {outputs.o}/pkg/sibling.py",
        ),
        (
            "tar",
            "inputs: { i: made, s: src }",
            "tar -cf t.tar {inputs.i} {inputs.s}\ntar -tvf t.tar | cut -c1-10 | sort -u > {outputs.o}",
        ),
        ("import", "inputs: { i: made }", "python3 {inputs.i}/main.py > {outputs.o}"),
        (
            "append",
            "inputs: { i: made, s: src }",
            "cp -r {inputs.i} copy\necho more >> copy/main.py\ncp {inputs.s} copy.txt\necho more >> copy.txt\necho more >> {inputs.s}\necho more >> {inputs.i}/main.py\ncat copy.txt {inputs.s} > {outputs.o}",
        ),
    ]);
    p.edit("stages:\n", "sources:\n  src: { path: src.txt, type: any }\nstages:\n");
    p.write("src.txt", "src\n");
    if is_root() {
        // As an ordinary user, whom modes bind.
        let kiln = assert_cmd::cargo::cargo_bin("kiln");
        fs::copy(kiln, p.path(".kiln")).unwrap();
        Command::new("chown").args(["-R", "65534:65534"]).arg(p.root()).status().unwrap();
        let mut user = Command::new("setpriv");
        user.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(p.path(".kiln")).arg("run");
        let output =
            user.current_dir(p.root()).env("HOME", p.root()).env("PATH", "/usr/bin:/bin").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    } else {
        p.run();
    }
    assert_eq!(p.out("p/tar/o"), "-rw-r--r--\ndrwxr-xr-x\n");
    assert_eq!(p.out("p/import/o"), "7\n");
    assert_eq!(p.out("p/append/o"), "src\nmore\nsrc\nmore\n");
    // Nobody else's bytes have changed.
    assert_eq!(fs::read_to_string(p.path("src.txt")).unwrap(), "src\n");
    assert!(p.states(&[]).iter().all(|state| state.ends_with("=cached")));
    assert!(!p.out("p/made/o/main.py").contains("more"));
}

#[test]
fn a_moved_project_works_and_its_store_is_ignored_by_git() {
    let p =
        stages(&[("a", "", "echo a > {outputs.o}"), ("b", "inputs: { i: a }", "cp {inputs.i} {outputs.o}")]);
    p.run();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved here");
    Command::new("cp").arg("-a").arg(p.root()).arg(&moved).status().unwrap();
    let old = p.root().display().to_string();
    drop(p);
    let kiln = |words: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("kiln").unwrap();
        command.args(words).current_dir(&moved).env_remove("KILN_STORE").output().unwrap()
    };
    let said = String::from_utf8(kiln(&["run"]).stderr).unwrap();
    assert!(said.contains("2 cached"), "{said}");
    fs::write(
        moved.join("kiln.yaml"),
        fs::read_to_string(moved.join("kiln.yaml")).unwrap().replace("echo a", "echo c"),
    )
    .unwrap();
    assert!(kiln(&["run"]).status.success());
    let out = moved.join("artifacts/out/p/b/o");
    assert_eq!(fs::read_to_string(&out).unwrap(), "c\n");
    assert!(!fs::canonicalize(&out).unwrap().starts_with(&old));
    let git = |words: &[&str]| Command::new("git").args(words).current_dir(&moved).output().unwrap();
    git(&["init", "-q"]);
    let status = String::from_utf8(git(&["status", "--porcelain", "--untracked-files=all"]).stdout).unwrap();
    let store: Vec<_> = status.lines().filter(|line| line.contains("artifacts/")).collect();
    assert_eq!(store, ["?? artifacts/.gitignore"], "the mark travels with clones, the store does not");
}
