//! Orphans of runners that died.
//!
//! Purpose: find and end the processes of an attempt whose runner is gone, so that the next attempt
//! has the work to itself.
//! Invariant: a process is killed only when it is known to be an orphan of that attempt: it is the
//! recorded child (number and time of birth), or it carries the attempt's token in its environment,
//! or it is in the group of one of these.
//! Must not know: stages, what an attempt makes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::control::signal_group;
use crate::store::KeyLock;

/// The environment variable that holds an attempt's token.
pub const TOKEN: &str = "KILN_ATTEMPT";
/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after its birth a process may show an empty environment because it is still being set up.
const SETTING_UP: Duration = Duration::from_secs(1);

/// Whose attempts follow: a line of the notes in the key's lock. A child is noted by its line of
/// `/proc/PID/stat`.
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

/// What the notes in a key's lock say.
#[derive(Debug, Default)]
struct Record {
    /// The last runner that had the lock.
    owner: Option<Owner>,
    /// The children that runners of this machine, as it was started last, noted.
    children: Vec<Process>,
}

/// Notes that this runner is about to begin attempts.
///
/// # Errors
/// The disk refuses.
pub fn sign(lock: &KeyLock) -> io::Result<()> {
    lock.note(&serde_json::to_string(&Owner::this())?)
}

/// Makes the folder of a new attempt beside `work`, the folder of the key.
///
/// # Errors
/// The disk refuses.
pub fn begin(work: &Path) -> io::Result<PathBuf> {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let (owner, number) = (Owner::this(), ATTEMPTS.fetch_add(1, Ordering::Relaxed));
    let name = format!("{}.{}-{}-{number}", name(work), owner.runner, owner.birth);
    let folder = work.with_file_name(name);
    match fs::create_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            work.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::create_dir(&folder)?;
        }
        made => made?,
    }
    Ok(folder)
}

/// Removes an attempt's folder; quickly when there is little left in it.
///
/// # Errors
/// The disk refuses.
pub fn remove(attempt: &Path) -> io::Result<()> {
    fs::remove_dir(attempt).or_else(|_| match fs::remove_dir_all(attempt) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    })
}

/// The token of an attempt's folder.
pub fn token(attempt: &Path) -> String {
    name(attempt)
}

/// Ends what dead runners left running for the key whose folder this is, and says how many processes
/// that were. `notes` are those in the key's lock. With the lock in hand every attempt found is a dead
/// one; without it only those whose runner is gone from this machine are.
///
/// # Errors
/// The disk refuses, or a process will not go.
pub fn fence(work: &Path, notes: &str, holding_the_lock: bool) -> io::Result<usize> {
    let record = Record::read(notes);
    let gone = || record.owner.as_ref().is_some_and(|owner| owner.boot == boot() && !owner.is_alive());
    if !holding_the_lock && !gone() {
        return Ok(0);
    }
    let attempts = attempts(work)?;
    if attempts.is_empty() && record.children.is_empty() {
        return Ok(0);
    }
    let killed = end(&attempts.iter().map(|attempt| token(attempt)).collect::<Vec<_>>(), &record.children)?;
    if holding_the_lock {
        attempts.iter().try_for_each(|attempt| remove(attempt))?;
    }
    Ok(killed)
}

/// The folders of attempts beside the folder of their key.
fn attempts(work: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match work.parent().map(fs::read_dir) {
        None => return Ok(Vec::new()),
        Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Some(entries) => entries?,
    };
    let prefix = format!("{}.", name(work));
    let attempts = entries.flatten().map(|entry| entry.path());
    Ok(attempts.filter(|attempt| name(attempt).starts_with(&prefix)).collect())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Kills the attempts' processes until none is left: one may fork while it is looked for.
fn end(tokens: &[String], children: &[Process]) -> io::Result<usize> {
    let (start, mut killed) = (Instant::now(), BTreeSet::new());
    loop {
        let orphans = orphans(tokens, children);
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

fn orphans(tokens: &[String], children: &[Process]) -> Vec<Process> {
    let marks: Vec<String> = tokens.iter().map(|token| format!("{TOKEN}={token}")).collect();
    let living = processes().filter(|p| !p.zombie && p.pid != std::process::id().cast_signed());
    let is_orphan = |p: &Process| {
        children.iter().any(|child| (child.pid, child.birth) == (p.pid, p.birth))
            || environment(p)
                .split(|&b| b == 0)
                .any(|entry| marks.iter().any(|mark| mark.as_bytes() == entry))
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

impl Record {
    fn read(notes: &str) -> Self {
        let mut record = Self::default();
        for line in notes.lines() {
            if let Ok(owner) = serde_json::from_str(line) {
                record.owner = Some(owner);
            } else if record.owner.as_ref().is_some_and(|owner| owner.boot == boot()) {
                record.children.extend(parse_stat(line));
            }
        }
        record
    }
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
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("a/key");
        let attempt = begin(&work).unwrap();
        let mut orphan = Command::new("sleep").arg("600").env(TOKEN, token(&attempt)).spawn().unwrap();
        // Our own attempt, by a living runner: nobody's business without the lock.
        let notes = serde_json::to_string(&Owner::this()).unwrap();
        assert_eq!(fence(&work, &notes, false).unwrap(), 0);
        let reaper = std::thread::spawn(move || orphan.wait().unwrap());
        assert!(fence(&work, "", true).unwrap() >= 1);
        assert!(!reaper.join().unwrap().success());
        assert!(!attempt.exists());
    }

    #[test]
    fn a_child_that_was_noted_is_ended_whatever_its_environment() {
        let work = tempfile::tempdir().unwrap();
        let mut orphan = Command::new("sleep").arg("600").env_clear().spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", orphan.id())).unwrap();
        let owner = Owner { birth: 1, ..Owner::this() };
        let other = Owner { boot: "another".into(), ..owner.clone() };
        let notes = |owner: &Owner| format!("{}\n{stat}\n", serde_json::to_string(owner).unwrap());
        // The same number on a machine that was started anew is another process.
        assert_eq!(fence(&work.path().join("key"), &notes(&other), true).unwrap(), 0);
        let reaper = std::thread::spawn(move || orphan.wait().unwrap());
        assert_eq!(fence(&work.path().join("key"), &notes(&owner), true).unwrap(), 1);
        assert!(!reaper.join().unwrap().success());
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
        let folder = tempfile::tempdir().unwrap();
        let (work, attempt) = (folder.path().join("key"), folder.path().join("key.1-1-0"));
        fs::create_dir(&attempt).unwrap();
        let notes = serde_json::to_string(&Owner { birth: 1, ..Owner::this() }).unwrap();
        let mut orphan = Command::new("sleep").arg("600").env(TOKEN, token(&attempt)).spawn().unwrap();
        let reaper = std::thread::spawn(move || orphan.wait().unwrap());
        assert_eq!(fence(&work, &notes, false).unwrap(), 1);
        assert!(!reaper.join().unwrap().success());
        assert!(attempt.exists());
    }
}
