//! The process that forks supervisors.
//!
//! Purpose: a supervisor must be single-threaded and small, and the runner is neither; so `kiln` runs
//! itself once more, and that process forks a supervisor where none is free. (To fork it takes .2 ms, to
//! start the program anew takes 1 ms.)
//! Invariant: spawner and supervisors end when the runner does; a supervisor has one process at a time.
//! Must not know: stages, keys.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::net::SendFlags;

use super::launch::{Ended, KILL, Launch, STOP};
use super::request::{self, Request};
use super::supervisor;
use crate::cas::unpoisoned;
use crate::executor::cgroup::Group;

/// The word by which `kiln` is started as a spawner.
pub const SPAWNER: &str = "__spawner";
/// The most bytes of a report.
const MOST_BYTES: usize = 1 << 20;

/// The control sockets of supervisors that have no process.
type Idle = Arc<Mutex<Vec<tokio::net::UnixStream>>>;

/// The runner's side of the spawner.
#[derive(Debug)]
pub struct Spawner {
    child: Child,
    socket: UnixStream,
    idle: Idle,
}

/// The runner's side of a process that was started.
#[derive(Debug)]
pub struct Process {
    /// None when the process has ended and its supervisor is free for another one.
    control: Option<tokio::net::UnixStream>,
    idle: Idle,
}

impl Spawner {
    /// Starts the spawner.
    ///
    /// # Errors
    /// The system gives us no process or no socket.
    pub fn start() -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(SPAWNER).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        // Its own group, so that a Ctrl-C at the terminal reaches the runner alone.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self { child: command.spawn()?, socket, idle: Idle::default() })
    }

    /// Starts a process under a supervisor. Call it inside of the runtime.
    ///
    /// # Errors
    /// The spawner is gone, or the system is out of descriptors.
    pub fn spawn(
        &self,
        launch: &Launch,
        stdin: Option<BorrowedFd<'_>>,
        [stdout, stderr]: [BorrowedFd<'_>; 2],
        lock: BorrowedFd<'_>,
    ) -> io::Result<Process> {
        // A supervisor that somebody has killed meanwhile is passed over.
        loop {
            let free = unpoisoned(&self.idle).pop();
            let is_new = free.is_none();
            let control = free.map_or_else(|| self.fork(), Ok)?;
            match Request::send(control.as_fd(), launch, stdin, [stdout, stderr], lock) {
                Ok(()) => return Ok(Process { control: Some(control), idle: Arc::clone(&self.idle) }),
                Err(e) if is_new => return Err(e),
                Err(_) => {}
            }
        }
    }

    /// A new supervisor.
    fn fork(&self) -> io::Result<tokio::net::UnixStream> {
        let (control, theirs) = UnixStream::pair()?;
        request::send(self.socket.as_fd(), &[theirs.as_fd()])?;
        control.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(control)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // It ends when it sees the end of its socket.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

impl Process {
    /// Asks the leader to stop, by SIGTERM.
    pub fn stop(&self) {
        self.order(STOP);
    }

    /// Kills the leader and all its descendants.
    pub fn kill(&self) {
        self.order(KILL);
    }

    /// Sends a byte at once. (`try_write` of tokio sends nothing before the runtime has seen that the socket is
    /// ready, so that a stop that comes with the start would be lost.)
    fn order(&self, word: u8) {
        // A supervisor that has just reported needs no word.
        if let Some(control) = &self.control {
            let _ = rustix::net::send(control, &[word], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }

    /// Waits until the leader and all its descendants have ended; none when the supervisor was killed.
    /// May be called again when it was cancelled: nothing is lost as long as `report` is kept.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn ended(&mut self, report: &mut Vec<u8>) -> io::Result<Option<Ended>> {
        while report.last() != Some(&b'\n') {
            let Some(control) = &self.control else { return Ok(None) };
            control.readable().await?;
            match control.try_read_buf(report) {
                Ok(0) => return Ok(None),
                Ok(_) if report.len() > MOST_BYTES => return Err(io::ErrorKind::InvalidData.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // A supervisor that is killed with unread words resets the socket.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let ended: Option<Ended> = serde_json::from_slice(report).ok();
        if ended.as_ref().is_some_and(|ended| !ended.is_last) {
            unpoisoned(&self.idle).extend(self.control.take());
        }
        Ok(ended)
    }
}

/// Is the spawner: forks a supervisor for each control socket that comes on stdin, until the runner ends.
pub fn serve() {
    let stdin = io::stdin();
    // Supervisors are nobody's concern here: the kernel reaps them.
    ignore_children(true);
    // Found once, for every supervisor is in the group of the runner.
    let groups = Group::parent();
    groups.iter().for_each(|parent| Group::sweep(parent));
    while let Ok(Some((_, files))) = request::receive(stdin.as_fd()) {
        if fork_supervisor() {
            ignore_children(false);
            supervisor::rename_process();
            // The runner must see the end of the spawner's socket when the spawner ends, not when we do.
            if let Ok(nothing) = File::open("/dev/null") {
                let _ = rustix::stdio::dup2_stdin(nothing);
            }
            files.into_iter().for_each(|control| supervisor::serve(control.into(), groups.as_deref()));
            return;
        }
    }
}

/// Forks; true in the child.
#[allow(unsafe_code)]
fn fork_supervisor() -> bool {
    // SAFETY: the spawner has a single thread, so the child may do whatever its parent may.
    unsafe { libc::fork() == 0 }
}

#[allow(unsafe_code)]
fn ignore_children(ignore: bool) {
    let action = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: no handler of ours is replaced; both actions are the kernel's own.
    unsafe { libc::signal(libc::SIGCHLD, action) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn a_word_to_a_process_that_has_only_just_started_is_not_lost() {
        let (control, mut theirs) = UnixStream::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        let control = Some(tokio::net::UnixStream::from_std(control).unwrap());
        let process = Process { control, idle: Idle::default() };
        process.stop();
        process.kill();
        drop(process);
        let mut words = Vec::new();
        theirs.read_to_end(&mut words).unwrap();
        assert_eq!(words, [STOP, KILL]);
    }
}
