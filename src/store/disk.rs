//! The few things the store does to a disk.
//!
//! Purpose: every write, sync and rename of the store goes through one small trait, so that tests
//! can make the machine die between any two of them.
//! Invariant: no function here does two things that a crash could part, but for making folders.
//! Must not know: blobs, actions, or why something is written.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// The changes the store makes to a disk.
pub(super) trait Disk: Send + Sync {
    /// Writes a new file; it must not exist.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Copies a file's bytes to a new file, as a reflink where the disk can.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Sets a file's permission bits.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Puts a file's bytes on the disk for good.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what bears it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, failing with `AlreadyExists` if something bears it.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Puts a folder's names on the disk for good.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Says that things will be written below this folder: from now on `sync_everything` tells of every
    /// write to its disk that failed.
    fn watch(&self, folder: &Path) -> io::Result<()>;
    /// Puts everything on the disk of `path`, or of the folder that is watched, there for good: cheaper
    /// than many single syncs.
    fn sync_everything(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it, and syncs the names of the new ones.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        // Looking is cheaper than trying: a try takes the parent's lock.
        if path.is_dir() {
            return Ok(());
        }
        match fs::create_dir(path) {
            Ok(()) => path.parent().map_or(Ok(()), |parent| self.sync_folder(parent)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match path.parent() {
                Some(parent) => {
                    self.make_folder(parent)?;
                    self.make_folder(path)
                }
                None => Err(e),
            },
            Err(e) => Err(e),
        }
    }
}

/// The real disk.
#[derive(Default)]
pub(super) struct Os {
    /// A failed write is told of once for each descriptor, to those that were open at the time (Linux 5.8
    /// and later), so there is one that stays open.
    watched: OnceLock<File>,
}

impl Disk for Os {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create_new(path)?.write_all(bytes)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        // io::copy uses copy_file_range, which shares the blocks on file systems that can.
        io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some network file systems know no such flag. A hard link is never made over a name.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
            }
            done => Ok(done?),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn watch(&self, folder: &Path) -> io::Result<()> {
        let file = File::open(folder)?;
        let _ = self.watched.set(file);
        Ok(())
    }

    fn sync_everything(&self, path: &Path) -> io::Result<()> {
        match self.watched.get() {
            Some(watched) => Ok(rustix::fs::syncfs(watched)?),
            None => Ok(rustix::fs::syncfs(File::open(path)?)?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
