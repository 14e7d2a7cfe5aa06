//! The real disk.
//!
//! Purpose: do what `Disk` says by calls to the operating system.
//! Invariant: this is the one file of `cas` and `state` that changes a disk.
//! Must not know: blobs, actions, or why something is written.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::fs::{CWD, OFlags, RenameFlags, ioctl_ficlone, renameat_with};
use rustix::io::Errno;

use super::operations::Disk;

/// The real disk.
#[derive(Debug, Default)]
pub struct Os {
    /// A failed write is reported once for each descriptor, to those that were open at the time (Linux 5.8
    /// and later), so there is one that stays open.
    watched: OnceLock<File>,
}

impl Disk for Os {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create_new(path)?.write_all(bytes)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        OpenOptions::new().read(true).append(true).create(true).custom_flags(flags).open(path)
    }

    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
    }

    fn reflink(&self, from: &Path, to: &Path) -> io::Result<()> {
        let source = File::open(from)?;
        let copy = File::create_new(to)?;
        ioctl_ficlone(&copy, &source).map_err(|e| {
            let _ = fs::remove_file(to);
            e.into()
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn symlink(&self, target: &Path, at: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, at)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        File::open(path)?.set_modified(time)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
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

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some network file systems do not know this flag. A hard link is never made over a name.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
            }
            done => Ok(done?),
        }
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
}
