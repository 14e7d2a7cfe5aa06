//! Orphans of runners that died.
//!
//! Purpose: find and end the processes of an attempt whose runner is gone, so that the next attempt
//! has the work to itself.
//! Invariant: a process is killed only when it is known to be an orphan of that attempt: it is the
//! recorded child (number and time of birth), or it carries the attempt's token in its environment,
//! or it is in the group of one of these.
//! Must not know: stages, what an attempt makes.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::control::signal_group;

/// The environment variable that holds an attempt's token.
pub const TOKEN: &str = "KILN_ATTEMPT";
const PREFIX: &str = "attempt-";
/// Names of outputs begin with no dot, so this one is free.
const RECORD: &str = ".process";
/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after its birth a process may show an empty environment because it is still being set up.
const SETTING_UP: Duration = Duration::from_secs(1);

/// Whose attempt it is: the first line of its record. The second is the child's `/proc/self/stat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// The machine, since it was started.
    boot: String,
    /// The runner's process.
    runner: i32,
    /// The runner's time of birth, in ticks since boot.
    birth: u64,
}

/// A process, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    group: i32,
    birth: u64,
    zombie: bool,
}

/// Makes the folder of a new attempt below `work`, with a record for its process to be written to.
///
/// # Errors
/// The disk refuses.
pub fn begin(work: &Path) -> io::Result<(PathBuf, File)> {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let owner = Owner::this();
    let number = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let folder = work.join(format!("{PREFIX}{}-{}-{number}", owner.runner, owner.birth));
    match fs::create_dir(work) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir_all(work)?,
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::create_dir(&folder)?;
    let mut record = OpenOptions::new().create_new(true).append(true).open(folder.join(RECORD))?;
    record.write_all(format!("{}\n", serde_json::to_string(&owner)?).as_bytes())?;
    Ok((folder, record))
}

/// Removes an attempt's folder; quickly when there is little left in it.
///
/// # Errors
/// The disk refuses.
pub fn remove(attempt: &Path) -> io::Result<()> {
    fs::remove_file(attempt.join(RECORD)).and_then(|()| fs::remove_dir(attempt)).or_else(|_| {
        match fs::remove_dir_all(attempt) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    })
}

/// The token of an attempt's folder.
pub fn token(attempt: &Path) -> String {
    attempt.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Ends what dead runners left running for the work in this folder, and says how many processes that
/// were. With the key lock in hand every attempt found is a dead one; without it only those whose
/// runner is gone from this machine are.
///
/// # Errors
/// The disk refuses, or a process will not go.
pub fn fence(work: &Path, holding_the_lock: bool) -> io::Result<usize> {
    let entries = match fs::read_dir(work) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut killed = 0;
    for entry in entries.flatten() {
        let attempt = entry.path();
        if !token(&attempt).starts_with(PREFIX) {
            continue;
        }
        let (owner, child) = read_record(&attempt);
        let here = owner.as_ref().is_some_and(|owner| owner.boot == boot());
        if here && (holding_the_lock || !owner.is_some_and(|owner| owner.is_alive())) {
            killed += end(&token(&attempt), child)?;
        }
        if holding_the_lock {
            remove(&attempt)?;
        }
    }
    Ok(killed)
}

/// Kills the attempt's processes until none is left: one may fork while it is looked for.
fn end(token: &str, child: Option<Process>) -> io::Result<usize> {
    let (start, mut killed) = (Instant::now(), BTreeSet::new());
    loop {
        let orphans = orphans(token, child);
        if orphans.is_empty() {
            return Ok(killed.len());
        }
        for orphan in &orphans {
            killed.insert(orphan.pid);
            signal_group_of(orphan);
        }
        if start.elapsed() > PATIENCE {
            let message = format!("process {} of a dead runner does not end; end it by hand", orphans[0].pid);
            return Err(io::Error::other(message));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn orphans(token: &str, child: Option<Process>) -> Vec<Process> {
    let mark = format!("{TOKEN}={token}");
    let living = processes().filter(|p| !p.zombie && p.pid != std::process::id().cast_signed());
    let is_orphan = |p: &Process| {
        child.is_some_and(|child| (child.pid, child.birth) == (p.pid, p.birth))
            || environment(p).split(|&b| b == 0).any(|entry| entry == mark.as_bytes())
    };
    living.filter(is_orphan).collect()
}

/// A process's environment; empty when it is not ours to read. While a program is being loaded the
/// kernel shows an empty one, also after the call that started it has returned, so that of a young
/// process is waited for.
fn environment(process: &Process) -> Vec<u8> {
    let file = format!("/proc/{}/environ", process.pid);
    loop {
        let text = fs::read(&file);
        match text {
            Ok(text) if text.is_empty() && process.age() < SETTING_UP => {
                std::thread::sleep(Duration::from_micros(200));
            }
            text => return text.unwrap_or_default(),
        }
    }
}

fn signal_group_of(orphan: &Process) {
    // Its group is the attempt's own, or one that it made; never ours.
    let ours = rustix::process::getpgrp().as_raw_nonzero().get();
    if orphan.group > 1 && orphan.group != ours {
        signal_group(orphan.group, Signal::KILL);
    }
    if let Some(pid) = Pid::from_raw(orphan.pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<i32>().ok()?;
        parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?)
    })
}

fn read_record(attempt: &Path) -> (Option<Owner>, Option<Process>) {
    let text = fs::read_to_string(attempt.join(RECORD)).unwrap_or_default();
    let mut lines = text.lines();
    let owner = lines.next().and_then(|line| serde_json::from_str(line).ok());
    (owner, lines.next().and_then(parse_stat))
}

/// Reads a line of `/proc/PID/stat`; the program's name in it may hold any character.
fn parse_stat(line: &str) -> Option<Process> {
    let pid = line.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        group: fields.get(2)?.parse().ok()?,
        birth: fields.get(19)?.parse().ok()?,
    })
}

impl Process {
    fn age(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let born = Duration::from_millis(self.birth.saturating_mul(1000) / ticks);
        Duration::try_from(now).unwrap_or_default().saturating_sub(born)
    }
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    // Numbers of processes mean something only within one name space.
    let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", id.trim(), space.display())
}

impl Owner {
    fn this() -> Self {
        static THIS: std::sync::OnceLock<Owner> = std::sync::OnceLock::new();
        let find = || {
            let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|line| parse_stat(&line));
            let birth = stat.map_or(0, |process| process.birth);
            Self { boot: boot(), runner: std::process::id().cast_signed(), birth }
        };
        THIS.get_or_init(find).clone()
    }

    fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.runner)).ok();
        stat.and_then(|line| parse_stat(&line)).is_some_and(|p| p.birth == self.birth && !p.zombie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_program_name_with_brackets_does_not_confuse() {
        let line = "42 (a) b) S 1 40 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1";
        let expected = Process { pid: 42, group: 40, birth: 777, zombie: false };
        assert_eq!(parse_stat(line), Some(expected));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn an_orphan_is_found_by_its_token_and_ended_and_its_attempt_removed() {
        let work = tempfile::tempdir().unwrap();
        let (attempt, _record) = begin(work.path()).unwrap();
        let mut orphan = Command::new("sleep").arg("600").env(TOKEN, token(&attempt)).spawn().unwrap();
        // Our own attempt, by a living runner: nobody's business without the lock.
        assert_eq!(fence(work.path(), false).unwrap(), 0);
        let reaper = std::thread::spawn(move || orphan.wait().unwrap());
        assert!(fence(work.path(), true).unwrap() >= 1);
        assert!(!reaper.join().unwrap().success());
        assert!(!attempt.exists());
    }

    #[test]
    fn a_process_that_has_only_just_started_shows_its_environment() {
        for _ in 0..20 {
            let mut child = Command::new("sleep").arg("600").env(TOKEN, "x").spawn().unwrap();
            let line = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            let text = environment(&parse_stat(&line).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(String::from_utf8(text).unwrap().contains("KILN_ATTEMPT=x"));
        }
    }

    #[test]
    fn an_attempt_of_a_runner_that_is_gone_is_ended_without_the_lock_and_kept() {
        let work = tempfile::tempdir().unwrap();
        let attempt = work.path().join("attempt-1-1-0");
        fs::create_dir(&attempt).unwrap();
        let owner = Owner { birth: 1, ..Owner::this() };
        fs::write(attempt.join(RECORD), serde_json::to_string(&owner).unwrap()).unwrap();
        let mut orphan = Command::new("sleep").arg("600").env(TOKEN, token(&attempt)).spawn().unwrap();
        let reaper = std::thread::spawn(move || orphan.wait().unwrap());
        assert_eq!(fence(work.path(), false).unwrap(), 1);
        assert!(!reaper.join().unwrap().success());
        assert!(attempt.exists());
    }
}
