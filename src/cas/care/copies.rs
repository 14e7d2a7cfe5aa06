//! Checks the copies that people read.
//!
//! Purpose: hash the copies of executable files below `view`, and make those anew that have other bytes than their blobs.
//! Invariant: what is damaged is put aside, also where its blob cannot give the bytes; links are left alone, for the
//! blobs that they lead to are checked as blobs.
//! Must not know: who makes the folders below `view`, or who reads them.

use std::fs;
use std::path::{Path, PathBuf};

use super::fsck::Checked;
use super::gc::entries;
use crate::cas::disk::{beside, make_durable_folders};
use crate::cas::error::{During, StoreError};
use crate::cas::stat;
use crate::cas::store::Store;
use crate::digest::Digest;

/// The folder with a folder of links for each artifact.
const VIEW: &str = "view";

impl Store {
    /// Checks every copy below `view`, and makes those anew that are damaged.
    pub(super) fn check_copies(&self, checked: &mut Checked) -> Result<(), StoreError> {
        for view in entries(&self.root().join(VIEW)) {
            for (copy, digest) in self.copies_in(&view) {
                let is_copy = fs::symlink_metadata(&copy).is_ok_and(|meta| meta.is_file());
                if is_copy && Digest::of_file(&copy).during("read", &copy)?.0 != digest {
                    self.replace_copy(&copy, &digest)?;
                    checked.damaged_copies.push(copy);
                }
            }
        }
        Ok(())
    }

    /// The files of a folder of links that are no links: those that may be executed.
    fn copies_in(&self, view: &Path) -> Vec<(PathBuf, Digest)> {
        let name = view.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(digest) = name.get(..64).and_then(|hex| hex.parse::<Digest>().ok()) else {
            return Vec::new();
        };
        if !view.is_dir() {
            return vec![(view.to_owned(), digest)];
        }
        // One whose listing is gone is made anew as a whole when it is wanted.
        let files = self.tree(&digest).map(|tree| tree.files).unwrap_or_default();
        let copies = files.into_iter().filter(|file| file.executable);
        copies.map(|file| (view.join(&file.path), file.digest)).collect()
    }

    fn replace_copy(&self, copy: &Path, digest: &Digest) -> Result<(), StoreError> {
        let folder = self.root().join("work/quarantine");
        let aside = folder.join(format!("{digest}-{:x}.copy", stat::now()));
        make_durable_folders(&**self.disk(), &folder).during("make", &folder)?;
        self.disk().rename(copy, &aside).during("put aside", copy)?;
        let fresh = beside(copy).during("replace", copy)?;
        match self.place_blob(digest, &fresh, true, false) {
            Ok(()) => self.disk().rename(&fresh, copy).during("name", copy),
            // Whoever wants it makes it anew, once there are bytes again.
            Err(StoreError::NotIntact(_)) => Ok(()),
            Err(error) => {
                let _ = self.disk().remove_file(&fresh);
                Err(error)
            }
        }
    }
}
