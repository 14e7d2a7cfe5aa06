//! How sources are named.
//!
//! Purpose: say what files and folders outside are, reading only what changed since it was last read.
//! Invariant: nothing is written but records of stats.
//! Must not know: why a file is identified.

use std::fs;
use std::path::{Path, PathBuf};

use super::ignore::Ignore;
use super::walk::{Listing, among, walk};
use crate::cas::error::{During, StoreError};
use crate::cas::paths::{executable, plain};
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::tree::MOST_TREE_BYTES;
use crate::cas::types::{ArtifactRef, Tree, TreeFile};
use crate::digest::Digest;

impl Store {
    /// Names a file or folder outside the store, reading only what changed since it was last read.
    ///
    /// # Errors
    /// When something cannot be read, is no plain file or folder, is a link to nothing, or has a name that
    /// cannot stand in a tree.
    pub fn identify(&self, path: &Path, ignore: &Ignore) -> Result<ArtifactRef, StoreError> {
        let meta = fs::metadata(path).during("look at", path)?;
        if meta.is_dir() {
            return self.identify_listing(path, walk(path, ignore)?);
        }
        plain(path, &meta)?;
        let (digest, size) = self.blobs.identify_file(path, &Stat::of(&meta))?;
        Ok(ArtifactRef { digest, tree: false, executable: executable(&meta), size })
    }

    /// Lists what `identify` names: the files of a folder, or a single file by its name.
    ///
    /// # Errors
    /// As `identify`.
    pub fn list_source(&self, path: &Path, ignore: &Ignore) -> Result<Tree, StoreError> {
        if path.is_dir() {
            return Ok(self.list_found(path, walk(path, ignore)?)?.0);
        }
        Ok(self.list_found(path, among(path.parent().unwrap_or(path), &[path.to_owned()])?)?.0)
    }

    /// Names the folder that holds the given files and nothing else, by their paths relative to `base`.
    ///
    /// # Errors
    /// As `identify`; also when a file is not below `base` or is given twice.
    pub fn identify_glob(&self, base: &Path, files: &[PathBuf]) -> Result<ArtifactRef, StoreError> {
        self.identify_listing(base, among(base, files)?)
    }

    fn identify_listing(&self, base: &Path, listing: Listing) -> Result<ArtifactRef, StoreError> {
        let (tree, json) = self.list_found(base, listing)?;
        Ok(tree.artifact(Digest::of_bytes(json.as_bytes())))
    }

    fn list_found(&self, base: &Path, listing: Listing) -> Result<(Tree, String), StoreError> {
        let mut files = Vec::with_capacity(listing.files.len());
        for file in listing.files {
            let (digest, size) = self.blobs.identify_file(&file.path, &Stat::of(&file.meta))?;
            files.push(TreeFile { path: file.name, digest, size, executable: executable(&file.meta) });
        }
        spell(base, Tree::of(files, listing.links, listing.folders))
    }
}

/// A tree and its JSON, within the limits.
pub(in crate::cas) fn spell(base: &Path, tree: Result<Tree, String>) -> Result<(Tree, String), StoreError> {
    let tree = tree.map_err(|why| StoreError::BadFolder { path: base.to_owned(), why })?;
    let json = tree.to_json();
    if json.len() as u64 > MOST_TREE_BYTES {
        let what = format!("the folder {}", base.display());
        return Err(StoreError::TooBig { what, limit: format!("{MOST_TREE_BYTES} bytes of listing") });
    }
    Ok((tree, json))
}
