//! Checking and cleaning a store, through the binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::{Answer, Pipeline};
use serde_json::Value;

const LADDER: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  folder: { inputs: { i: first }, run: 'mkdir {outputs.d}; cp {inputs.i} {outputs.d}/a; echo b > {outputs.d}/b', outputs: { d: any } }
";

fn project() -> Pipeline {
    Pipeline::new().yaml(LADDER).file("seed.txt", "seed\n")
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// Changes a byte of a file and leaves its times as they were.
fn rot(file: &Path, at: usize) {
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    let mode = fs::metadata(file).unwrap().permissions();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, mode).unwrap();
    fs::File::options().read(true).open(file).unwrap().set_modified(modified).unwrap();
}

#[test]
fn fsck_finds_every_changed_byte_of_every_blob_and_record() {
    let p = project();
    p.ask(&["run"]);
    let sound = p.ask(&["fsck"]);
    assert!(sound.code == 0 && sound.out.contains("2 records read"), "{}{}", sound.out, sound.err);
    let store = p.path("artifacts");
    let all = [files(&store.join("blobs")), files(&store.join("actions"))].concat();
    assert_eq!(all.len(), 3 + 2);
    for file in all {
        let length = fs::metadata(&file).unwrap().len() as usize;
        // Every byte of the short ones, and a sample of the long ones.
        for at in (0..length).step_by(length.div_ceil(12)) {
            let before = fs::read(&file).unwrap();
            rot(&file, at);
            let found = p.json(&["fsck"]);
            let (blobs, actions) = (&found["damaged_blobs"], &found["damaged_actions"]);
            let count = blobs.as_array().unwrap().len() + actions.as_array().unwrap().len();
            assert_eq!(count, 1, "{} at {at}: {found:#}", file.display());
            assert_eq!(p.json(&["run"])["outcome"], "ok");
            assert_eq!(fs::read(p.path("artifacts/out/p/folder/d/a")).unwrap(), b"seed\n");
            // What was damaged was made again, or put back here for the next round.
            if !file.exists() {
                fs::write(&file, &before).unwrap();
                fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
            }
            assert_eq!(p.ask(&["fsck"]).code, 0, "{} at {at}", file.display());
        }
    }
}

#[test]
fn fsck_counts_what_is_damaged_and_names_the_stage_that_lost_it() {
    let p = project();
    p.ask(&["run"]);
    let digest = p.json(&["show", "folder"])["digest"].as_str().unwrap().to_owned();
    rot(&p.path("artifacts/blobs").join(&digest[..2]).join(&digest[2..]), 0);
    let found = p.ask(&["fsck"]);
    assert!(found.code == 1 && found.out.contains("(stage folder, run r-0001) lacks `d`"), "{}", found.out);
    assert!(found.out.contains("damaged  blobs: 1 damaged, 2 intact ("), "{}", found.out);
    assert!(found.out.contains("; records: 1 incomplete, 1 intact"), "{}", found.out);
    assert!(found.err.contains("was damaged and is now ") && !found.err.contains("digest="), "{}", found.err);
}

#[test]
fn fsck_repairs_from_a_remote() {
    let (p, remote) = (project(), tempfile::tempdir().unwrap());
    let ask = |words: &[&str]| Answer::of(p.kiln(words).env("KILN_REMOTES", remote.path()).output().unwrap());
    ask(&["run"]);
    let store = p.path("artifacts");
    for kind in ["blobs", "actions"] {
        let all = files(&store.join(kind));
        let before: Vec<_> = all.iter().map(|file| fs::read(file).unwrap()).collect();
        all.iter().for_each(|file| rot(file, 0));
        let repaired = ask(&["fsck", "--json"]);
        let found: Value = serde_json::from_str(&repaired.out).unwrap();
        assert!(found["repaired"].as_u64() > Some(0), "{kind}: {found:#}");
        assert_eq!(found["incomplete"], serde_json::json!([]), "{kind}: {found:#}");
        assert_eq!(ask(&["fsck"]).code, 0, "{kind}");
        let after: Vec<_> = all.iter().map(|file| fs::read(file).unwrap()).collect();
        assert_eq!(before, after, "{kind}");
        assert_eq!(p.states(&[]), ["first=cached", "folder=cached"], "{kind}");
    }
}

#[test]
fn fsck_goes_on_where_the_disk_gives_a_blob_no_more() {
    let p = project();
    p.ask(&["run"]);
    let blob = |path: &str| {
        let digest = p.json(&["show", path])["digest"].as_str().unwrap().to_owned();
        p.path("artifacts/blobs").join(&digest[..2]).join(&digest[2..])
    };
    let (lost, tree) = (blob("first"), blob("folder"));
    rot(&tree, 1);
    // The memory of a process cannot be read at its start.
    let mut fsck = std::process::Command::new("unshare");
    fsck.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    fsck.arg("mount --bind /proc/$$/mem \"$0\" || exit 77; \"$@\"");
    fsck.arg(&lost).arg(assert_cmd::cargo::cargo_bin("kiln")).args(["fsck", "--json"]);
    let done = fsck.current_dir(p.root()).env("KILN_CONFIG", p.path("no-config.yaml")).output();
    let done = done.map(Answer::of);
    match &done {
        Ok(done) if done.code == 1 && !done.err.contains("unshare failed") => {
            let found: Value = serde_json::from_str(&done.out).unwrap();
            let unreadable = &found["unreadable_blobs"];
            assert!(unreadable[0]["why"].as_str().unwrap().contains("Input/output error"), "{found:#}");
            let counts = ["unreadable_blobs", "damaged_blobs", "incomplete"];
            assert_eq!(counts.map(|name| found[name].as_array().unwrap().len()), [1, 1, 2], "{found:#}");
        }
        Ok(done) if done.code == 77 || done.err.contains("unshare failed") => {
            eprintln!("left out, because nothing can be mounted here: {}", done.err);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn gc_removes_what_no_run_pipeline_or_lock_file_names_and_nothing_else() {
    let p = project();
    p.ask(&["run"]);
    p.write("seed.txt", "other\n");
    p.ask(&["run"]);
    let store = p.path("artifacts");
    let count = |kind: &str| files(&store.join(kind)).len();
    assert_eq!((count("actions"), count("blobs")), (4, 5));
    let kept = p.json(&["gc", "--older", "0s"]);
    assert_eq!(kept["garbage"].as_array().unwrap().len(), 0, "the newest runs name them: {kept:#}");
    let young = p.json(&["gc", "--keep-runs", "0"]);
    assert_eq!(young["garbage"].as_array().unwrap().len(), 0, "they are young: {young:#}");
    let plan = p.json(&["gc", "--older", "0s", "--keep-runs", "0"]);
    // Two records, the seed, the listing, the links to its files, and the run.
    assert_eq!(plan["garbage"].as_array().unwrap().len(), 6, "{plan:#}");
    assert_eq!((count("actions"), count("blobs")), (4, 5), "nothing goes without --apply");
    let text = p.ask(&["gc", "--older", "0s", "--keep-runs", "0"]).out;
    assert!(text.contains("stage first, run r-0001") && text.contains("2 records, 2 blobs"), "{text}");
    assert!(text.contains("`kiln gc --older 0s --keep-runs 0 --apply` removes them."), "{text}");
    let removed = p.json(&["gc", "--older", "0s", "--keep-runs", "0", "--apply"]);
    assert_eq!(removed["freed"], plan["bytes"]);
    assert_eq!((count("actions"), count("blobs")), (2, 3));
    assert_eq!(p.states(&[]), ["first=cached", "folder=cached"]);
    assert_eq!(p.ask(&["fsck"]).code, 0);
    // The first runs are gone: they run again.
    p.write("seed.txt", "seed\n");
    assert_eq!(p.states(&[]), ["first=run", "folder=maybe"]);
}

#[test]
fn gc_keeps_what_any_lock_file_names_and_stops_at_one_that_cannot_be_read() {
    let p = project();
    let text = LADDER.to_owned();
    p.write("experiments/x.yaml", &text);
    p.ask(&["run", "experiments/x.yaml"]).good();
    let lock = fs::read_to_string(p.path("experiments/x.lock")).unwrap();
    p.write("experiments/x.yaml", &text.replace("echo b", "echo c"));
    p.ask(&["run", "experiments/x.yaml", "--force", "first"]).good();
    p.write("experiments/x.lock", &lock);
    let gc = ["gc", "--older", "0s", "--keep-runs", "1"];
    let garbage = |p: &Pipeline| {
        p.json(&gc)["garbage"].as_array().unwrap().iter().filter(|g| g["kind"] == "action").count()
    };
    assert_eq!(garbage(&p), 0);
    for damaged in
        [lock[..lock.len() - 20].to_owned(), format!("<<<<<<< ours\n{lock}=======\n>>>>>>> theirs\n")]
    {
        p.write("experiments/x.lock", &damaged);
        let refused = p.ask(&[&gc[..], &["--apply"]].concat());
        assert!(refused.code == 1 && refused.err.contains("x.lock"), "{}{}", refused.out, refused.err);
    }
    fs::remove_file(p.path("experiments/x.lock")).unwrap();
    assert_eq!(garbage(&p), 1);
}

#[test]
fn a_record_that_is_no_plain_file_holds_up_nobody() {
    let p = project();
    p.ask(&["run"]).good();
    for record in files(&p.path("artifacts/actions")) {
        fs::remove_file(&record).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &record, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    }
    assert_eq!(p.states(&[])[0], "first=run");
    assert_eq!(p.ask(&["fsck"]).code, 1);
    p.ask(&["run"]).good();
}

#[test]
fn gc_waits_for_no_run_and_takes_nothing_from_one() {
    let p =
        Pipeline::new().yaml("stages: { slow: { run: 'touch {outputs.o}; sleep 3', outputs: { o: any } } }");
    let run = p.kiln(&["run"]);
    let mut run = std::process::Command::new(run.get_program())
        .arg("run")
        .current_dir(p.root())
        .env("KILN_CONFIG", "none")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !p.path("artifacts/work/locks").is_dir() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let refused = p.ask(&["gc", "--apply"]);
    assert!(refused.code == 1 && refused.err.contains("a run is using this store"), "{}", refused.err);
    assert_eq!(p.ask(&["gc"]).code, 0, "to look is always possible");
    assert!(run.wait().unwrap().success());
    assert_eq!(p.ask(&["gc", "--apply"]).code, 0);
}

#[test]
fn verify_runs_a_stage_again_and_leaves_store_and_lock_file_alone() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
stages:
  first: { run: 'echo a > {outputs.o}', outputs: { o: any } }
  steady: { inputs: { i: first }, run: 'cat {inputs.i} {inputs.i} > {outputs.o}', outputs: { o: any } }
  noisy: { inputs: { i: first }, run: 'head -c 9 /dev/urandom > {outputs.o}', outputs: { o: any } }
",
    );
    p.ask(&["run"]);
    let state = || {
        (
            files(&p.path("artifacts/blobs")),
            files(&p.path("artifacts/actions")),
            fs::read(p.path("kiln.lock")).unwrap(),
        )
    };
    let before = state();
    let same = p.ask(&["verify", "steady"]);
    assert!(same.code == 0 && same.out.contains("same steady.o"), "{}{}", same.out, same.err);
    let other = p.json(&["verify", "noisy"]);
    assert_eq!(other["same"], false);
    assert_ne!(other["outputs"]["o"]["recorded"], other["outputs"]["o"]["now"]);
    assert_eq!(p.ask(&["verify", "noisy"]).code, 1);
    assert!(before == state());
    assert_eq!(p.states(&[]), ["first=cached", "steady=cached", "noisy=cached"]);
    let left = fs::read_dir(p.path("artifacts/work")).unwrap().flatten();
    assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("verify-")));
}
