//! Copies for people.
//!
//! Purpose: put an artifact where somebody wants it, in the place of what is there.
//! Invariant: a copy appears whole or not at all, and shares no name with a blob.
//! Must not know: who wants it.

use std::fs;
use std::path::Path;

use crate::cas::disk::{beside, remove_tree_on};
use crate::cas::error::{During, StoreError};
use crate::cas::store::Store;
use crate::cas::types::ArtifactRef;

impl Store {
    /// Copies an artifact to `dest`, replacing the file or folder there when the copy is complete. Files
    /// share their blocks with the blobs on disks that can (reflinks).
    ///
    /// # Errors
    /// `NotIntact` when a blob is missing or damaged; when the disk refuses.
    pub fn export(&self, artifact: &ArtifactRef, dest: &Path) -> Result<(), StoreError> {
        let dest = std::path::absolute(dest).during("find", dest)?;
        self.make_parent(&dest)?;
        let fresh = beside(&dest).during("replace", &dest)?;
        let made = self.copy_out(artifact, &fresh).and_then(|()| self.put_in_place(&fresh, &dest));
        if made.is_err() {
            let _ = remove_tree_on(&**self.disk(), &fresh);
        }
        made
    }

    fn copy_out(&self, artifact: &ArtifactRef, fresh: &Path) -> Result<(), StoreError> {
        let place = |digest: &_, to: &Path, executable| {
            self.place_blob(digest, to, executable, false)?;
            self.disk().sync(to).during("sync", to)
        };
        if artifact.tree {
            return self.place_tree(artifact, fresh, &place);
        }
        place(&artifact.digest, fresh, artifact.executable)
    }

    /// Puts `fresh` in the place of what is at `dest`, in one step.
    fn put_in_place(&self, fresh: &Path, dest: &Path) -> Result<(), StoreError> {
        let there = fs::symlink_metadata(dest);
        let folders = there.as_ref().is_ok_and(|meta| meta.is_dir()) || fresh.is_dir();
        if folders && there.is_ok() {
            self.disk().exchange(fresh, dest).during("replace", dest)?;
            return remove_tree_on(&**self.disk(), fresh).during("remove what was at", dest);
        }
        self.disk().rename(fresh, dest).during("name", dest)
    }
}
