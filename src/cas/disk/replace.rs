//! The atomic replace.
//!
//! Purpose: put a file in the place of another one, as a whole and for good.
//! Invariant: whenever the machine dies, the old file or the new one is there; once this returns well, the
//! new one is.
//! Must not know: what stands in the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::operations::Disk;
use super::os::Os;
use crate::cas::stat;

/// The longest part of a file's name that its temporary neighbour repeats.
const LONGEST_NAME: usize = 60;

/// Writes a file beside its place, syncs it, gives it its name, and syncs the folder.
///
/// # Errors
/// The disk refuses; then what was there is still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_on(&Os::default(), path, bytes)
}

/// As `replace`, on the disk given.
///
/// # Errors
/// The disk refuses.
pub fn replace_on(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path)?;
    let named = disk
        .write(&temporary, bytes)
        .and_then(|()| disk.sync(&temporary))
        .and_then(|()| disk.rename(&temporary, path));
    if named.is_err() {
        let _ = disk.remove_file(&temporary);
    }
    named?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(folder) => disk.sync_folder(folder),
        None => disk.sync_folder(Path::new(".")),
    }
}

/// A name beside `path` that nobody else uses.
pub(in crate::cas) fn beside(path: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
    let name: String = name.to_string_lossy().chars().take(LONGEST_NAME).collect();
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    // The time keeps apart two processes of one number on two machines.
    Ok(path.with_file_name(format!(".{name}.{}-{:x}-{n}.tmp", std::process::id(), stat::now())))
}
