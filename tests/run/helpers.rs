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
        // A test program under `nohup` would hand on that SIGHUP is ignored.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(assert_cmd::cargo::cargo_bin("kiln"));
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

/// A pipeline with one command `s`, whose script is a block; `more` holds further keys of the stage, a line
/// each. `@ROOT@` stands for the folder of the project.
pub fn stage(more: &str, script: &str) -> Pipeline {
    stages(&[("s", more, script)])
}

/// The same for several commands: name, further keys, script. Each makes the output `o` unless its keys say
/// otherwise.
pub fn stages(all: &[(&str, &str, &str)]) -> Pipeline {
    let p = Pipeline::new();
    let indent = |text: &str, depth: usize| -> String {
        text.lines().map(|line| format!("{:depth$}{}\n", "", line.trim_end())).collect()
    };
    let mut yaml = "pipeline: p\nstages:\n".to_owned();
    for (name, more, script) in all {
        let outputs = if more.contains("outputs:") { "" } else { "    outputs: { o: any }\n" };
        yaml += &format!(
            "  {name}:\n    kind: command\n{outputs}{}    run: |\n{}",
            indent(more, 4),
            indent(script, 6)
        );
    }
    p.write("kiln.yaml", &yaml.replace("@ROOT@", &p.root().display().to_string()));
    p
}

impl Pipeline {
    /// The state of a stage in the plan: its key and whether it would run.
    pub fn planned(&self, name: &str) -> (String, String) {
        let plan = self.json(&["plan"]);
        let stages = plan["stages"].as_array().unwrap_or_else(|| panic!("{plan:#}"));
        let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
        (stage["key"].as_str().unwrap_or_default().to_owned(), stage["state"].as_str().unwrap().to_owned())
    }

    pub fn key(&self, name: &str) -> String {
        self.planned(name).0
    }

    /// Runs, sends a signal to the runner as soon as `begun` is there, and gives the answer and how it ended.
    pub fn interrupt(&self, name: &str) -> (Ran, Option<i32>) {
        std::fs::create_dir_all(self.path("artifacts")).unwrap();
        let runner = self.spawn(&["run", "--json"]);
        self.wait_for("begun");
        signal(&runner, name);
        let end = runner.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&end.stderr).into_owned();
        let answer = serde_json::from_slice(&end.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        (Ran(answer), end.status.code())
    }
}

/// A pipeline of one stage `s` of the fixture's kind `odd`.
pub fn odd(how: &str, more: &str) -> Pipeline {
    let p = Pipeline::new().yaml(&format!(
        "pipeline: p\nproviders: [./provider.py]\nstages:\n  s: {{ kind: odd, params: {{ how: {how} }}{more} }}\n"
    ));
    copy_fixture(&p, "provider.py", "provider.py");
    p
}

/// Copies a fixture into a project with its permissions.
pub fn copy_fixture(p: &Pipeline, fixture: &str, name: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    std::fs::copy(from, p.path(name)).unwrap();
}

/// Whether these tests run as root, who may read and write everything.
pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}
