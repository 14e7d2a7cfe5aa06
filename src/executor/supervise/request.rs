//! A request of the runner to a supervisor, with its descriptors.
//!
//! Purpose: descriptors on a socket, with a byte that says how many they are; and the request that is made of
//! them.
//! Invariant: a supervisor gets exactly the descriptors that were sent for it, or none.
//! Must not know: what is started.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::launch::{KILL, Launch, STOP};

/// The most descriptors of a request: the launch, stdout, stderr, the lock, stdin.
const MOST_FILES: usize = 5;

/// A process to start, and its descriptors.
pub struct Request {
    /// What to start.
    pub launch: Launch,
    /// Its stdin; nothing when none.
    pub stdin: Option<OwnedFd>,
    /// Its stdout.
    pub stdout: OwnedFd,
    /// Its stderr.
    pub stderr: OwnedFd,
    /// The lock of the action, which the leader and its descendants keep open.
    pub lock: OwnedFd,
}

impl Request {
    /// Sends a request.
    ///
    /// # Errors
    /// Nobody is there to receive it, or the system is out of descriptors.
    pub fn send(
        to: BorrowedFd<'_>,
        launch: &Launch,
        stdin: Option<BorrowedFd<'_>>,
        [stdout, stderr]: [BorrowedFd<'_>; 2],
        lock: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut text = File::from(memfd_create("launch", MemfdFlags::CLOEXEC)?);
        text.write_all(&serde_json::to_vec(launch)?)?;
        let files: Vec<_> = [text.as_fd(), stdout, stderr, lock].into_iter().chain(stdin).collect();
        send(to, &files)
    }

    /// Waits for the next request; none when there will be no more, or when it cannot be read.
    pub fn receive(from: &UnixStream) -> Option<Self> {
        let mut files = loop {
            match receive(from.as_fd()).ok()?? {
                // A word for a process that had just ended.
                (STOP | KILL, _) => {}
                (_, files) => break files.into_iter(),
            }
        };
        let (text, stdout, stderr, lock) = (files.next()?, files.next()?, files.next()?, files.next()?);
        let mut bytes = Vec::new();
        let mut text = File::from(text);
        text.rewind().and_then(|()| text.read_to_end(&mut bytes)).ok()?;
        let launch = serde_json::from_slice(&bytes).ok()?;
        Some(Self { launch, stdin: files.next(), stdout, stderr, lock })
    }
}

/// Sends descriptors with a byte that says how many there are, so that a cut message is noticed.
///
/// # Errors
/// Nobody is there to receive them.
pub fn send(socket: BorrowedFd<'_>, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let count = [u8::try_from(files.len()).unwrap_or(0)];
    sendmsg(socket, &[IoSlice::new(&count)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a byte and the descriptors that came with it; none at the end.
///
/// # Errors
/// The socket fails, or descriptors were lost.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
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
    if files.len() != usize::from(count[0]) && !matches!(count[0], STOP | KILL) {
        return Err(io::Error::other("descriptors were lost; the limit of open files is too low"));
    }
    Ok(Some((count[0], files)))
}
