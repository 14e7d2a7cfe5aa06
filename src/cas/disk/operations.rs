//! The trait of a disk.
//!
//! Purpose: name every change that the store makes to a disk, so that tests can make each of them fail, or
//! make the machine die between any two of them.
//! Invariant: no method does two things that a crash could part; reading is not part of the trait.
//! Must not know: blobs, actions, or why something is written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// The changes that the store makes to a disk.
pub trait Disk: Send + Sync {
    /// Writes a new file; it must not exist.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a new, empty file, to be filled by `append`; it must not exist.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Opens a file to read it and to append to it, and makes it where it is missing. A link is not followed,
    /// and a pipe does not block.
    fn open_append(&self, path: &Path) -> io::Result<File>;
    /// Writes at the end of an open file.
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Copies a file's bytes to a new file.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a new file that shares the blocks of another; an error where the file system cannot do that.
    fn reflink(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a symbolic link at `at` that holds `target`.
    fn symlink(&self, target: &Path, at: &Path) -> io::Result<()>;
    /// Makes one folder.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Sets the permission bits of a file or a folder.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Sets when the bytes of a file last changed.
    fn set_modified(&self, path: &Path, time: SystemTime) -> io::Result<()>;
    /// Puts a file's bytes on the disk for good.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Puts a folder's names on the disk for good.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Says that things will be written below this folder: from now on `sync_everything` reports every
    /// write to its disk that failed.
    fn watch(&self, folder: &Path) -> io::Result<()>;
    /// Puts everything on the disk of `path`, or of the folder that is watched, there for good: this is cheaper
    /// than many single syncs.
    fn sync_everything(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name; fails with `AlreadyExists` if something has it.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Lets two files or folders change their names in one step.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    /// Removes a file or a link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it; follows no link.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// Makes a folder and those above it.
///
/// # Errors
/// The disk refuses, or something else has the name.
pub fn make_folders(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    make(disk, path, &|_| Ok(()))
}

/// Makes a folder and those above it, and syncs the names of the new ones.
///
/// # Errors
/// The disk refuses, or something else has the name.
pub fn make_durable_folders(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    make(disk, path, &|made| made.parent().map_or(Ok(()), |parent| disk.sync_folder(parent)))
}

fn make(disk: &dyn Disk, path: &Path, made: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    // Looking is cheaper than trying: a try takes the lock of the parent.
    if path.is_dir() {
        return Ok(());
    }
    match disk.create_folder(path) {
        Ok(()) => made(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) => {
                make(disk, parent, made)?;
                make(disk, path, made)
            }
            None => Err(e),
        },
        Err(e) => Err(e),
    }
}
