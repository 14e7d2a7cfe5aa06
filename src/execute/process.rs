//! A stage's process.
//!
//! Purpose: start a program in a process group of its own, hand on what it says, wait for it.
//! Invariant: all descendants hold the key lock and carry the attempt's token, so that a later runner
//! can find them (`fence`); when `wait` returns nothing of the group is left.
//! Must not know: stages, protocols.
//!
//! A program dies with the runner (PDEATHSIG). A shell does not, for what it started would live on
//! anyhow and is ended by `fence`; in return it is started by posix_spawn, which costs a third of a fork
//! that copies the runner's page tables.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, test_kill_process_group};
use rustix::thread::CpuSet;

use super::control::{Control, Registered, signal_group};
use crate::state::KeyLock;

/// How long a process that is out of time may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// The longest line of events; more is cut off.
const LONGEST_LINE: usize = 1 << 20;

/// What to start.
pub struct Launch<'a> {
    /// The program and its arguments.
    pub arguments: &'a [OsString],
    /// Its working folder.
    pub folder: &'a Path,
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its stdin; nothing when none.
    pub stdin: Option<File>,
    /// Whether stdout is for events; else it goes to the log.
    pub events: bool,
    /// The log, opened to append; stderr goes there.
    pub log: &'a File,
    /// The cores it may use, when not all.
    pub cores: Option<CpuSet>,
    /// The key lock, which the process and its descendants keep, and in which its line of
    /// `/proc/PID/stat` is noted (see `fence`).
    pub lock: &'a KeyLock,
    /// Whether it is killed when the runner dies.
    pub dies_with_us: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It had no time left.
    TimedOut,
}

/// A process that was started.
pub struct Process<'a> {
    child: Child,
    group: i32,
    exited: OwnedFd,
    stdout: Option<ChildStdout>,
    registered: Registered<'a>,
    started: Instant,
}

impl<'a> Process<'a> {
    /// Starts it; it is signalled whenever `control` is thrown.
    ///
    /// # Errors
    /// The program is missing, may not be executed, or the machine is out of something.
    pub fn start(launch: Launch<'_>, control: &'a Control) -> io::Result<Self> {
        let mut command = command(&launch)?;
        let started = Instant::now();
        let mut child = launch.lock.inherited_by(|| command.spawn())?;
        let group = child.id().cast_signed();
        let registered = control.register(group);
        let pid = Pid::from_child(&child);
        let stdout = child.stdout.take();
        record(&launch, group);
        let exited = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| {
            signal_group(group, Signal::KILL);
            io::Error::from(e)
        })?;
        Ok(Self { child, group, exited, stdout, registered, started })
    }

    /// Waits until it ends, handing each line of its stdout on. What it left running is killed.
    ///
    /// # Errors
    /// The machine refuses to wait or read.
    pub fn wait(mut self, timeout: Option<Duration>, mut on_line: impl FnMut(&[u8])) -> io::Result<Ending> {
        let mut lines = Lines::default();
        let mut deadline = timeout.map(|time| self.started + time);
        let mut timed_out = false;
        loop {
            let ready = self.poll(deadline)?;
            if ready.output && !lines.read(self.stdout.as_ref(), &mut on_line)? {
                self.stdout = None;
            }
            if ready.exited {
                // All that it wrote is in the pipe by now; a descendant may hold the other end for ever.
                set_nonblocking(self.stdout.as_ref())?;
                while self.stdout.is_some() && lines.read(self.stdout.as_ref(), &mut on_line)? {}
                lines.finish(&mut on_line);
                break;
            }
            if deadline.is_some_and(|end| Instant::now() >= end) {
                signal_group(self.group, if timed_out { Signal::KILL } else { Signal::TERM });
                timed_out = true;
                deadline = Some(Instant::now() + GRACE);
            }
        }
        self.reap(timed_out)
    }

    /// Kills what is left of the group while the dead leader still holds its number, then reaps it.
    fn reap(mut self, timed_out: bool) -> io::Result<Ending> {
        signal_group(self.group, Signal::KILL);
        drop(self.registered);
        let status = self.child.wait()?;
        wait_until_gone(self.group);
        let ending = match (timed_out, status.code(), status.signal()) {
            (true, ..) => Ending::TimedOut,
            (_, Some(code), _) => Ending::Exit(code),
            (.., signal) => Ending::Signal(signal.unwrap_or(0)),
        };
        Ok(ending)
    }

    fn poll(&self, deadline: Option<Instant>) -> io::Result<Ready> {
        let left = deadline.map(|end| {
            let left = end.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        let flags = PollFlags::IN | PollFlags::HUP;
        let mut fds = vec![PollFd::new(&self.exited, PollFlags::IN)];
        fds.extend(self.stdout.as_ref().map(|out| PollFd::new(out, flags)));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready { exited: is_ready(fds.first()), output: is_ready(fds.get(1)) })
    }
}

struct Ready {
    exited: bool,
    output: bool,
}

/// Cuts what a pipe gives into lines.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// The rest of a line that was too long is dropped.
    skipping: bool,
}

impl Lines {
    /// Reads once; false when no more will come.
    fn read(&mut self, pipe: Option<&ChildStdout>, on_line: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let Some(pipe) = pipe else { return Ok(false) };
        let mut chunk = [0u8; 16 * 1024];
        let n = match rustix::io::read(pipe, &mut chunk) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(false),
            Ok(n) => n,
            Err(Errno::INTR) => return Ok(true),
            Err(e) => return Err(e.into()),
        };
        for piece in chunk[..n].split_inclusive(|&b| b == b'\n') {
            self.take(piece, on_line);
        }
        Ok(true)
    }

    fn take(&mut self, piece: &[u8], on_line: &mut impl FnMut(&[u8])) {
        let complete = piece.last() == Some(&b'\n');
        if !self.skipping {
            self.buffer.extend_from_slice(piece);
            self.skipping = self.buffer.len() > LONGEST_LINE;
            if complete || self.skipping {
                on_line(self.buffer.trim_ascii_end());
                self.buffer.clear();
            }
        }
        self.skipping &= !complete;
    }

    fn finish(&mut self, on_line: &mut impl FnMut(&[u8])) {
        if !self.buffer.is_empty() {
            on_line(self.buffer.trim_ascii_end());
        }
    }
}

fn command(launch: &Launch<'_>) -> io::Result<Command> {
    let program = launch.arguments.first().map_or(OsStr::new(""), OsString::as_os_str);
    let mut command = Command::new(program);
    command.args(launch.arguments.iter().skip(1)).current_dir(launch.folder);
    command.env_clear().envs(launch.environment.iter().map(|(k, v)| (k, v)));
    let stdin = launch.stdin.as_ref().map(File::try_clone).transpose()?;
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    command.stdout(if launch.events { Stdio::piped() } else { launch.log.try_clone()?.into() });
    command.stderr(launch.log.try_clone()?).process_group(0);
    if launch.dies_with_us {
        before_exec(&mut command, launch.cores);
    }
    Ok(command)
}

/// What the child does between fork and exec: all of it system calls that are safe there.
#[allow(unsafe_code)]
fn before_exec(command: &mut Command, cores: Option<CpuSet>) {
    let runner = rustix::process::getpid();
    let work = move || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The runner may have died before that took hold.
        if rustix::process::getppid() != Some(runner) {
            return Err(Errno::SRCH.into());
        }
        if let Some(cores) = &cores {
            // A core that went away meanwhile is no reason to fail.
            let _ = rustix::thread::sched_setaffinity(None, cores);
        }
        Ok(())
    };
    // SAFETY: the closure makes plain system calls and neither allocates nor takes locks.
    unsafe { command.pre_exec(work) };
}

/// Notes the child's number, group and time of birth. Should the runner die before, its token is left.
fn record(launch: &Launch<'_>, pid: i32) {
    // Longer than any such line, so that one look is enough.
    let mut line = [0; 1024];
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line));
    if let Err(e) = read.and_then(|n| launch.lock.note(&String::from_utf8_lossy(&line[..n]))) {
        tracing::debug!(pid, "a process was not recorded: {e}");
    }
}

/// Waits a moment until no process of the group is left; those killed may still be ending.
fn wait_until_gone(group: i32) {
    let Some(group) = Pid::from_raw(group) else { return };
    for _ in 0..100 {
        if test_kill_process_group(group).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn set_nonblocking(pipe: Option<&ChildStdout>) -> io::Result<()> {
    if let Some(pipe) = pipe {
        rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece, &mut |line| out.push(line.to_vec()));
        }
        lines.finish(&mut |line| out.push(line.to_vec()));
        out
    }

    #[test]
    fn pieces_become_lines() {
        assert_eq!(cut(&[b"a", b"b\n", b"c\n", b"d"]), [b"ab".to_vec(), b"c".to_vec(), b"d".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_cut_off_and_the_next_one_is_read() {
        let long = vec![b'x'; LONGEST_LINE + 1];
        let lines = cut(&[&long, &long, b"tail\n", b"next\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], b"next");
    }
}
