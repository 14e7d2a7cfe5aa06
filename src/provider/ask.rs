//! One question to a provider, bounded.
//!
//! Purpose: runs `PROVIDER describe` or `PROVIDER check`, and gives what it printed.
//! Invariant: it ends within a time, at most so many bytes of what it prints are held in memory, and
//! nothing of its process group is left running.
//! Must not know: what the answer means.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_parent_process_death_signal,
};

use super::environment::Variables;
use super::error::{LIBRARY_MISSING, ProviderError};

/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How much of stderr is kept: its end.
const STDERR_KEPT: usize = 16 * 1024;

/// The bounds of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long the program may take.
    pub time: Duration,
    /// The most bytes that it may print.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), bytes: 16 << 20 }
    }
}

/// What is asked of a program.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The program's first argument.
    pub verb: &'static str,
    /// What it reads on stdin.
    pub request: &'a [u8],
}

/// Asks a program and gives what it printed.
///
/// # Errors
/// It cannot be started, fails, takes too long or prints too much.
pub fn ask(
    program: &Path,
    question: Question<'_>,
    environment: &Variables,
    limits: Limits,
) -> Result<Vec<u8>, ProviderError> {
    let verb = question.verb;
    let io = |what| move |source: io::Error| ProviderError::Io { what, program: program.to_owned(), source };
    let mut asked = Asked::start(program, question, environment).map_err(io("start"))?;
    let status = match asked.watch(limits).map_err(io("read the answer of"))? {
        Ending::Exit(status) => status,
        Ending::TooSlow => {
            return Err(ProviderError::TooSlow { program: program.to_owned(), verb, limit: limits.time });
        }
        Ending::TooMuch => {
            return Err(ProviderError::TooMuch { program: program.to_owned(), verb, limit: limits.bytes });
        }
    };
    if status.success() {
        return Ok(std::mem::take(&mut asked.printed));
    }
    let mut stderr = last_lines(&asked.complaints);
    if status.code() == Some(127) {
        stderr = format!("{stderr}; {LIBRARY_MISSING}");
    }
    Err(ProviderError::Failed { program: program.to_owned(), verb, status, stderr })
}

enum Ending {
    Exit(ExitStatus),
    TooSlow,
    TooMuch,
}

/// A program that was asked; its process group is killed when this is dropped.
struct Asked {
    child: Child,
    exit: OwnedFd,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    printed: Vec<u8>,
    complaints: Vec<u8>,
    /// Its process group may belong to somebody else from then on.
    reaped: bool,
}

impl Asked {
    fn start(program: &Path, question: Question<'_>, environment: &Variables) -> io::Result<Self> {
        // A file and no pipe: a program that does not read cannot hold us up.
        let mut request = File::from(memfd_create("request", MemfdFlags::CLOEXEC)?);
        request.write_all(question.request)?;
        request.rewind()?;
        let mut command = Command::new(program);
        command.arg(question.verb).env_clear().envs(environment).process_group(0);
        command.stdin(request).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its group is not ours, so what ends us does not reach it.
        let die_with_us = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: it is one system call.
        #[allow(unsafe_code)]
        let mut child = spawn(unsafe { command.pre_exec(die_with_us) })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        stdout.as_ref().map_or(Ok(()), never_wait)?;
        stderr.as_ref().map_or(Ok(()), never_wait)?;
        let exit = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, exit, stdout, stderr, printed: Vec::new(), complaints: Vec::new(), reaped: false })
    }

    fn watch(&mut self, limits: Limits) -> io::Result<Ending> {
        let deadline = Instant::now() + limits.time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ending::TooSlow);
            }
            let ended = self.wait(left)?;
            self.read()?;
            if self.printed.len() > limits.bytes {
                return Ok(Ending::TooMuch);
            }
            if ended {
                return self.finish(limits);
            }
        }
    }

    /// Waits until there is something to read or the program has ended; true when it has ended.
    fn wait(&self, most: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(&self.exit, PollFlags::IN)];
        fds.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let most = Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() };
        match poll(&mut fds, Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(fds[0].revents().contains(PollFlags::IN)),
            Err(e) => Err(e.into()),
        }
    }

    /// Reads at most a chunk of each pipe; true when there was anything.
    fn read(&mut self) -> io::Result<bool> {
        let printed = chunk(&mut self.stdout, &mut self.printed)?;
        let complained = chunk(&mut self.stderr, &mut self.complaints)?;
        let excess = self.complaints.len().saturating_sub(STDERR_KEPT);
        self.complaints.drain(..excess);
        Ok(printed || complained)
    }

    /// Ends what the program left running, and reads what is still in the pipes.
    fn finish(&mut self, limits: Limits) -> io::Result<Ending> {
        let status = self.end()?;
        // A pipe holds less than this many chunks; a process that left the group cannot hold us up.
        for _ in 0..limits.bytes / CHUNK + 64 {
            if !self.read()? {
                break;
            }
        }
        Ok(if self.printed.len() > limits.bytes { Ending::TooMuch } else { Ending::Exit(status) })
    }

    /// Kills the process group and waits for the program.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if !std::mem::replace(&mut self.reaped, true) {
            // Where all of it has ended by itself there is nothing to kill.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        self.child.wait()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Starts it; a program that a linker or a copy is still writing gets a little time.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..20 {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(25));
            }
            started => return started,
        }
    }
    command.spawn()
}

fn never_wait(pipe: &impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(pipe)?;
    Ok(fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

/// Appends at most a chunk of what a pipe holds; the pipe is closed at its end.
fn chunk(pipe: &mut Option<impl Read>, to: &mut Vec<u8>) -> io::Result<bool> {
    let Some(reader) = pipe else { return Ok(false) };
    let start = to.len();
    to.resize(start + CHUNK, 0);
    let read = reader.read(&mut to[start..]);
    to.truncate(start + read.as_ref().map_or(0, |n| *n));
    match read {
        Ok(0) => {
            *pipe = None;
            Ok(false)
        }
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
        Err(e) => Err(e),
    }
}

fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    if last.is_empty() { "it wrote nothing to stderr".into() } else { last.chars().take(600).collect() }
}
