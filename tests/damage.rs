//! Damaged stores and remotes, through the binary: no damaged byte is served, and a plain `kiln run` converges.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{Answer, Pipeline};
use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

/// The cases that `cargo test` takes, and those of `make test-long`.
const CASES: (u64, u64) = (20, 200);

/// Small files, a folder, programs, and files above 1 MiB of which the second one is like the first.
const LADDER: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  folder: { inputs: { i: first }, run: 'mkdir -p {outputs.d}/sub; cp {inputs.i} {outputs.d}/sub/a; echo b > {outputs.d}/b; chmod +x {outputs.d}/b', outputs: { d: any } }
  tool: { run: 'echo \"#!/bin/sh\" > {outputs.o}; chmod +x {outputs.o}', outputs: { o: any } }
  large: { inputs: { i: first }, run: 'seq 180000 > {outputs.o}', outputs: { o: any } }
  near: { inputs: { f: large }, run: '(echo in front; cat {inputs.f}) > {outputs.o}', outputs: { o: any } }
  last: { inputs: { d: folder, n: near }, run: 'cat {inputs.d}/sub/a {inputs.d}/b > {outputs.o}; sha256sum < {inputs.n} >> {outputs.o}', outputs: { o: any } }
";

const OUTPUTS: [&str; 6] = ["first.o", "folder.d", "tool.o", "large.o", "near.o", "last.o"];

/// A project, a remote that has its results, and what they are.
struct World {
    ours: Pipeline,
    remote: TempDir,
    truth: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    digests: Value,
}

impl World {
    fn new() -> Self {
        let (ours, remote) = (project(), tempfile::tempdir().unwrap());
        let mut world = Self { ours, remote, truth: BTreeMap::new(), digests: Value::Null };
        let run = world.run(&world.ours, true);
        assert_eq!(run["outcome"], "ok", "{run:#}");
        world.digests = digests(&run);
        for name in OUTPUTS {
            let bytes = bytes_at(&world.ours.path("artifacts/out/p").join(name.replace('.', "/")));
            world.truth.insert(name.to_owned(), bytes);
        }
        assert!(world.truth["near.o"][""].len() > 1 << 20);
        world
    }

    fn ask(&self, project: &Pipeline, with_remote: bool, words: &[&str]) -> Answer {
        let mut kiln: Command = project.kiln(words);
        if with_remote {
            kiln.env("KILN_REMOTES", self.remote.path());
        }
        Answer::of(kiln.output().unwrap())
    }

    fn run(&self, project: &Pipeline, with_remote: bool) -> Value {
        let answer = self.ask(project, with_remote, &["run", "--json"]);
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}\n{}{}", answer.out, answer.err))
    }

    /// What `kiln show` names is what was made, or it names nothing.
    fn check_shown(&self, project: &Pipeline, with_remote: bool, name: &str) {
        let shown = self.ask(project, with_remote, &["show", name, "--path"]);
        match shown.code {
            0 => assert!(
                bytes_at(Path::new(shown.out.trim_end())) == self.truth[name],
                "other bytes of {name} are shown"
            ),
            code => assert!(code == 1 && shown.out.is_empty(), "{shown:?}"),
        }
    }

    /// A plain run makes everything what it was, whatever was damaged.
    fn check_converges(&self, project: &Pipeline, with_remote: bool) {
        let run = self.run(project, with_remote);
        assert_eq!(run["outcome"], "ok", "{run:#}");
        assert_eq!(digests(&run), self.digests, "{run:#}");
        self.check_links(
            project,
            run["stages"].as_array().unwrap().iter().all(|s| s["outcome"] != "fetched"),
        );
    }

    /// The links for people lead to what was made; with `all` each of them does.
    fn check_links(&self, project: &Pipeline, all: bool) {
        for (name, bytes) in &self.truth {
            let link = project.path("artifacts/out/p").join(name.replace('.', "/"));
            if all || link.exists() {
                assert!(bytes_at(&link) == *bytes, "{} leads to other bytes", link.display());
            }
        }
    }

    fn local_case(&self, rng: &mut Rng) {
        let (store, with_remote) = (self.ours.path("artifacts"), rng.bool());
        // There are more and more files of runs.
        let kinds = ["blobs", "blobs", "actions", "actions", "view", "cache", "runs/last", "runs", ""];
        let kind = store.join(rng.choice(kinds).unwrap());
        let files = files(&kind).into_iter().filter(|file| !file.starts_with(store.join("work")));
        let (file, what) = harm(&files.collect::<Vec<_>>(), rng);
        println!("  {what}, {}", if with_remote { "with the remote" } else { "without a remote" });
        let format = store.join("format");
        if file == format && self.ask(&self.ours, with_remote, &["run"]).err.contains("has the format") {
            let found = self.ask(&self.ours, with_remote, &["fsck"]);
            assert!(found.code == 1 && found.err.contains("has the format"), "{found:?}");
            fs::write(format, "kiln.store/2\n").unwrap();
        }
        for _ in 0..rng.usize(..3) {
            match rng.u8(..3) {
                0 => self.check_shown(&self.ours, with_remote, rng.choice(OUTPUTS).unwrap()),
                1 => self.check_fsck(&file, with_remote),
                _ if with_remote => drop(self.ask(&self.ours, true, &["pull"])),
                _ => self.check_shown(&self.ours, false, rng.choice(OUTPUTS).unwrap()),
            }
        }
        self.check_converges(&self.ours, with_remote);
        let sound = self.ask(&self.ours, false, &["fsck"]);
        assert_eq!(sound.code, 0, "{sound:?}");
        // All is here again, so that the next case begins like this one.
        self.check_converges(&self.ours, false);
        self.check_links(&self.ours, true);
    }

    /// `fsck` leaves nothing damaged in its place, and with a remote nothing is missing afterwards.
    fn check_fsck(&self, file: &Path, with_remote: bool) {
        let checked = self.ask(&self.ours, with_remote, &["fsck"]);
        let kind = file.strip_prefix(self.ours.path("artifacts")).unwrap().components().next().unwrap();
        let is_shared = ["blobs", "actions"].iter().any(|shared| kind.as_os_str() == *shared);
        assert!(checked.code == 0 || (is_shared && !with_remote), "{checked:?}");
        for blob in files(&self.ours.path("artifacts/blobs")) {
            let name = blob.to_str().unwrap().rsplit('/').take(2).collect::<Vec<_>>();
            let digest = kiln::digest::Digest::of_file(&blob).unwrap().0.to_string();
            assert_eq!(digest, format!("{}{}", name[1], name[0]));
        }
    }

    fn remote_case(&self, rng: &mut Rng) {
        let files = files(self.remote.path());
        let before: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        let (_, what) = harm(&files, rng);
        println!("  remote: {what}");
        let reader = project();
        match rng.u8(..3) {
            0 => {
                let pulled = self.ask(&reader, true, &["pull"]);
                assert!(matches!(pulled.code, 0 | 1), "{pulled:?}");
                self.check_links(&reader, false);
            }
            1 => self.check_shown(&reader, true, rng.choice(OUTPUTS).unwrap()),
            _ => {}
        }
        self.check_converges(&reader, true);
        assert_eq!(self.ask(&reader, false, &["fsck"]).code, 0);
        // Where the record alone was taken over, the files come or are made when they are wanted.
        OUTPUTS.iter().for_each(|name| self.check_shown(&reader, true, name));
        for (file, bytes) in files.iter().zip(before) {
            fs::write(file, bytes).unwrap();
        }
    }
}

fn project() -> Pipeline {
    Pipeline::new().yaml(LADDER).file("seed.txt", "seed\n")
}

fn digests(run: &Value) -> Value {
    let stages = run["stages"].as_array().unwrap().iter();
    stages.map(|stage| serde_json::json!([stage["name"], stage["outputs"]])).collect()
}

/// Damages one of these files, or two by exchanging their bytes; says what was done.
fn harm(files: &[PathBuf], rng: &mut Rng) -> (PathBuf, String) {
    let (file, other) = (rng.choice(files).unwrap(), rng.choice(files).unwrap());
    let (mut bytes, theirs) = (fs::read(file).unwrap(), fs::read(other).unwrap());
    let at = rng.usize(..bytes.len().max(1));
    let what = match rng.u8(..8) {
        0 => {
            put(other, &bytes);
            bytes = theirs;
            format!("exchanged with {}", other.display())
        }
        1 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        2 => {
            let end = bytes.len().min(at + 100);
            bytes[at.min(end)..end].fill(0);
            format!("zeroed from {at} on")
        }
        3 => {
            bytes.push(b' ');
            "a blank more".to_owned()
        }
        4 => {
            bytes.clear();
            "emptied".to_owned()
        }
        _ if bytes.is_empty() => "left empty".to_owned(),
        _ => {
            bytes[at] ^= 1 << rng.u8(..8);
            format!("byte {at} flipped")
        }
    };
    put(file, &bytes);
    (file.clone(), format!("{} {what}", file.display()))
}

/// Writes a file where it is, with its mode and time as they were.
fn put(file: &Path, bytes: &[u8]) {
    let meta = fs::metadata(file).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, meta.permissions()).unwrap();
    fs::File::open(file).unwrap().set_modified(meta.modified().unwrap()).unwrap();
}

/// All plain files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The bytes of a file, or those of the files of a folder by their paths; links are followed.
fn bytes_at(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    if !path.is_dir() {
        found.insert(String::new(), fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        found.extend(
            bytes_at(&entry.path()).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)),
        );
    }
    found
}

fn damage(cases: u64) {
    let world = World::new();
    for seed in 0..cases {
        let mut rng = Rng::with_seed(seed);
        // A test that fails shows the last lines.
        println!("case {seed}");
        match rng.u8(..3) {
            0 => world.remote_case(&mut rng),
            _ => world.local_case(&mut rng),
        }
    }
}

#[test]
fn damaged_bytes_are_never_served_and_a_run_converges() {
    damage(CASES.0);
}

#[test]
#[ignore = "takes minutes: 200 cases"]
fn damaged_bytes_are_never_served_in_many_cases() {
    damage(CASES.1);
}

#[test]
fn a_damaged_model_is_not_talked_to_until_it_is_there_again() {
    let p = Pipeline::new().file("text.txt", "a b c\n").yaml(
        "
pipeline: p
providers: [./provider.py]
sources: { text: { path: text.txt, type: corpus } }
stages: { model: { kind: train, inputs: { corpus: text } } }
",
    );
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/provider.py"), p.path("provider.py"))
        .unwrap();
    let remote = tempfile::tempdir().unwrap();
    let chat = |with_remote: bool| {
        let mut kiln = p.kiln(&["chat", "model"]);
        if with_remote {
            kiln.env("KILN_REMOTES", remote.path());
        }
        Answer::of(kiln.write_stdin("hello\n").output().unwrap())
    };
    assert_eq!(p.json(&["run"])["outcome"], "ok");
    let said = chat(false).good();
    assert!(said.contains("heard hello"), "{said}");
    let push = p.kiln(&["push"]).env("KILN_REMOTES", remote.path()).output().unwrap();
    assert!(push.status.success(), "{push:?}");
    for file in files(&p.path("artifacts/blobs")) {
        for seed in 0..4 {
            let mut rng = Rng::with_seed(seed);
            let before = fs::read(&file).unwrap();
            harm(std::slice::from_ref(&file), &mut rng);
            if fs::read(&file).unwrap() == before {
                continue;
            }
            let refused = chat(false);
            assert!(refused.code == 1 && refused.out.is_empty(), "{refused:?}");
            assert!(refused.err.contains("kiln run model"), "{refused:?}");
            match seed % 2 {
                0 => assert_eq!(chat(true).good(), said),
                _ => assert_eq!(p.json(&["run"])["outcome"], "ok"),
            }
            assert_eq!(chat(false).good(), said);
        }
    }
}
