//! What a system call does to which file.
//!
//! Purpose: the calls that change a disk, read a file or send a message, with the paths of their files.
//! Invariant: nothing of the traced process is changed.
//! Must not know: stores, remotes, what a file is for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The longest path.
const LONGEST: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A file is made, opened to be written, written, or gets another length.
    Write,
    /// A file is opened to be read, or read.
    Read,
    /// A name is given: the path is the new one.
    Name,
    /// A folder or a symbolic link is made.
    Make,
    Remove,
    Sync,
    Mode,
    /// A message goes to another process; there is no path.
    Send,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub act: Act,
    pub path: PathBuf,
}

/// The call that a thread is about to make; none when it is of no interest.
pub fn decode(thread: i32, number: i64, a: &[u64; 6]) -> Option<Call> {
    let reader = Reader { thread };
    let (act, path) = by_descriptor(&reader, number, a).or_else(|| by_path(&reader, number, a))?;
    Some(Call { act, path: path? })
}

type Found = (Act, Option<PathBuf>);

fn by_descriptor(reader: &Reader, number: i64, a: &[u64; 6]) -> Option<Found> {
    let found = match number {
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_ftruncate
        | libc::SYS_sendfile => (Act::Write, reader.file(a[0])),
        libc::SYS_copy_file_range => (Act::Write, reader.file(a[2])),
        libc::SYS_read | libc::SYS_pread64 => (Act::Read, reader.file(a[0])),
        libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_syncfs => (Act::Sync, reader.file(a[0])),
        libc::SYS_fchmod => (Act::Mode, reader.file(a[0])),
        libc::SYS_sendmsg => (Act::Send, Some(PathBuf::new())),
        _ => return None,
    };
    Some(found)
}

fn by_path(reader: &Reader, number: i64, a: &[u64; 6]) -> Option<Found> {
    let found = match number {
        libc::SYS_openat => {
            let flags = a[2] as i32;
            let writes = flags & (libc::O_CREAT | libc::O_WRONLY | libc::O_RDWR) != 0;
            (if writes { Act::Write } else { Act::Read }, reader.path(a[0], a[1]))
        }
        libc::SYS_renameat2 | libc::SYS_renameat | libc::SYS_linkat => (Act::Name, reader.path(a[2], a[3])),
        libc::SYS_symlinkat => (Act::Make, reader.path(a[1], a[2])),
        libc::SYS_mkdirat => (Act::Make, reader.path(a[0], a[1])),
        libc::SYS_unlinkat => (Act::Remove, reader.path(a[0], a[1])),
        libc::SYS_fchmodat => (Act::Mode, reader.path(a[0], a[1])),
        _ => return by_old_path(reader, number, a),
    };
    Some(found)
}

/// The calls that newer machines do not have.
#[cfg(target_arch = "x86_64")]
fn by_old_path(reader: &Reader, number: i64, a: &[u64; 6]) -> Option<Found> {
    const HERE: u64 = libc::AT_FDCWD as u64;
    let found = match number {
        libc::SYS_rename | libc::SYS_link => (Act::Name, reader.path(HERE, a[1])),
        libc::SYS_symlink => (Act::Make, reader.path(HERE, a[1])),
        libc::SYS_mkdir => (Act::Make, reader.path(HERE, a[0])),
        libc::SYS_unlink | libc::SYS_rmdir => (Act::Remove, reader.path(HERE, a[0])),
        libc::SYS_chmod => (Act::Mode, reader.path(HERE, a[0])),
        _ => return None,
    };
    Some(found)
}

#[cfg(not(target_arch = "x86_64"))]
fn by_old_path(_: &Reader, _: i64, _: &[u64; 6]) -> Option<Found> {
    None
}

/// Reads what a thread's numbers stand for.
struct Reader {
    thread: i32,
}

impl Reader {
    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.thread.to_string()).join(name)
    }

    /// The path of an open file; none for sockets, pipes and their like.
    fn file(&self, descriptor: u64) -> Option<PathBuf> {
        let link = fs::read_link(self.proc("fd").join((descriptor as i32).to_string())).ok()?;
        link.is_absolute().then_some(link)
    }

    /// The path at an address, relative to a folder that is open.
    fn path(&self, folder: u64, address: u64) -> Option<PathBuf> {
        let mut bytes = vec![0; LONGEST];
        let read = File::open(self.proc("mem")).ok()?.read_at(&mut bytes, address).ok()?;
        bytes.truncate(bytes[..read].iter().position(|byte| *byte == 0)?);
        let path = PathBuf::from(OsString::from_vec(bytes));
        if path.is_absolute() {
            return Some(path);
        }
        let folder = match folder as i32 {
            libc::AT_FDCWD => fs::read_link(self.proc("cwd")).ok()?,
            descriptor => self.file(descriptor as u64)?,
        };
        Some(folder.join(path))
    }
}
