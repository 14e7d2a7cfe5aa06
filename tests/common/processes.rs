//! Processes that a test has started: who descends from whom, and which are left of a project.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// The short name that the kernel keeps.
    pub name: String,
    pub state: char,
}

impl Process {
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?.chars().next()?;
        Some(Self { pid, parent: fields.next()?.parse().ok()?, name: name.to_owned(), state })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    pub fn command_line(&self) -> String {
        let words = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&words).replace('\0', " ")
    }

    /// Whether it was started for a project: it works below the folder, or its environment names the folder.
    fn is_of(&self, root: &Path) -> bool {
        let folder = Path::new("/proc").join(self.pid.to_string());
        let mut environment = Vec::new();
        let _ = File::open(folder.join("environ")).and_then(|mut file| file.read_to_end(&mut environment));
        let mark = root.to_string_lossy();
        let named = String::from_utf8_lossy(&environment).split('\0').any(|entry| entry.contains(&*mark));
        named || fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root))
    }
}

/// Those that have not ended.
fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of).filter(|process| !process.has_ended()).collect()
}

/// The descendants of a process, parents before children.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all = all();
    let (mut family, mut found) = (BTreeSet::from([pid]), Vec::new());
    loop {
        let is_new = |process: &&Process| family.contains(&process.parent) && !family.contains(&process.pid);
        let new: Vec<_> = all.iter().filter(is_new).cloned().collect();
        if new.is_empty() {
            return found;
        }
        family.extend(new.iter().map(|process| process.pid));
        found.extend(new);
    }
}

/// Waits until nothing runs for a project; gives the command lines of what does not end.
pub fn left_after(root: &Path, patience: Duration) -> Vec<String> {
    let (start, own) = (Instant::now(), std::process::id().cast_signed());
    loop {
        let left = all().into_iter().filter(|process| process.pid != own && process.is_of(root));
        let left: Vec<_> =
            left.map(|process| format!("{} {}", process.pid, process.command_line())).collect();
        if left.is_empty() || start.elapsed() > patience {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends SIGKILL; a process that has ended is no error.
pub fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
