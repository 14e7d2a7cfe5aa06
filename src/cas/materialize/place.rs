//! One file, link or folder of an artifact at its place.
//!
//! Purpose: give a blob's bytes a place as a reflink, a hard link or a copy, with the modes of ordinary files.
//! Invariant: a blob is verified before it is placed; a hard link of ours costs a blob no trust; only a blob
//! that nobody may execute becomes a hard link, for it shares the mode of the blob.
//! Must not know: what a stage does with its inputs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::cas::disk::make_folders;
use crate::cas::error::{During, StoreError};
use crate::cas::local::{READ_ONLY, unpoisoned};
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::types::Tree;
use crate::digest::Digest;

/// The modes of copies.
const FILE: u32 = 0o644;
const EXECUTABLE_FILE: u32 = 0o755;
const FOLDER: u32 = 0o755;

impl Store {
    /// Gives the bytes of a blob the place `to`.
    pub(in crate::cas) fn place_blob(
        &self,
        digest: &Digest,
        to: &Path,
        executable: bool,
        hard_link: bool,
    ) -> Result<(), StoreError> {
        let blob = self.blobs.intact(digest)?;
        if self.reflink(&blob, to)? {
            return self.set_copy_mode(to, executable);
        }
        if hard_link && !executable && self.hard_link(digest, &blob, to)? {
            return Ok(());
        }
        self.disk().copy(&blob, to).during("copy a blob to", to)?;
        self.set_copy_mode(to, executable)
    }

    /// Gives a blob a second name; false where that cannot be. It changes the ctime of the blob and nothing else,
    /// so a blob that was trusted stays trusted.
    fn hard_link(&self, digest: &Digest, blob: &Path, to: &Path) -> Result<bool, StoreError> {
        let _turn = unpoisoned(&self.blobs.relinking);
        let meta = fs::symlink_metadata(blob).during("look at", blob)?;
        if meta.permissions().mode() & 0o7777 != READ_ONLY {
            return Ok(false);
        }
        let before = Stat::of(&meta);
        let trusted = self.blobs.trust.blob(digest, &before);
        match self.disk().hard_link(blob, to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e).during("make", to),
            // Another disk, too many names, or a file system without hard links.
            Err(_) => return Ok(false),
            Ok(()) => {}
        }
        if trusted {
            self.keep_trust(digest, blob, &before);
        }
        Ok(true)
    }

    /// Records the new stat of a blob that was trusted with the stat `before`, after a name was added or removed.
    pub(super) fn keep_trust(&self, digest: &Digest, blob: &Path, before: &Stat) {
        let after = fs::symlink_metadata(blob).map(|meta| Stat::of(&meta));
        if let Some(after) = after.ok().filter(|after| after.same_but_ctime(before)) {
            self.blobs.trust.record_blob(*digest, after);
        }
    }

    /// The mode of an ordinary file for a copy.
    pub(in crate::cas) fn set_copy_mode(&self, path: &Path, executable: bool) -> Result<(), StoreError> {
        let mode = if executable { EXECUTABLE_FILE } else { FILE };
        self.disk().set_mode(path, mode).during("set the mode of", path)
    }

    /// Makes a folder that must not be there yet, below one that is.
    pub(in crate::cas) fn make_new_folder(&self, path: &Path) -> Result<(), StoreError> {
        self.disk().create_folder(path).during("make", path)?;
        self.disk().set_mode(path, FOLDER).during("set the mode of", path)
    }

    /// Makes the links and the empty folders of a tree whose files are in place.
    pub(in crate::cas) fn place_links_and_folders(&self, tree: &Tree, dest: &Path) -> Result<(), StoreError> {
        for folder in &tree.folders {
            let folder = dest.join(folder);
            make_folders(&**self.disk(), &folder).during("make", &folder)?;
        }
        // Last, so that nothing is ever made through a link.
        for link in &tree.links {
            let at = dest.join(&link.path);
            self.make_parent(&at)?;
            self.disk().symlink(Path::new(&link.target), &at).during("link", &at)?;
        }
        Ok(())
    }
}
