//! How artifacts go out.
//!
//! Purpose: lend artifacts to a stage as links, and copy them out for people.
//! Invariant: nothing outside can change a blob through what is made here, save by defying its
//! permissions through a link; a copy appears whole or not at all.
//! Must not know: what a stage does with its inputs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::{During, StoreError};
use super::ingest::executable;
use super::stat;
use super::store::Store;
use super::types::{ArtifactRef, TreeFile};
use super::walk::among;

impl Store {
    /// Makes an artifact readable at `dest`, where nothing may be yet: a file as a link to its blob, a
    /// folder as a folder of such links. (Hard links would change the ctime of blobs, and with it void
    /// what is known of them.)
    ///
    /// # Errors
    /// `NotWhole` when a blob is missing or damaged; when `dest` exists or cannot be made.
    pub fn input_path(&self, artifact: &ArtifactRef, dest: &Path) -> Result<PathBuf, StoreError> {
        if !artifact.tree {
            link(&self.whole_blob(&artifact.digest)?, dest)?;
            return Ok(dest.to_owned());
        }
        make_new_folder(dest)?;
        for file in &self.tree(&artifact.digest)?.files {
            link(&self.whole_blob(&file.digest)?, &dest.join(&file.path))?;
        }
        Ok(dest.to_owned())
    }

    /// Makes the files that `identify_glob` would name readable at `dest`, as a folder of links.
    ///
    /// # Errors
    /// As `identify_glob`; when `dest` exists or cannot be made.
    pub fn link_glob(&self, base: &Path, files: &[PathBuf], dest: &Path) -> Result<PathBuf, StoreError> {
        make_new_folder(dest)?;
        for file in among(base, files)? {
            let target = std::path::absolute(&file.path).during("find", &file.path)?;
            link(&target, &dest.join(&file.name))?;
        }
        Ok(dest.to_owned())
    }

    /// Copies an artifact to `dest`, replacing the file or folder there when the copy is complete. Files
    /// share their blocks with the blobs on disks that can (reflinks).
    ///
    /// # Errors
    /// `NotWhole` when a blob is missing or damaged; when the disk refuses.
    pub fn export(&self, artifact: &ArtifactRef, dest: &Path) -> Result<(), StoreError> {
        let dest = std::path::absolute(dest).during("find", dest)?;
        let (Some(parent), Some(name)) = (dest.parent(), dest.file_name()) else {
            return Err(StoreError::NotPlain { path: dest, what: "the root folder" });
        };
        fs::create_dir_all(parent).during("make", parent)?;
        let fresh = parent.join(format!(
            ".{}.{}-{:x}",
            name.to_string_lossy().chars().take(60).collect::<String>(),
            std::process::id(),
            stat::now()
        ));
        let made = self.copy_out(artifact, &fresh).and_then(|()| replace(&fresh, &dest));
        if made.is_err() {
            let _ = remove(&fresh);
        }
        made
    }

    fn copy_out(&self, artifact: &ArtifactRef, fresh: &Path) -> Result<(), StoreError> {
        if !artifact.tree {
            let blob = self.whole_blob(&artifact.digest)?;
            let meta = fs::metadata(&blob).during("look at", &blob)?;
            return self.copy_blob(&blob, fresh, executable(&meta));
        }
        fs::create_dir(fresh).during("make", fresh)?;
        for TreeFile { path, digest, executable, .. } in &self.tree(&artifact.digest)?.files {
            let to = fresh.join(path);
            make_parent(&to)?;
            self.copy_blob(&self.whole_blob(digest)?, &to, *executable)?;
        }
        Ok(())
    }

    fn copy_blob(&self, blob: &Path, to: &Path, executable: bool) -> Result<(), StoreError> {
        self.disk.copy(blob, to).during("copy a blob to", to)?;
        if executable {
            // Whoever may read it may execute it.
            let mode = fs::metadata(to).during("look at", to)?.permissions().mode();
            self.disk.set_mode(to, mode | (mode & 0o444) >> 2).during("make executable", to)?;
        }
        self.disk.sync(to).during("sync", to)
    }

    fn whole_blob(&self, digest: &crate::digest::Digest) -> Result<PathBuf, StoreError> {
        self.verify(digest)?.map(|_| self.blob(digest)).ok_or(StoreError::NotWhole(*digest))
    }
}

/// Puts `fresh` in the place of what is at `dest`, in one step.
fn replace(fresh: &Path, dest: &Path) -> Result<(), StoreError> {
    let folders = fs::symlink_metadata(dest).is_ok_and(|meta| meta.is_dir()) || fresh.is_dir();
    if folders && fs::symlink_metadata(dest).is_ok() {
        renameat_with(CWD, fresh, CWD, dest, RenameFlags::EXCHANGE).during("replace", dest)?;
        return remove(fresh).during("remove what was at", dest);
    }
    fs::rename(fresh, dest).during("name", dest)
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn make_new_folder(path: &Path) -> Result<(), StoreError> {
    make_parent(path)?;
    fs::create_dir(path).during("make", path)
}

fn make_parent(path: &Path) -> Result<(), StoreError> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).during("make", parent))
}

fn link(target: &Path, at: &Path) -> Result<(), StoreError> {
    make_parent(at)?;
    symlink(target, at).during("link", at)
}
