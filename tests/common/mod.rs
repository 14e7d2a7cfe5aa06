//! A small builder for black-box tests: a folder, a pipeline file, and the `kiln` binary.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A project in a folder of its own.
pub struct Pipeline {
    folder: TempDir,
}

impl Pipeline {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Writes `kiln.yaml`.
    pub fn yaml(self, text: &str) -> Self {
        self.file("kiln.yaml", text)
    }

    /// Writes a file.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write(name, text);
        self
    }

    /// Writes a file, later on.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces a text in `kiln.yaml`, which must hold it.
    pub fn edit(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.path("kiln.yaml")).unwrap();
        assert!(text.contains(old), "kiln.yaml does not hold {old:?}");
        self.write("kiln.yaml", &text.replace(old, new));
    }

    /// Leaves the folder where it is, for somebody to look at.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A `kiln` command in the project's folder, untouched by the variables of whoever tests.
    pub fn kiln(&self, words: &[&str]) -> Command {
        let mut command = Command::cargo_bin("kiln").unwrap();
        command.current_dir(self.root()).args(words);
        // Whoever tests may have remotes.
        command.env("KILN_CONFIG", self.path("config-of-the-user.yaml"));
        for name in [
            "KILN_REMOTES",
            "KILN_OFFLINE",
            "KILN_STORE",
            "KILN_LOG",
            "KILN_PROVIDER",
            "NO_COLOR",
            "CLICOLOR_FORCE",
        ] {
            command.env_remove(name);
        }
        command.env("TZ", "UTC");
        command
    }

    /// What a command prints and how it ends.
    pub fn ask(&self, words: &[&str]) -> Answer {
        Answer::of(self.kiln(words).output().unwrap())
    }

    /// The JSON that a command answers with.
    pub fn json(&self, words: &[&str]) -> Value {
        let answer = self.ask(&[words, &["--json"]].concat());
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}\n{}{}", answer.out, answer.err))
    }

    /// `name=state` of each stage of the plan.
    pub fn states(&self, words: &[&str]) -> Vec<String> {
        let plan = self.json(&[&["plan"], words].concat());
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let stages = plan["stages"].as_array().unwrap();
        stages.iter().map(|s| format!("{}={}", text(&s["name"]), text(&s["state"]))).collect()
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Answer {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Answer {
    pub fn of(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// stdout of a command that must end well.
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}
