//! Orphans of runners that died.
//!
//! Purpose: find and end the processes of an attempt whose runner is gone, so that the next attempt
//! has the work to itself.
//! Invariant: a process is killed only when it is known to be an orphan: it is a child that a dead runner
//! noted (number and time of birth), or it carries the token of an attempt of a dead runner in its
//! environment, or it is in the group of one of these.
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
use crate::state::KeyLock;

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

/// The runners of this machine, as it was started last, that the notes in a key's lock tell of, each with
/// the children that it noted.
type Record = Vec<(Owner, Vec<Process>)>;

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
    let name = format!("{}{}{number}", name(work), owner.suffix());
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

/// Ends what dead runners left running, and says how many processes that were. `work` is the folder of
/// a key, `notes` those in its lock. Whatever a dead runner of these notes started is an orphan, for this
/// key or another: another stage's may hold this key's lock. With the lock in hand every attempt found is a
/// dead one, too, and its folder goes.
///
/// # Errors
/// The disk refuses, or a process will not go.
pub fn fence(work: &Path, notes: &str, holding_the_lock: bool) -> io::Result<usize> {
    let (mut tokens, mut children) = (Vec::new(), Vec::new());
    let attempts = if holding_the_lock { attempts(work)? } else { Vec::new() };
    tokens.extend(attempts.iter().map(|attempt| token(attempt)));
    for (owner, its_children) in record(notes) {
        if !owner.is_alive() {
            tokens.push(owner.suffix());
            children.extend(its_children);
        } else if holding_the_lock && owner == Owner::this() {
            children.extend(its_children);
        }
    }
    if tokens.is_empty() && children.is_empty() {
        return Ok(0);
    }
    let killed = end(&tokens, &children)?;
    for attempt in attempts {
        // Nothing reads it any more; a later sweep may have more luck.
        if let Err(e) = remove(&attempt) {
            tracing::warn!(folder = %attempt.display(), "what is left of an attempt was not removed: {e}");
        }
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

/// The living processes that are among `children`, or whose token is one of `tokens` or contains one that
/// is an owner's part of it.
fn orphans(tokens: &[String], children: &[Process]) -> Vec<Process> {
    let living = processes().filter(|p| !p.zombie && p.pid != std::process::id().cast_signed());
    let is_orphan = |p: &Process| {
        children.iter().any(|child| (child.pid, child.birth) == (p.pid, p.birth))
            || its_token(&environment(p)).is_some_and(|its| tokens.iter().any(|token| its.contains(token)))
    };
    living.filter(is_orphan).collect()
}

fn its_token(environment: &[u8]) -> Option<&str> {
    let entries = environment.split(|&b| b == 0).filter_map(|entry| std::str::from_utf8(entry).ok());
    entries.filter_map(|entry| entry.strip_prefix(TOKEN)?.strip_prefix('=')).next()
}

/// A process's environment; empty when it is not ours to read. While a program is being loaded the
/// kernel shows an empty one, also after the call that started it has returned, so that of a young
/// process is waited for.
fn environment(process: &Process) -> Vec<u8> {
    let folder = PathBuf::from(format!("/proc/{}", process.pid));
    loop {
        let text = fs::read(folder.join("environ")).unwrap_or_default();
        // Threads of the kernel, which have no group, and the dead never have one.
        if !text.is_empty() || process.group == 0 || process.age() > SETTING_UP {
            return text;
        }
        match fs::read_to_string(folder.join("stat")).ok().and_then(|line| parse_stat(&line)) {
            Some(now) if !now.zombie && now.birth == process.birth => {}
            _ => return text,
        }
        std::thread::sleep(Duration::from_micros(200));
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

fn record(notes: &str) -> Record {
    let (mut record, mut ours) = (Record::new(), false);
    for line in notes.lines() {
        if let Ok(owner) = serde_json::from_str::<Owner>(line) {
            ours = owner.boot == boot();
            record.extend(ours.then(|| (owner, Vec::new())));
        } else if let (true, Some((_, children))) = (ours, record.last_mut()) {
            children.extend(parse_stat(line));
        }
    }
    record
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

    /// What the tokens of all its attempts contain, and no other's.
    fn suffix(&self) -> String {
        format!(".{}-{}-", self.runner, self.birth)
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
    fn all_orphans_of_a_runner_that_is_gone_are_ended_without_the_lock_and_folders_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (work, attempt) = (folder.path().join("key"), folder.path().join("key.4000000-1-0"));
        fs::create_dir(&attempt).unwrap();
        let gone = Owner { runner: 4_000_000, birth: 1, ..Owner::this() };
        let notes = serde_json::to_string(&gone).unwrap();
        // One of this key, and one of another, which may have this key's lock.
        for token in [token(&attempt), "other.4000000-1-7".to_owned()] {
            let mut orphan = Command::new("sleep").arg("600").env(TOKEN, token).spawn().unwrap();
            let reaper = std::thread::spawn(move || orphan.wait().unwrap());
            assert_eq!(fence(&work, &notes, false).unwrap(), 1);
            assert!(!reaper.join().unwrap().success());
        }
        assert!(attempt.exists());
    }

    #[test]
    fn nothing_of_a_living_runner_is_touched_without_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("key");
        let attempt = begin(&work).unwrap();
        let mut child = Command::new("sleep").arg("600").env(TOKEN, token(&attempt)).spawn().unwrap();
        let gone = Owner { runner: 4_000_000, birth: 1, ..Owner::this() };
        let notes = format!(
            "{}\n{}\n",
            serde_json::to_string(&gone).unwrap(),
            serde_json::to_string(&Owner::this()).unwrap()
        );
        assert_eq!(fence(&work, &notes, false).unwrap(), 0);
        assert!(child.try_wait().unwrap().is_none() && attempt.exists());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
