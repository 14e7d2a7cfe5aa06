//! The processes below a process.
//!
//! Purpose: find every descendant, name it, and find who holds a lock file open.
//! Invariant: works without optional parts of `/proc`; a process that ends meanwhile is left out.
//! Must not know: what the processes are for.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Pid;

/// The most characters of a command line that are shown.
const LONGEST_NAME: usize = 120;

/// All descendants of a process, children before grandchildren; zombies are left out.
pub fn of(ancestor: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in all() {
        if let Some((parent, false)) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![ancestor.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

/// The processes that hold a file open, but for this one.
pub fn holders(file: &Path) -> Vec<Pid> {
    let Ok(meta) = fs::metadata(file) else { return Vec::new() };
    let wanted = (meta.dev(), meta.ino());
    let own = std::process::id().cast_signed();
    let holds = |pid: &i32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|entry| fs::metadata(entry.path()).ok()).any(|m| (m.dev(), m.ino()) == wanted)
    };
    all().filter(|pid| *pid != own).filter(holds).filter_map(Pid::from_raw).collect()
}

/// Whether a process is alive; a zombie is not.
pub fn is_alive(pid: i32) -> bool {
    matches!(parent(pid), Some((_, false)))
}

/// The command line of a process, or the name of its program.
pub fn command_line(pid: Pid) -> String {
    let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    if words.is_empty() {
        return program(pid);
    }
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_NAME).collect()
}

/// The name of the program of a process, which may be a zombie.
pub fn program(pid: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if name.trim().is_empty() { "a process".to_owned() } else { name.trim().to_owned() }
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent of a process, and whether it is a zombie.
fn parent(pid: i32) -> Option<(i32, bool)> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets and may hold any character.
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some((fields.next()?.parse().ok()?, zombie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_a_descendant_and_holds_what_it_inherited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = fs::File::create(&path).unwrap();
        let mut child = std::process::Command::new("sleep").arg("600").stdin(file).spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(of(rustix::process::getpid()).contains(&pid));
        assert_eq!(holders(&path), [pid]);
        assert_eq!(command_line(pid), "sleep 600");
        assert!(is_alive(child.id().cast_signed()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(child.id().cast_signed()) && holders(&path).is_empty());
    }
}
