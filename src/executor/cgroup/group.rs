//! A control group (version 2) for the processes of one stage.
//!
//! Purpose: kill every descendant of a stage at once, also those that left its process group or session.
//! Invariant: a name is never used twice; only a group with a name of ours is ever killed or removed.
//! Must not know: stages. A group is a help where it can be had; nothing may depend on it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::hierarchy::Hierarchies;

const PREFIX: &str = "kiln-";

/// How often the list of processes is read again, where the kernel lacks `cgroup.kill` (before 5.14).
const ROUNDS: u32 = 50;

static MADE: AtomicU32 = AtomicU32::new(0);

/// A control group of ours. It is removed when this is dropped, if no process is left in it.
#[derive(Debug)]
pub struct Group {
    pub(super) folder: PathBuf,
}

impl Group {
    /// The group that this process is in, below which others can be made; none where that cannot be had.
    pub fn parent() -> Option<PathBuf> {
        Hierarchies::of_this_process().unified()
    }

    /// Makes an empty group below another one; none where that cannot be had.
    pub fn create_in(parent: &Path) -> Option<Self> {
        // Whoever moves a process must be allowed to write this file of the common ancestor too.
        access(parent.join("cgroup.procs"), Access::WRITE_OK).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (pid, made) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = parent.join(format!("{PREFIX}{pid}-{now:x}.{made}"));
        fs::create_dir(&folder).ok()?;
        // From here on `drop` removes it.
        let group = Self { folder };
        // Below a threaded group a new one is `domain invalid` and takes no processes.
        let kind = fs::read_to_string(group.folder.join("cgroup.type")).ok()?;
        let usable = access(group.folder.join("cgroup.procs"), Access::WRITE_OK).is_ok();
        (kind.trim() == "domain" && usable).then_some(group)
    }

    /// Removes the groups below `parent` that supervisors left there which were killed. One with processes stays.
    pub fn sweep(parent: &Path) {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        for folder in entries.map(|entry| entry.path()) {
            let name = folder.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
            let pid = name.and_then(|name| name.split('-').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                drop(Self { folder });
            }
        }
    }

    /// Moves a process into the group. What it starts later is in the group as well.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
    }

    /// Moves this process back to the group above; false when it cannot go back. Then it stays, and is killed
    /// with the rest, so that nothing that was started escapes.
    pub fn leave(&self) -> bool {
        let parent = self.folder.parent();
        parent.is_some_and(|up| fs::write(up.join("cgroup.procs"), std::process::id().to_string()).is_ok())
    }

    /// Kills every process in the group and below it. They may need a moment to end: see `is_empty`.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.folder.join("cgroup.kill"), "1") {
            Err(e) if e.kind() == ErrorKind::NotFound && self.folder.exists() => self.kill_one_by_one(),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    pub(super) fn kill_one_by_one(&self) -> io::Result<()> {
        for _ in 0..ROUNDS {
            if self.is_empty()? {
                return Ok(());
            }
            for pid in self.processes()? {
                match Pid::from_raw(pid).map_or(Ok(()), |pid| kill_process(pid, Signal::KILL)) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            sleep(Duration::from_millis(2));
        }
        Err(io::Error::other(format!(
            "`{}` still has processes after {ROUNDS} rounds",
            self.folder.display()
        )))
    }

    /// The processes in the group and in the groups that they made below it.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let mut processes = Vec::new();
        for folder in below(&self.folder)? {
            let text = match fs::read_to_string(folder.join("cgroup.procs")) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                text => text?,
            };
            // A process outside of our process namespace is listed as 0.
            processes
                .extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid != 0));
        }
        Ok(processes)
    }

    /// True when no living process is in the group or below it.
    pub fn is_empty(&self) -> io::Result<bool> {
        match fs::read_to_string(self.folder.join("cgroup.events")) {
            Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV) => Ok(true),
            text => Ok(text?.lines().any(|line| line == "populated 0")),
        }
    }

    /// Removes the group, and the groups below it. Fails while it has processes.
    pub fn remove(&self) -> io::Result<()> {
        for folder in below(&self.folder)?.into_iter().rev() {
            match fs::remove_dir(&folder) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // With processes in it, it stays.
        let _ = self.remove();
    }
}

/// A group and all below it, parents first; none when it is gone.
fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_path_buf()];
    let mut next = 0;
    while next < found.len() {
        let entries = match fs::read_dir(&found[next]) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                next += 1;
                continue;
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        next += 1;
    }
    Ok(found)
}
