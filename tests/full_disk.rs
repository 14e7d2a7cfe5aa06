//! A disk that is full, through the binary: a small file system in memory, in a namespace of its own.
//!
//! Where no such namespace can be had, the tests say so and do nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Answer, Pipeline};
use serde_json::Value;

/// The variable with the place of the small disk, for the test that runs in the namespace.
const DISK: &str = "KILN_TEST_DISK";
/// A block of the small disk.
const BLOCK: u64 = 4096;

/// A first stage that has run before the disk is full, and others that have not. Each counts its runs elsewhere.
const LADDER: &str = "
pipeline: p
stages:
  first: { run: 'echo 1 >> COUNTS/first; seq 3000 > {outputs.o}', outputs: { o: any } }
  folder: { inputs: { i: first }, run: 'echo 1 >> COUNTS/folder; mkdir {outputs.d}; cp {inputs.i} {outputs.d}/a; echo b > {outputs.d}/b', outputs: { d: any } }
  last: { inputs: { d: folder }, run: 'echo 1 >> COUNTS/last; cat {inputs.d}/a {inputs.d}/b > {outputs.o}', outputs: { o: any } }
";

/// Runs an ignored test of this file on a small disk.
fn on_a_small_disk(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=8m small \"$0\" || exit 77; TMPDIR=\"$0\" exec \"$@\"");
    command.arg(&disk).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(DISK, &disk);
    match command.output() {
        Err(e) => println!("left out, because `unshare` cannot be started: {e}"),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
            let refused = done.status.code() == Some(77) || said.contains("unshare failed");
            match refused {
                true => println!("left out, because no file system can be mounted here: {said}"),
                false => assert!(done.status.success() && said.contains("1 passed"), "{said}"),
            }
            if !refused {
                println!("{said}");
            }
        }
    }
}

#[test]
fn a_run_on_a_full_disk_says_so_loses_nothing_and_goes_on_when_there_is_room() {
    on_a_small_disk("run_with_little_room");
}

#[test]
fn a_fetch_on_a_full_disk_says_so_and_runs_no_stage_instead() {
    on_a_small_disk("fetch_with_little_room");
}

#[test]
fn the_other_commands_on_a_full_disk_say_so_and_work_when_there_is_room() {
    on_a_small_disk("other_commands_with_little_room");
}

/// What fills the small disk; dropping it makes room.
struct Filled(PathBuf);

impl Filled {
    /// Leaves room for so many blocks.
    fn but_for(blocks: u64) -> Option<Self> {
        let path = PathBuf::from(std::env::var_os(DISK).unwrap()).join("filling");
        let mut file = File::create_new(&path).unwrap();
        let mut length = 0;
        while file.write_all(&[1; BLOCK as usize]).is_ok() {
            length += BLOCK;
        }
        let this = Self(path);
        file.set_len(length.checked_sub(blocks * BLOCK)?).unwrap();
        Some(this)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Where stages count how often they ran: on another disk.
struct Counts(tempfile::TempDir);

impl Counts {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in("/tmp")).unwrap())
    }

    fn project(&self) -> Pipeline {
        Pipeline::new().yaml(&LADDER.replace("COUNTS", self.0.path().to_str().unwrap()))
    }

    fn clear(&self) {
        for stage in ["first", "folder", "last"] {
            self.take(stage);
        }
    }

    /// How often a stage ran since this was asked last.
    fn take(&self, stage: &str) -> usize {
        let file = self.0.path().join(stage);
        let count = fs::read_to_string(&file).unwrap_or_default().lines().count();
        let _ = fs::remove_file(file);
        count
    }
}

/// Each stage with its outputs, of a run that must end well.
fn outputs(answer: &Answer) -> Value {
    let run: Value = serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    assert_eq!(run["outcome"], "ok", "{run:#}");
    let stages = run["stages"].as_array().unwrap().iter();
    stages.map(|stage| serde_json::json!([stage["name"], stage["outputs"]])).collect()
}

/// A failure that says what is full, and where.
fn assert_says_what_is_full(answer: &Answer) {
    let said = format!("{}{}", answer.out, answer.err);
    assert_eq!(answer.code, 1, "{said}");
    // A program of a stage has its own words; Kiln adds to them.
    let words = ["No space left on device", "the disk is full"];
    let names = [&std::env::var(DISK).unwrap(), "new.yaml"];
    let says = |line: &str| words.iter().any(|w| line.contains(w)) && names.iter().any(|n| line.contains(n));
    assert!(said.lines().any(says), "{said}");
}

#[test]
#[ignore = "runs on a small disk, by the test above"]
fn run_with_little_room() {
    let Some(_) = std::env::var_os(DISK) else { return };
    let counts = Counts::new();
    let expected = outputs(&counts.project().ask(&["run", "--json"]));
    let (mut failed, mut collected) = (0, 0);
    for blocks in (0..48).chain((50..90).step_by(5)) {
        let p = counts.project();
        p.ask(&["run", "first"]).good();
        let first = p.json(&["plan", "first"])["stages"][0]["outputs"].clone();
        counts.clear();
        let filled = Filled::but_for(blocks).unwrap();
        let run = p.ask(&["run", "--json"]);
        let failure = (run.code != 0).then(|| {
            assert_says_what_is_full(&run);
            format!("{}{}", run.out, run.err)
        });
        println!("{blocks} blocks: {}", failure.as_deref().map_or("ok", |_| "failed"));
        let is_kept = failure.as_ref().is_some_and(|said| said.contains("collects it"));
        if is_kept {
            // What waits to be collected outlives a run that finds no room either.
            p.ask(&["run"]);
        }
        let ran = ["folder", "last"].map(|stage| counts.take(stage));
        drop(filled);
        let checked = p.ask(&["fsck"]);
        assert_eq!(checked.code, 0, "{checked:?}");
        assert_eq!(p.json(&["plan", "first"])["stages"][0]["outputs"], first, "{blocks} blocks");
        assert_eq!(outputs(&p.ask(&["run", "--json"])), expected, "{blocks} blocks");
        assert_eq!(counts.take("first"), 0, "{blocks} blocks");
        failed += usize::from(failure.is_some());
        if is_kept {
            collected += 1;
            let again = ["folder", "last"].map(|stage| counts.take(stage));
            assert_eq!([ran[0] + again[0], ran[1] + again[1]], [1, 1], "{blocks} blocks");
        }
    }
    println!("{failed} runs failed, {collected} of them with outputs that were collected later");
    assert!(failed > 10 && collected > 0);
}

#[test]
#[ignore = "runs on a small disk, by the test above"]
fn fetch_with_little_room() {
    let Some(_) = std::env::var_os(DISK) else { return };
    let (counts, ours) = (Counts::new(), Counts::new());
    let remote = ours.0.path().join("remote");
    let shared = |p: &Pipeline, words: &[&str]| {
        Answer::of(p.kiln(words).env("KILN_REMOTES", &remote).output().unwrap())
    };
    let expected = outputs(&shared(&counts.project(), &["run", "--json"]));
    let mut failed = 0;
    for (blocks, changed) in (0..40).flat_map(|blocks| [(blocks, false), (blocks, true)]) {
        counts.clear();
        let p = counts.project();
        p.ask(&["plan"]).good();
        if changed {
            // The last stage runs, and fetches what it reads.
            p.edit("cat {inputs.d}/a", "cat {inputs.d}/b {inputs.d}/a");
        }
        let filled = Filled::but_for(blocks).unwrap();
        let run = shared(&p, &["run", "--json"]);
        if run.code != 0 {
            failed += 1;
            assert_says_what_is_full(&run);
        }
        // Those that a remote has are not run because the disk is full.
        assert_eq!([counts.take("first"), counts.take("folder")], [0, 0], "{blocks} blocks: {run:?}");
        drop(filled);
        let run = outputs(&shared(&p, &["run", "--json"]));
        assert!(changed || run == expected, "{blocks} blocks");
        assert_eq!([counts.take("first"), counts.take("folder")], [0, 0], "{blocks} blocks");
        assert_eq!(p.ask(&["fsck"]).code, 0);
    }
    println!("{failed} runs failed");
    assert!(failed > 10);
}

#[test]
#[ignore = "runs on a small disk, by the test above"]
fn other_commands_with_little_room() {
    let Some(_) = std::env::var_os(DISK) else { return };
    let (counts, ours) = (Counts::new(), Counts::new());
    let remote = ours.0.path().join("remote");
    let p = counts.project();
    let shared = |words: &[&str]| Answer::of(p.kiln(words).env("KILN_REMOTES", &remote).output().unwrap());
    let expected = outputs(&shared(&["run", "--json"]));
    write_with_little_room(&p);
    repair_with_little_room(&p, &shared);
    assert_eq!(outputs(&shared(&["run", "--json"])), expected);
    collect_garbage_with_little_room(&p);
    assert_eq!(outputs(&shared(&["run", "--json"])), expected);
}

/// Commands that write a file leave nothing half done; those that only read work.
fn write_with_little_room(p: &Pipeline) {
    let lock = fs::read(p.path("kiln.lock")).unwrap();
    let writing = [&["key", "new"][..], &["remote", "add", "team", "s3://bucket/x"], &["init", "new.yaml"]];
    let filled = Filled::but_for(0).unwrap();
    for words in writing {
        assert_says_what_is_full(&p.ask(words));
    }
    for words in [&["plan"][..], &["show", "last"], &["fsck"], &["status"]] {
        p.ask(words).good();
    }
    drop(filled);
    assert_eq!(fs::read(p.path("kiln.lock")).unwrap(), lock);
    for words in writing {
        p.ask(words).good();
    }
    fs::remove_file(p.path("new.yaml")).unwrap();
    fs::remove_file(p.path("config-of-the-user.yaml")).unwrap();
    fs::remove_dir_all(p.path("keys")).unwrap();
}

/// What cannot be repaired now can be repaired later.
fn repair_with_little_room(p: &Pipeline, shared: &dyn Fn(&[&str]) -> Answer) {
    let blobs = files(&p.path("artifacts/blobs"));
    blobs.iter().for_each(|blob| fs::remove_file(blob).unwrap());
    let filled = Filled::but_for(0).unwrap();
    assert_says_what_is_full(&shared(&["fsck"]));
    assert_says_what_is_full(&shared(&["pull"]));
    drop(filled);
    assert_eq!(shared(&["fsck"]).code, 0);
    assert_eq!(files(&p.path("artifacts/blobs")), blobs);
}

/// Garbage is removed from a full disk, which makes room.
fn collect_garbage_with_little_room(p: &Pipeline) {
    fs::remove_file(p.path("kiln.lock")).unwrap();
    fs::remove_dir_all(p.path("artifacts/runs")).unwrap();
    let filled = Filled::but_for(0).unwrap();
    let removed = p.json(&["gc", "--older", "0s", "--keep-runs", "0", "--apply"]);
    assert!(removed["freed"].as_u64() > Some(0), "{removed:#}");
    assert!(files(&p.path("artifacts/blobs")).is_empty());
    drop(filled);
}

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
