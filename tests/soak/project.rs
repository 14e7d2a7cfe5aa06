//! A world on a disk, and the binary in it.
//!
//! Purpose: write a world, start `kiln`, find and kill its processes.
//! Invariant: only what differs is written, so that the times of other files stay; nobody but the processes of
//! this folder is ever killed.
//! Must not know: what the outputs should be.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::artifact::Leaf;
use crate::world::World;
use crate::yaml;

/// Nothing takes longer, unless it hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// A project in a folder.
pub struct Project {
    root: PathBuf,
    on_disk: World,
}

/// How `kiln` ended.
#[derive(Debug)]
pub struct Answer {
    /// None when it was killed.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Project {
    pub fn new(root: PathBuf, world: &World) -> Self {
        let empty = World { files: Default::default(), stages: Vec::new(), ..world.clone() };
        // The marker of a store makes this folder the project root, wherever it lies.
        fs::create_dir_all(root.join("artifacts")).unwrap();
        let mut project = Self { root, on_disk: empty };
        project.write(world);
        project
    }

    /// A copy of all of it, with the times of files.
    pub fn copy(&self, root: &Path) -> Self {
        let copied = Command::new("cp").arg("-a").args([&self.root, root]).status().unwrap();
        assert!(copied.success());
        Self { root: root.to_owned(), on_disk: self.on_disk.clone() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Makes the folder hold this world.
    pub fn write(&mut self, world: &World) {
        for path in self.on_disk.files.keys().filter(|path| !world.files.contains_key(*path)) {
            let file = self.root.join(path);
            fs::remove_file(&file).unwrap();
            // A world has no empty folders, and to Kiln they are part of a source.
            let mut folder = file.parent();
            while let Some(empty) = folder.filter(|folder| fs::remove_dir(folder).is_ok()) {
                folder = empty.parent();
            }
        }
        for (path, leaf) in &world.files {
            if self.on_disk.files.get(path) != Some(leaf) {
                self.write_file(path, leaf);
            }
        }
        // In one step, for a runner may be about to read it.
        fs::write(self.root.join("kiln.yaml.new"), yaml::pipeline(world)).unwrap();
        fs::rename(self.root.join("kiln.yaml.new"), self.root.join("kiln.yaml")).unwrap();
        self.on_disk = world.clone();
    }

    /// The files are those of this world already.
    pub fn write_seen(&mut self, world: &World) {
        self.on_disk = world.clone();
    }

    fn write_file(&self, path: &str, leaf: &Leaf) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &leaf.text).unwrap();
        let mode = if leaf.exec { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Starts `kiln`; what it prints goes to files, so that nobody has to read it.
    pub fn start(&self, words: &[&str]) -> Running {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = |kind: &str| self.root.join(format!("said/{n}.{kind}"));
        fs::create_dir_all(self.root.join("said")).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("kiln"));
        command.args(words).current_dir(&self.root).env("SOAK", &self.root);
        for name in ["KILN_STORE", "KILN_LOG", "KILN_PROVIDER", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        let (out, err) = (file("out"), file("err"));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), out, err }
    }

    /// Runs `kiln` to its end.
    pub fn kiln(&self, words: &[&str]) -> Result<Answer, String> {
        self.start(words).wait()
    }

    /// The JSON that `kiln` answers with.
    pub fn json(&self, words: &[&str]) -> Result<Value, String> {
        let answer = self.kiln(&[words, &["--json"]].concat())?;
        serde_json::from_str(&answer.out).map_err(|e| format!("`kiln {}`: {e}: {answer:?}", words.join(" ")))
    }

    /// The processes that were started for this project, with their command lines. A supervisor has the working
    /// folder of its runner, a stage has its own below the store and TMPDIR there.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let own = std::process::id().cast_signed();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| *pid != own).filter_map(|pid| self.is_ours(pid).map(|line| (pid, line))).collect()
    }

    fn is_ours(&self, pid: i32) -> Option<String> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        if matches!(state, 'Z' | 'X') {
            return None;
        }
        let mut environment = Vec::new();
        let _ = File::open(folder.join("environ")).and_then(|mut file| file.read_to_end(&mut environment));
        let mark = self.root.to_str()?;
        let marked =
            String::from_utf8_lossy(&environment).split('\0').any(|variable| variable.contains(mark));
        let cwd = fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.root));
        let line = fs::read(folder.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (marked || cwd).then_some(line)
    }

    /// Waits until no process of this project is left; gives those that do not end.
    pub fn processes_after(&self, patience: Duration) -> Vec<(i32, String)> {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() || start.elapsed() > patience {
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// `kiln` at work.
pub struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has printed this line; not longer than it runs, and not for ever.
    pub fn wait_for_line(&mut self, line: &str) {
        let start = Instant::now();
        let printed =
            |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(|l| l == line));
        while !self.has_ended() && !printed(&self.err) && start.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its processes: the spawner, supervisors, stages.
    pub fn descendants(&self) -> Vec<i32> {
        let mut family = BTreeSet::from([self.pid()]);
        let mut found = Vec::new();
        loop {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            let new: Vec<i32> = pids
                .filter(|pid| {
                    !family.contains(pid) && parent(*pid).is_some_and(|parent| family.contains(&parent))
                })
                .collect();
            if new.is_empty() {
                return found;
            }
            family.extend(&new);
            found.extend(new);
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Answer, String> {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > LONGEST {
                let _ = self.child.kill();
                let said = fs::read_to_string(&self.err).unwrap_or_default();
                return Err(format!("`kiln` hangs: it did not end within {LONGEST:?}; it said: {said}"));
            }
            std::thread::sleep(Duration::from_millis(if start.elapsed().as_millis() < 50 { 1 } else { 4 }));
        };
        let read = |path: &Path| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let (out, err) = (read(&self.out).unwrap_or_default(), read(&self.err).unwrap_or_default());
        if err.contains("panicked at") || err.contains("this is a bug in kiln") {
            return Err(format!("`kiln` has a bug: {err}"));
        }
        Ok(Answer { code: status.code(), out, err })
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Sends a signal; a process that has ended is no error.
pub fn signal(pid: i32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}
