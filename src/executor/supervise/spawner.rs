//! The process that forks supervisors.
//!
//! Purpose: a supervisor must be single-threaded and small, and the runner is neither; so `kiln` runs
//! itself once more, and that process forks a supervisor for each request. (To fork it takes .2 ms, to
//! start the program anew takes 1 ms.)
//! Invariant: the spawner ends when the runner does; a supervisor gets exactly the descriptors that
//! were sent for it.
//! Must not know: stages, keys.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::launch::{Ended, KILL, Launch, STOP};
use super::supervisor::{self, Files};
use crate::executor::cgroup::Group;

/// The word by which `kiln` is started as a spawner.
pub const SPAWNER: &str = "__spawner";
/// The most descriptors of a request: the launch, the control socket, stdout, stderr, the lock, stdin.
const MOST_FILES: usize = 6;
/// The most bytes of a report.
const MOST_BYTES: u64 = 1 << 20;

/// The runner's side of the spawner.
#[derive(Debug)]
pub struct Spawner {
    child: Child,
    socket: UnixStream,
}

/// The runner's side of a process that was started.
#[derive(Debug)]
pub struct Process {
    control: tokio::net::UnixStream,
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
        Ok(Self { child: command.spawn()?, socket })
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
        let mut request = File::from(memfd_create("launch", MemfdFlags::CLOEXEC)?);
        request.write_all(&serde_json::to_vec(launch)?)?;
        let (control, theirs) = UnixStream::pair()?;
        let mut files = vec![request.as_fd(), theirs.as_fd(), stdout, stderr, lock];
        files.extend(stdin);
        send(self.socket.as_fd(), &files)?;
        control.set_nonblocking(true)?;
        Ok(Process { control: tokio::net::UnixStream::from_std(control)? })
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
        // A supervisor that has just ended needs no word.
        let _ = rustix::net::send(&self.control, &[word], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Waits until the leader and all its descendants have ended; none when the supervisor was killed.
    /// May be called again when it was cancelled: nothing is lost as long as `report` is kept.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn ended(&self, report: &mut Vec<u8>) -> io::Result<Option<Ended>> {
        loop {
            self.control.readable().await?;
            match self.control.try_read_buf(report) {
                Ok(0) => return Ok(serde_json::from_slice(report).ok()),
                Ok(_) if report.len() as u64 > MOST_BYTES => return Err(io::ErrorKind::InvalidData.into()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // A supervisor that is killed with unread words resets the socket.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Sends descriptors with a byte.
fn send(socket: BorrowedFd<'_>, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many descriptors"));
    }
    // The byte says how many there are, so that a cut message is noticed.
    let count = [u8::try_from(files.len()).unwrap_or(0)];
    sendmsg(socket, &[IoSlice::new(&count)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives the descriptors of a request; none at the end.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut count = [0u8];
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut count)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if files.len() != usize::from(count[0]) {
        return Err(io::Error::other("descriptors were lost; the limit of open files is too low"));
    }
    Ok(Some(files))
}

/// Is the spawner: forks a supervisor for each request on stdin, until the runner ends.
pub fn serve() {
    let stdin = io::stdin();
    // Supervisors are nobody's concern here: the kernel reaps them.
    ignore_children(true);
    // Found once, for every supervisor is in the group of the runner.
    let groups = Group::parent();
    while let Ok(Some(files)) = receive(stdin.as_fd()) {
        if fork_supervisor() {
            ignore_children(false);
            supervise(files, groups.as_deref());
            return;
        }
    }
}

fn supervise(files: Vec<OwnedFd>, groups: Option<&Path>) {
    supervisor::rename_process();
    let mut files = files.into_iter();
    let mut next = || files.next().ok_or(io::ErrorKind::InvalidData);
    let parts = || -> io::Result<_> { Ok((next()?, next()?, next()?, next()?, next()?)) };
    let Ok((request, control, stdout, stderr, lock)) = { parts }() else { return };
    let stdin = files.next();
    let Ok(launch) = read_launch(File::from(request)) else { return };
    // The runner must see the end of the spawner's socket when the spawner ends, not when we do.
    if let Ok(nothing) = File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(nothing);
    }
    supervisor::supervise(&launch, Files { stdin, stdout, stderr, lock }, UnixStream::from(control), groups);
}

fn read_launch(mut request: File) -> io::Result<Launch> {
    let mut text = Vec::new();
    request.rewind()?;
    request.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
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

    #[tokio::test]
    async fn a_word_to_a_process_that_has_only_just_started_is_not_lost() {
        let (control, mut theirs) = UnixStream::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        let process = Process { control: tokio::net::UnixStream::from_std(control).unwrap() };
        process.stop();
        process.kill();
        drop(process);
        let mut words = Vec::new();
        theirs.read_to_end(&mut words).unwrap();
        assert_eq!(words, [STOP, KILL]);
    }
}
