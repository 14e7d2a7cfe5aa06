//! Temporary files.
//!
//! Purpose: a file that is removed with its value unless it was given a name. One that takes long to come stays, so that
//! the next process goes on from it.
//! Invariant: what was named is never removed here.
//! Must not know: what is in the file.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cas::disk::Disk;
use crate::cas::error::StoreError;
use crate::cas::stat::{self, Stat};

/// Temporary files older than this belong to nobody.
const STALE: i64 = 24 * 3600 * 1_000_000_000;

/// The path of a temporary file, which is removed with it unless it was given a name.
pub(in crate::cas) struct Temporary {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    named: bool,
    stays: bool,
}

impl Temporary {
    pub(super) fn at(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { path, disk, named: false, stays: false }
    }

    /// The same file, which stays when it was given no name.
    pub(super) fn that_stays(mut self) -> Self {
        self.stays = true;
        self
    }

    /// Has it removed when it was given no name: its bytes are of no use.
    pub fn set_useless(&mut self) {
        self.stays = false;
    }

    /// Gives it its name by `name`.
    pub fn name(&mut self, name: impl FnOnce(&Path) -> Result<(), StoreError>) -> Result<(), StoreError> {
        name(&self.path)?;
        self.named = true;
        Ok(())
    }
}

impl Deref for Temporary {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named && !self.stays {
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

/// Removes what crashed processes left long ago.
pub(super) fn sweep(disk: &dyn Disk, folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let now = stat::now();
    for entry in entries.flatten() {
        if entry.metadata().is_ok_and(|meta| Stat::of(&meta).last_change() < now - STALE) {
            let _ = disk.remove_file(&entry.path());
        }
    }
}
