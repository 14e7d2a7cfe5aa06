//! How sources are copied to where a stage reads them.
//!
//! Purpose: copy a source and hash it in one step, so that what the stage sees is what was named.
//! Invariant: what is given is the name of the bytes that were copied; no file made here shares its bytes with
//! the user's file in a way that a write could pass.
//! Must not know: which stage reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::identify::spell;
use super::ignore::Ignore;
use super::walk::{Found, Listing, among, walk};
use crate::cas::disk::make_folders;
use crate::cas::error::{During, StoreError};
use crate::cas::local::{Hashed, hash, hash_to};
use crate::cas::paths::{executable, plain};
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::types::{ArtifactRef, Tree, TreeFile};
use crate::digest::Digest;

impl Store {
    /// Copies a source to `dest`, where nothing may be yet, and names what was copied. Where the file system has no
    /// reflinks, a source of 64 MiB and more enters the store, and hard links to its blobs are made.
    ///
    /// # Errors
    /// As `identify`; when `dest` exists or cannot be made.
    pub fn ingest_source(
        &self,
        path: &Path,
        dest: &Path,
        ignore: &Ignore,
    ) -> Result<ArtifactRef, StoreError> {
        let meta = fs::metadata(path).during("look at", path)?;
        if meta.is_dir() {
            return self.ingest_listing(path, walk(path, ignore)?, dest);
        }
        plain(path, &meta)?;
        self.make_parent(dest)?;
        let executable = executable(&meta);
        let found = [Found { name: String::new(), path: path.to_owned(), meta }];
        let (digest, size) = self.ingest_files(&found, |_| Ok(dest.to_owned()))?[0];
        Ok(ArtifactRef { digest, tree: false, executable, size })
    }

    /// Copies the files that `identify_glob` would name to the folder `dest`.
    ///
    /// # Errors
    /// As `identify_glob`; when `dest` exists or cannot be made.
    pub fn ingest_glob(
        &self,
        base: &Path,
        files: &[PathBuf],
        dest: &Path,
    ) -> Result<ArtifactRef, StoreError> {
        self.ingest_listing(base, among(base, files)?, dest)
    }

    fn ingest_listing(&self, base: &Path, listing: Listing, dest: &Path) -> Result<ArtifactRef, StoreError> {
        self.make_parent(dest)?;
        self.make_new_folder(dest)?;
        let names = self.ingest_files(&listing.files, |name| {
            let to = dest.join(name);
            self.make_parent(&to).map(|()| to)
        })?;
        let file = |(found, (digest, size)): (Found, _)| TreeFile {
            digest,
            executable: executable(&found.meta),
            path: found.name,
            size,
        };
        let files = listing.files.into_iter().zip(names).map(file).collect();
        let (tree, json) = spell(base, Tree::of(files, listing.links, listing.folders))?;
        self.place_links_and_folders(&tree, dest)?;
        Ok(tree.artifact(Digest::of_bytes(json.as_bytes())))
    }

    /// Copies files to the places that `place` gives for their names; gives the digests and sizes of what was copied.
    fn ingest_files(
        &self,
        files: &[Found],
        place: impl Fn(&str) -> Result<PathBuf, StoreError>,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let large = files.iter().map(|file| file.meta.len()).sum::<u64>() >= self.hard_links_from;
        let mut names = Vec::with_capacity(files.len());
        let mut to_keep = Vec::new();
        for found in files {
            let to = place(&found.name)?;
            let executable = executable(&found.meta);
            let hashed = if self.reflink(&found.path, &to)? {
                // The copy is ours alone, so it does not change while it is read.
                self.set_copy_mode(&to, executable)?;
                hash(&to, |stat| stat.mtime)?
            } else if large && !executable {
                to_keep.push((names.len(), found, to));
                names.push((Digest::of_bytes(b""), 0));
                continue;
            } else {
                let hashed = self.copy_while_hashing(&found.path, &to)?;
                self.set_copy_mode(&to, executable)?;
                self.record_source(&found.path, &hashed);
                hashed
            };
            names.push((hashed.digest, hashed.stat.size));
        }
        let kept = self.keep_copies(to_keep.iter().map(|(_, found, _)| (&*found.path, &found.meta)))?;
        for ((index, _, to), name) in to_keep.iter().zip(kept) {
            self.place_blob(&name.0, to, false, true)?;
            names[*index] = name;
        }
        Ok(names)
    }

    fn copy_while_hashing(&self, from: &Path, to: &Path) -> Result<Hashed, StoreError> {
        let disk = self.disk();
        let mut copy = disk.create(to).during("write", to)?;
        hash_to(from, Stat::last_change, &mut |piece| {
            if piece.is_empty() {
                // It changed while it was read: from the start.
                disk.remove_file(to).during("write", to)?;
                copy = disk.create(to).during("write", to)?;
                return Ok(());
            }
            disk.append(&copy, piece).during("write", to)
        })
    }

    fn record_source(&self, from: &Path, hashed: &Hashed) {
        if let Ok(path) = std::path::absolute(from) {
            self.blobs.record_file(&path, hashed);
        }
    }

    pub(in crate::cas) fn make_parent(&self, path: &Path) -> Result<(), StoreError> {
        let Some(parent) = path.parent() else { return Ok(()) };
        make_folders(&**self.disk(), parent).during("make", parent)
    }

    /// Copies by a reflink; false where the file system cannot do that.
    pub(in crate::cas) fn reflink(&self, from: &Path, to: &Path) -> Result<bool, StoreError> {
        use rustix::io::Errno;
        const TELLING: [Errno; 5] = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::EXIST, Errno::NOENT];
        if self.no_reflinks.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match self.disk().reflink(from, to) {
            Ok(()) => Ok(true),
            Err(e) if TELLING.iter().any(|errno| e.raw_os_error() == Some(errno.raw_os_error())) => {
                Err(e).during("copy to", to)
            }
            Err(_) => {
                self.no_reflinks.store(true, Ordering::Relaxed);
                Ok(false)
            }
        }
    }
}
