//! Results that are shared by a remote, through the binary.
//!
//! `results` fetches and sends, `pieces` moves large files, `trust` signs, `configured` says which remotes there are, `care`
//! has leases, pins and garbage.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod care;
mod configured;
mod pieces;
mod results;
mod trust;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use common::{Answer, Pipeline};
use serde_json::Value;
use tempfile::TempDir;

const LADDER: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'echo first; cat {inputs.i} > {outputs.o}', outputs: { o: any } }
  folder: { inputs: { i: first }, run: 'mkdir -p {outputs.d}/sub; cp {inputs.i} {outputs.d}/sub/a; echo b > {outputs.d}/b; chmod +x {outputs.d}/b', outputs: { d: any } }
  last: { inputs: { d: folder }, run: 'cat {inputs.d}/sub/a {inputs.d}/b > {outputs.o}', outputs: { o: any } }
";

const LARGE: &str = "
pipeline: p
sources: { seed: { path: seed.txt, type: any } }
stages:
  first: { inputs: { i: seed }, run: 'cat {inputs.i}; seq 1000000 1400000 | sha512sum > /dev/null; for n in 1 2 3; do seq ${n}00000 ${n}90000; done > {outputs.o}', outputs: { o: any } }
  last: { inputs: { f: first }, run: '(echo in front; cat {inputs.f}) > {outputs.o}', outputs: { o: any } }
";

/// A remote in a folder, and projects that share it.
struct Shared {
    folder: TempDir,
}

impl Shared {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn project(&self, yaml: &str) -> Pipeline {
        Pipeline::new().yaml(yaml).file("seed.txt", "seed\n")
    }

    fn ask(&self, project: &Pipeline, words: &[&str]) -> Answer {
        Answer::of(project.kiln(words).env("KILN_REMOTES", self.folder.path()).output().unwrap())
    }

    fn json(&self, project: &Pipeline, words: &[&str]) -> Value {
        let answer = self.ask(project, &[words, &["--json"]].concat());
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}\n{}{}", answer.out, answer.err))
    }

    /// The files of a kind: `actions` or `blobs`.
    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join(kind)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// A project whose source has this text.
    fn seeded(&self, yaml: &str, seed: &str) -> Pipeline {
        Pipeline::new().yaml(yaml).file("seed.txt", seed)
    }

    /// A run that goes on in the background.
    fn start(&self, project: &Pipeline) -> Child {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.current_dir(project.root()).arg("run").env("KILN_REMOTES", self.folder.path());
        command.env("KILN_CONFIG", project.path("no-config.yaml"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The objects of all kinds, as `KIND/NAME`; those of jobs lie deeper.
    fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                } else if folder != self.folder.path() {
                    found.push(path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Gives all objects a time so many days ago.
    fn age(&self, days: u64) {
        let time = SystemTime::now() - Duration::from_secs(days * 86_400);
        for object in self.objects() {
            fs::File::open(self.folder.path().join(object)).unwrap().set_modified(time).unwrap();
        }
    }
}

/// `name=outcome` of each stage of a run.
fn outcomes(run: &Value) -> Vec<String> {
    let stages = run["stages"].as_array().unwrap().iter();
    stages.map(|s| format!("{}={}", s["name"].as_str().unwrap(), s["outcome"].as_str().unwrap())).collect()
}

fn states(plan: &Value) -> Vec<String> {
    let stages = plan["stages"].as_array().unwrap().iter();
    stages.map(|s| format!("{}={}", s["name"].as_str().unwrap(), s["state"].as_str().unwrap())).collect()
}

fn out(project: &Pipeline, path: &str) -> String {
    fs::read_to_string(project.path("artifacts/out/p").join(path)).unwrap()
}

fn is_there(project: &Pipeline, path: &str) -> bool {
    project.path("artifacts/out/p").join(path).exists()
}

/// The public key that a project's `kiln key new` made.
fn public_key(project: &Pipeline) -> String {
    assert_eq!(project.ask(&["key", "new"]).code, 0);
    let keys = project.json(&["key", "list"]);
    keys["keys"][0]["key"].as_str().unwrap().to_owned()
}
