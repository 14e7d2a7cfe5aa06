//! What the tests of runs share.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::Pipeline;

/// The answer of `kiln run --json`.
pub struct Ran(pub Value);

impl Pipeline {
    /// Runs the pipeline, whatever comes of it.
    pub fn run_with(&self, words: &[&str]) -> Ran {
        Ran(self.json(&[&["run"], words].concat()))
    }

    /// Runs the pipeline, which must end well.
    pub fn run(&self) -> Ran {
        let ran = self.run_with(&[]);
        assert_eq!(ran.outcome(), "ok", "{:#}", ran.0);
        ran
    }

    /// What an output's link holds.
    pub fn out(&self, path: &str) -> String {
        let path = self.path("artifacts/out").join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The digests of all outputs by `stage.output`, as the store has them now.
    pub fn digests(&self) -> Vec<String> {
        let plan = self.json(&["plan"]);
        let mut all = Vec::new();
        for stage in plan["stages"].as_array().unwrap() {
            for (output, value) in stage["outputs"].as_object().unwrap() {
                all.push(format!("{}.{output} {}", stage["name"], value["digest"]));
            }
        }
        all
    }

    /// `kiln` as a process of its own, which dies with nobody.
    pub fn spawn(&self, words: &[&str]) -> Child {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.args(words).current_dir(self.root());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until a file is there.
    pub fn wait_for(&self, name: &str) {
        let there = self.path(name);
        wait_until(name, || there.exists());
    }
}

impl Ran {
    pub fn outcome(&self) -> &str {
        self.0["outcome"].as_str().unwrap_or_else(|| panic!("{:#}", self.0))
    }

    fn stages(&self) -> &Vec<Value> {
        self.0["stages"].as_array().unwrap()
    }

    /// The stages that ended so, sorted.
    pub fn ended(&self, outcome: &str) -> Vec<String> {
        let named = self.stages().iter().filter(|stage| stage["outcome"] == outcome);
        let mut names: Vec<_> = named.map(|stage| stage["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Exactly these ran, and all others were cached.
    pub fn expect_ran(&self, names: &[&str]) {
        let mut names = names.to_vec();
        names.sort_unstable();
        assert_eq!(self.ended("ran"), names, "{:#}", self.0);
        assert_eq!(self.ended("cached").len() + names.len(), self.stages().len(), "{:#}", self.0);
    }

    /// What a stage says of its failure.
    pub fn error(&self, name: &str) -> &str {
        let stage = self.stages().iter().find(|stage| stage["name"] == name).unwrap();
        stage["error"].as_str().unwrap_or_else(|| panic!("{name} has no error: {:#}", self.0))
    }
}

/// Waits up to half a minute; a slow machine is no failure, a hang is.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose command line or working folder holds this text, but for ourselves.
pub fn processes_with(text: &str) -> Vec<String> {
    let ourselves = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != ourselves);
    let line = |pid: &String| {
        let folder = Path::new("/proc").join(pid);
        let words = std::fs::read(folder.join("cmdline")).ok()?;
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        let zombie = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        (!zombie && words.contains(text)).then(|| format!("{pid} {words}"))
    };
    pids.filter_map(|pid| line(&pid)).collect()
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}
