//! Projects, stores and remotes in which commands are killed.
//!
//! Purpose: the pipeline, and what there is before a command is killed: made once, copied for each case.
//! Invariant: a scene has the same bytes each time, whatever the times of its files.
//! Must not know: moments, phases.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Answer, Pipeline};

/// A file, a folder, a file of more than 1 MiB, a checkpoint, and a folder with a large file.
const PIPELINE: &str = r#"
pipeline: kills
sources: { seed: { path: seed.txt, type: any }, bulk: { path: bulk.bin, type: any } }
stages:
  small: { inputs: { i: seed }, run: 'cat {inputs.i} > {outputs.o}; sleep 0.02', outputs: { o: any } }
  folder:
    inputs: { i: small }
    run: |
      mkdir -p {outputs.d}/sub {outputs.d}/empty
      cp {inputs.i} {outputs.d}/sub/a
      echo 'echo tool' > {outputs.d}/tool; chmod +x {outputs.d}/tool
      ln -s sub/a {outputs.d}/link
    outputs: { d: any }
  large: { inputs: { b: bulk, i: small }, run: 'cat {inputs.i} {inputs.b} > {outputs.o}', outputs: { o: any } }
  steps:
    inputs: { i: small }
    run: |
      for n in 1 2 3; do
        test -e {checkpoint}/$n || { sleep 0.01; echo $n > {checkpoint}/part; mv {checkpoint}/part {checkpoint}/$n; }
      done
      cat {inputs.i} {checkpoint}/[123] > {outputs.o}
    outputs: { o: any }
  bundle:
    inputs: { l: large }
    run: 'mkdir {outputs.d}; head -c 1200000 {inputs.l} > {outputs.d}/part; echo end > {outputs.d}/end'
    outputs: { d: any }
  last:
    inputs: { d: folder, l: large, s: steps }
    run: |
      cat {inputs.d}/link {inputs.s} > {outputs.o}
      bash {inputs.d}/tool >> {outputs.o}
      wc -c < {inputs.l} >> {outputs.o}; sleep 0.02
    outputs: { o: any }
"#;
/// What the source holds, now and before.
pub const SEEDS: [&str; 2] = ["seed\n", "older seed\n"];
/// The bytes of the large source.
const BULK: usize = 1_500_000;

/// What a command finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scene {
    /// `run` in an empty store.
    Run,
    /// `run` in an empty store, with an empty remote.
    Share,
    /// `push` to an empty remote.
    Push,
    /// `run` in an empty store, with a full remote.
    Fetch,
    /// The same, of a pipeline with a stage that nobody has run.
    FetchAndRun,
    /// `pull` into an empty store.
    Pull,
    /// `gc --apply` in a store with results of an older source.
    Gc,
    /// `fsck` in a damaged store, with a full remote.
    Fsck,
}

/// Digests by `stage.output`.
pub type Digests = BTreeMap<String, String>;

/// What is copied, and what comes out.
pub struct Prepared {
    /// A store with all results.
    full: Pipeline,
    /// A store with all results and those of an older source.
    aged: Pipeline,
    /// A remote with all results.
    remote: TempDir,
    /// The digests of all outputs, for both sources.
    pub digests: [Digests; 2],
    /// The files of the results that nothing reads, by their paths below `out/`.
    pub results: BTreeMap<PathBuf, Vec<u8>>,
}

impl Prepared {
    /// Made by runs that nobody disturbs.
    pub fn new() -> Self {
        let (full, aged, remote) = (empty(), empty(), tempfile::tempdir().unwrap());
        aged.write("seed.txt", SEEDS[1]);
        aged.ask(&["run"]).good();
        let older = digests(&aged.json(&["plan"]));
        aged.write("seed.txt", SEEDS[0]);
        for project in [&full, &aged] {
            project.ask(&["run"]).good();
        }
        Answer::of(full.kiln(&["push"]).env("KILN_REMOTES", remote.path()).output().unwrap()).good();
        let digests = [digests(&full.json(&["plan"])), older];
        Self { digests, results: results(&full), full, aged, remote }
    }
}

/// A scene of one case.
pub struct Place {
    pub scene: Scene,
    pub project: Pipeline,
    pub remote: TempDir,
}

impl Place {
    pub fn new(scene: Scene, prepared: &Prepared) -> Self {
        let (project, remote) = (Pipeline::new(), tempfile::tempdir().unwrap());
        match scene {
            Scene::Push | Scene::Fsck => copy(prepared.full.root(), project.root()),
            Scene::Gc => copy(prepared.aged.root(), project.root()),
            _ => write_sources(&project),
        }
        if scene.fetches() {
            copy(prepared.remote.path(), remote.path());
        }
        match scene {
            Scene::FetchAndRun => project.edit("wc -c <", "wc --bytes <"),
            Scene::Fsck => damage(&project.path("artifacts")),
            _ => {}
        }
        // It makes this folder the project root.
        fs::create_dir_all(project.path("artifacts")).unwrap();
        Self { scene, project, remote }
    }

    /// A project elsewhere with the same pipeline and an empty store.
    pub fn elsewhere(&self) -> Pipeline {
        let other = empty();
        fs::copy(self.project.path("kiln.yaml"), other.path("kiln.yaml")).unwrap();
        other
    }

    /// The words of the command that is killed.
    pub fn words(&self) -> &'static [&'static str] {
        match self.scene {
            Scene::Run | Scene::Share | Scene::Fetch | Scene::FetchAndRun => &["run"],
            Scene::Push => &["push"],
            Scene::Pull => &["pull"],
            Scene::Gc => &["gc", "--apply", "--older", "0s", "--keep-runs", "0"],
            Scene::Fsck => &["fsck"],
        }
    }

    /// That command, to be started; what it prints goes to the file `said`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.args(self.words()).current_dir(self.project.root()).stdin(Stdio::null());
        let said = File::create(self.project.path("said")).unwrap();
        command.stdout(said.try_clone().unwrap()).stderr(said);
        command.env("KILN_CONFIG", self.project.path("config-of-the-user.yaml"));
        for name in ["KILN_REMOTES", "KILN_OFFLINE", "KILN_STORE", "KILN_LOG", "KILN_PROVIDER"] {
            command.env_remove(name);
        }
        if self.scene.shares() {
            command.env("KILN_REMOTES", self.remote.path());
        }
        command
    }

    /// Runs `kiln` in a project with the remote of this scene, if it has one.
    pub fn ask(&self, project: &Pipeline, words: &[&str]) -> Answer {
        let mut command = project.kiln(words);
        if self.scene.shares() {
            command.env("KILN_REMOTES", self.remote.path());
        }
        Answer::of(command.timeout(std::time::Duration::from_secs(120)).output().unwrap())
    }
}

impl Scene {
    /// Whether there is a remote.
    pub fn shares(self) -> bool {
        !matches!(self, Self::Run | Self::Gc)
    }

    /// Whether the remote is full.
    pub fn fetches(self) -> bool {
        matches!(self, Self::Fetch | Self::FetchAndRun | Self::Pull | Self::Fsck)
    }
}

fn empty() -> Pipeline {
    let project = Pipeline::new();
    write_sources(&project);
    project
}

fn write_sources(project: &Pipeline) {
    project.write("kiln.yaml", PIPELINE);
    project.write("seed.txt", SEEDS[0]);
    let mut bytes = vec![0; BULK];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    fs::write(project.path("bulk.bin"), bytes).unwrap();
}

/// The digests that the plan or the answer of a run names.
pub fn digests(answer: &Value) -> Digests {
    let mut all = Digests::new();
    for stage in answer["stages"].as_array().unwrap_or_else(|| panic!("no stages: {answer:#}")) {
        for (output, value) in stage["outputs"].as_object().unwrap() {
            let digest = value["digest"].as_str().unwrap_or("none").to_owned();
            all.insert(format!("{}.{output}", stage["name"].as_str().unwrap()), digest);
        }
    }
    all
}

/// The files of the results that nothing reads.
pub fn results(project: &Pipeline) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = ["last/o", "bundle/d/part", "bundle/d/end"];
    let read = |name: &str| {
        let path = project.path("artifacts/out/kills").join(name);
        (PathBuf::from(name), fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    };
    names.into_iter().map(read).collect()
}

/// Changes a byte of every second blob and of every second record.
fn damage(store: &Path) {
    for kind in ["blobs", "actions"] {
        let shards = fs::read_dir(store.join(kind)).unwrap().flatten();
        let files = shards.flat_map(|shard| fs::read_dir(shard.path()).unwrap().flatten());
        let mut files: Vec<_> = files.map(|file| file.path()).collect();
        files.sort();
        for file in files.iter().step_by(2) {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(file, bytes).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}
