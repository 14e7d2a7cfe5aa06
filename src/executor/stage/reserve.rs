//! Room for what must be written when the disk is full.
//!
//! Purpose: outputs that find no room in the store stay where they are, and the next run collects them; but only if
//! their manifest can be written. So a small file is kept that can go then. And say whether a disk is full.
//! Invariant: nothing depends on it but that chance; what cannot be made or removed is let be.
//! Must not know: what is written in its place.

use std::fs;
use std::path::{Path, PathBuf};

/// A disk with less room is full.
const FULL: u64 = 256 << 10;
/// Enough for the manifests of some stages.
const BYTES: usize = 64 << 10;

/// Makes the file where it is missing.
pub fn make(store: &Path) {
    let file = file(store);
    if !file.exists() {
        let made =
            file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, [0; BYTES]));
        if let Err(e) = made {
            tracing::debug!("{} was not made: {e}", file.display());
        }
    }
}

/// Whether the disk of a path, which may be missing, has hardly any room.
pub fn is_full(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists());
    let stat = there.and_then(|path| rustix::fs::statvfs(path).ok());
    stat.is_some_and(|stat| {
        stat.f_bavail.saturating_mul(stat.f_frsize) < FULL || (stat.f_files > 0 && stat.f_favail == 0)
    })
}

/// Gives its room away.
pub fn release(store: &Path) {
    let _ = fs::remove_file(file(store));
}

fn file(store: &Path) -> PathBuf {
    store.join("cache/reserve")
}
