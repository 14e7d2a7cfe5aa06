//! Many runners at once over pipelines that overlap: nothing is done twice, and what comes out is what one runner
//! after the other makes.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{Answer, Pipeline};
use serde_json::Value;
use tempfile::TempDir;

/// How many stages there are in all; pipeline `n` has some of them.
const STAGES: usize = 30;

/// The inputs of a stage: earlier ones, each of which many stages read.
fn inputs(stage: usize) -> BTreeSet<usize> {
    if stage < 3 { BTreeSet::new() } else { BTreeSet::from([stage / 2, stage - 3]) }
}

/// The last stages of pipeline `n`.
fn targets(n: usize) -> [usize; 3] {
    [STAGES - 1 - n % 7, (n * 11 + 5) % STAGES, (n * 17 + 2) % STAGES]
}

/// The stages of pipeline `n`: its last ones and all that they need.
fn stages(n: usize) -> BTreeSet<usize> {
    let (mut open, mut all) = (targets(n).to_vec(), BTreeSet::new());
    while let Some(stage) = open.pop() {
        if all.insert(stage) {
            open.extend(inputs(stage));
        }
    }
    all
}

/// The text of a pipeline. Each stage tells the file `LOG` that it was run, which no key knows of.
fn yaml(n: usize) -> String {
    let mut text = format!("pipeline: p{n}\nstages:\n");
    for stage in stages(n) {
        let given: Vec<_> = inputs(stage).iter().map(|input| format!("i{input}: s{input}")).collect();
        let read: Vec<_> = inputs(stage).iter().map(|input| format!("{{inputs.i{input}}}")).collect();
        let (given, read) = (given.join(", "), read.join(" "));
        text += &format!(
            "  s{stage}:\n    inputs: {{ {given} }}\n    env: {{ LOG: {{ pass: LOG }} }}\n    outputs: {{ o: any }}\n    run: |\n      echo s{stage} >> \"$LOG\"\n      sleep 0.02\n      cat {read} /dev/null > {{outputs.o}}\n      echo made by s{stage} >> {{outputs.o}}\n"
        );
    }
    text
}

/// A project with the pipelines `p0.yaml` to `pN.yaml`, a store, and a file that stages write to.
struct Crowd {
    project: Pipeline,
    outside: TempDir,
    remote: Option<PathBuf>,
}

impl Crowd {
    fn new(pipelines: usize) -> Self {
        let crowd = Self { project: Pipeline::new(), outside: tempfile::tempdir().unwrap(), remote: None };
        (0..pipelines).for_each(|n| crowd.project.write(&format!("p{n}.yaml"), &yaml(n)));
        fs::write(crowd.log(), "").unwrap();
        crowd
    }

    fn with_remote(pipelines: usize, remote: &Path) -> Self {
        Self { remote: Some(remote.to_owned()), ..Self::new(pipelines) }
    }

    fn log(&self) -> PathBuf {
        self.outside.path().join("log")
    }

    fn store(&self) -> PathBuf {
        self.outside.path().join("store")
    }

    /// Starts the runner of pipeline `n`; what it prints goes to files, so that nobody has to read it.
    fn start(&self, n: usize) -> Child {
        let file = |kind: &str| fs::File::create(self.said(n, kind)).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.args(["run", &format!("p{n}.yaml"), "--json", "--store"]).arg(self.store());
        // Some do one thing at a time.
        if n.is_multiple_of(3) {
            command.args(["--jobs", "1"]);
        }
        for name in ["KILN_REMOTES", "KILN_OFFLINE", "KILN_LOG", "KILN_PROVIDER"] {
            command.env_remove(name);
        }
        if let Some(remote) = &self.remote {
            command.env("KILN_REMOTES", remote);
        }
        command.env("KILN_CONFIG", self.outside.path().join("none.yaml")).env("LOG", self.log());
        command.current_dir(self.project.root()).stdin(Stdio::null());
        command.stdout(file("out")).stderr(file("err")).spawn().unwrap()
    }

    fn said(&self, n: usize, kind: &str) -> PathBuf {
        self.outside.path().join(format!("{n}.{kind}"))
    }

    /// Waits for a runner, which must end well; gives its answer.
    fn end(&self, n: usize, mut runner: Child) -> Value {
        let status = runner.wait().unwrap();
        let said = |kind: &str| fs::read_to_string(self.said(n, kind)).unwrap();
        assert_eq!(status.code(), Some(0), "runner {n}: {}{}", said("out"), said("err"));
        let answer: Value = serde_json::from_str(&said("out")).unwrap();
        assert_eq!(answer["outcome"], "ok", "runner {n}: {answer:#}");
        answer
    }

    /// How often each stage was run.
    fn executions(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(self.log()).unwrap().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }

    /// The outputs of all actions by key, and the names of all blobs.
    fn state(&self) -> (BTreeMap<String, Value>, BTreeSet<String>) {
        let read = |file: &Path| -> Value { serde_json::from_slice(&fs::read(file).unwrap()).unwrap() };
        let actions = names(&self.store().join("actions"));
        let actions =
            actions.into_iter().map(|(name, file)| (name, read(&file)["record"]["outputs"].clone()));
        (actions.collect(), names(&self.store().join("blobs")).into_keys().collect())
    }

    fn is_sound(&self) {
        let store = self.store().display().to_string();
        let checked =
            Answer::of(self.project.kiln(&["fsck", "p0.yaml", "--store", &store]).output().unwrap());
        assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    }
}

/// The files two folders below this one, by the names of both.
fn names(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for shard in fs::read_dir(folder).unwrap().flatten() {
        for file in fs::read_dir(shard.path()).unwrap().flatten() {
            let name = [shard.file_name(), file.file_name()].map(|name| name.into_string().unwrap()).concat();
            found.insert(name, file.path());
        }
    }
    found
}

/// What a runner says of the outputs of its stages.
fn outputs(answer: &Value) -> BTreeMap<String, Value> {
    let stages = answer["stages"].as_array().unwrap().iter();
    stages.map(|stage| (stage["name"].as_str().unwrap().to_owned(), stage["outputs"].clone())).collect()
}

/// One runner after the other; also gives what they say of their outputs.
fn serial(crowd: &Crowd, pipelines: usize) -> Vec<BTreeMap<String, Value>> {
    (0..pipelines).map(|n| outputs(&crowd.end(n, crowd.start(n)))).collect()
}

/// The stages of these pipelines, each once.
fn each_once(pipelines: usize) -> BTreeMap<String, usize> {
    let all: BTreeSet<_> = (0..pipelines).flat_map(stages).collect();
    all.into_iter().map(|stage| (format!("s{stage}"), 1)).collect()
}

fn together(runners: usize) {
    let (start, alone, crowd) = (Instant::now(), Crowd::new(runners), Crowd::new(runners));
    let expected = serial(&alone, runners);
    let middle = Instant::now();
    let at_work: Vec<_> = (0..runners).map(|n| crowd.start(n)).collect();
    let answers: Vec<_> = at_work.into_iter().enumerate().map(|(n, runner)| crowd.end(n, runner)).collect();
    eprintln!("{runners} runners: {:?}, one after the other {:?}", middle.elapsed(), middle - start);
    assert_eq!(alone.executions(), each_once(runners), "one after the other");
    assert_eq!(crowd.executions(), each_once(runners));
    let stages = answers.iter().flat_map(|answer| answer["stages"].as_array().unwrap());
    let ran = stages.filter(|stage| stage["outcome"] == "ran").count();
    assert_eq!(ran, each_once(runners).len(), "what the runners say");
    assert_eq!(answers.iter().map(outputs).collect::<Vec<_>>(), expected);
    assert_eq!(crowd.state(), alone.state());
    crowd.is_sound();
}

#[test]
fn a_dozen_runners_at_once_run_every_stage_once_and_make_what_one_after_the_other_makes() {
    together(12);
}

#[test]
#[ignore = "takes seconds, and many processes; part of `make test-long`"]
fn fifty_runners_at_once_run_every_stage_once_and_make_what_one_after_the_other_makes() {
    together(50);
}

/// Two stores with so many runners each, and a remote that both use.
fn apart(runners: usize) {
    let (remote, alone) = (tempfile::tempdir().unwrap(), Crowd::new(runners));
    let expected = serial(&alone, runners);
    let crowds = [0, 1].map(|_| Crowd::with_remote(runners, remote.path()));
    let start = Instant::now();
    // In turn, so that both stores begin at the same time.
    let at_work: Vec<_> = (0..runners).map(|n| crowds.each_ref().map(|crowd| crowd.start(n))).collect();
    for (n, both) in at_work.into_iter().enumerate() {
        for (crowd, runner) in crowds.iter().zip(both) {
            assert_eq!(outputs(&crowd.end(n, runner)), expected[n], "runner {n}");
        }
    }
    eprintln!("{runners} runners on each of two stores: {:?}", start.elapsed());
    let mut overall: BTreeMap<String, usize> = BTreeMap::new();
    for crowd in &crowds {
        for (stage, count) in crowd.executions() {
            assert_eq!(count, 1, "{stage} on one store");
            *overall.entry(stage).or_default() += count;
        }
        crowd.is_sound();
    }
    // Those who share a remote take turns by its leases.
    assert_eq!(overall, each_once(runners));
    // Whoever comes later runs nothing, and has what one after the other makes.
    let late = Crowd::with_remote(runners, remote.path());
    assert_eq!(serial(&late, runners), expected);
    assert_eq!(late.executions(), BTreeMap::new());
}

#[test]
fn runners_on_two_stores_with_one_remote_run_every_stage_once_overall() {
    apart(4);
}

#[test]
#[ignore = "takes seconds, and many processes; part of `make test-long`"]
fn ten_runners_on_each_of_two_stores_with_one_remote_run_every_stage_once_overall() {
    apart(10);
}
