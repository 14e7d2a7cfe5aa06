//! The files of a source.
//!
//! Purpose: list what a folder holds as a tree will name it, refusing what a tree cannot hold.
//! Invariant: every path listed passed the rules of trees; a relative link within the folder stays a link; any
//! other link is what it leads to, and the walk ends all the same.
//! Must not know: digests, the store.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ignore::Ignore;
use crate::cas::error::{During, StoreError};
use crate::cas::paths::{name_below, plain, target_within};
use crate::cas::tree::{DEEPEST, MOST_ENTRIES};
use crate::cas::types::TreeLink;

/// What a source holds.
#[derive(Default)]
pub(super) struct Listing {
    pub files: Vec<Found>,
    pub links: Vec<TreeLink>,
    /// The folders that hold nothing that counts.
    pub folders: Vec<String>,
}

/// A plain file, or a link to one.
pub(super) struct Found {
    /// As a tree names it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What the file system says of the file (not of the link).
    pub meta: Metadata,
}

struct Walk<'a> {
    base: &'a Path,
    ignore: &'a Ignore,
    listing: Listing,
    entries: usize,
    /// The folders that the walk is in, by device and inode.
    chain: Vec<(u64, u64)>,
}

/// All that counts below `base`, in no order.
pub(super) fn walk(base: &Path, ignore: &Ignore) -> Result<Listing, StoreError> {
    let mut walk = Walk { base, ignore, listing: Listing::default(), entries: 0, chain: Vec::new() };
    let meta = fs::metadata(base).during("look at", base)?;
    walk.folder("", 0, &meta)?;
    Ok(walk.listing)
}

/// The given files below `base`, each relative to it or beginning with it.
pub(super) fn among(base: &Path, files: &[PathBuf]) -> Result<Listing, StoreError> {
    let one = |file: &PathBuf| {
        let path = if file.starts_with(base) { file.clone() } else { base.join(file) };
        let name = name_below(base, &path)?;
        let meta = fs::metadata(&path).during("look at", &path)?;
        plain(&path, &meta)?;
        Ok(Found { name, path, meta })
    };
    let files = files.iter().map(one).collect::<Result<_, StoreError>>()?;
    Ok(Listing { files, ..Listing::default() })
}

impl Walk<'_> {
    /// Lists a folder. `name` is its path in the tree; links are judged within its ancestor whose path in the
    /// tree has `root` bytes: the source itself, or a folder that a link led to.
    fn folder(&mut self, name: &str, root: usize, meta: &Metadata) -> Result<(), StoreError> {
        let path = if name.is_empty() { self.base.to_owned() } else { self.base.join(name) };
        if self.chain.len() > DEEPEST {
            return Err(StoreError::TooBig {
                what: path.display().to_string(),
                limit: format!("{DEEPEST} folders"),
            });
        }
        self.chain.push((meta.dev(), meta.ino()));
        let mut empty = true;
        for entry in fs::read_dir(&path).during("list", &path)? {
            let entry = entry.during("list", &path)?;
            let (path, meta) = (entry.path(), entry.metadata());
            let meta = match meta {
                // Somebody removed it while the folder was listed.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                meta => meta.during("look at", &path)?,
            };
            if self.ignore.skips(&path, &meta) {
                continue;
            }
            empty = false;
            self.entry(path, root, meta)?;
        }
        self.chain.pop();
        if empty && !name.is_empty() {
            self.listing.folders.push(name.to_owned());
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, root: usize, meta: Metadata) -> Result<(), StoreError> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            let what = format!("the folder {}", self.base.display());
            return Err(StoreError::TooBig { what, limit: format!("{MOST_ENTRIES} entries") });
        }
        let name = name_below(self.base, &path)?;
        if meta.is_dir() {
            return self.folder(&name, root, &meta);
        }
        if meta.is_symlink() {
            return self.link(path, name, root);
        }
        plain(&path, &meta)?;
        self.listing.files.push(Found { name, path, meta });
        Ok(())
    }

    fn link(&mut self, path: PathBuf, name: String, root: usize) -> Result<(), StoreError> {
        let target = fs::read_link(&path).during("read the link", &path)?;
        let within = name[root..].trim_start_matches('/');
        if let Some(target) = target_within(&self.base.join(&name[..root]), within, &target) {
            self.listing.links.push(TreeLink { path: name, target });
            return Ok(());
        }
        let bad = |path: PathBuf, why| StoreError::BadLink { path, target, why };
        let meta = match fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(bad(path, "which does not exist"));
            }
            meta => meta.during("follow the link", &path)?,
        };
        if !meta.is_dir() {
            plain(&path, &meta)?;
            self.listing.files.push(Found { name, path, meta });
            return Ok(());
        }
        if self.chain.contains(&(meta.dev(), meta.ino())) {
            return Err(bad(path, "a folder that it stands in"));
        }
        if self.ignore.skips(&path, &meta) {
            return Ok(());
        }
        self.folder(&name, name.len(), &meta)
    }
}
