//! How artifacts are named and come in.
//!
//! Purpose: say what files and folders outside are, and take the bytes of finished outputs in.
//! Invariant: what is taken in is hashed read-only, where nobody else should change it; `commit` sees
//! whether somebody did.
//! Must not know: which stage made an output, or why a file is identified.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{During, StoreError};
use super::stat::Stat;
use super::store::{Hashed, LARGE, Store, Temporary, hash};
use super::tree::MOST_TREE_BYTES;
use super::types::{ArtifactRef, Tree, TreeFile};
use super::walk::{Found, Links, among, plain, walk};
use crate::digest::Digest;

/// The permission bits of a blob, and what an executable one has besides.
pub(super) const READ_ONLY: u32 = 0o444;
pub(super) const EXECUTABLE: u32 = 0o111;

/// An output on its way in: its bytes are hashed and have no name yet.
pub struct Incoming {
    /// What it will be.
    pub artifact: ArtifactRef,
    pub(super) files: Vec<Staged>,
    /// The listing of a folder.
    pub(super) tree: Option<Staged>,
}

/// A file on its way in: its bytes are hashed and lie under a temporary name, or are a blob already.
pub(super) struct Staged {
    pub temporary: Option<Temporary>,
    pub hashed: Hashed,
    pub executable: bool,
    /// Whether its bytes are synced.
    pub lasts: bool,
}

impl Store {
    /// Names a file or folder outside the store, reading only what changed since it was last read.
    ///
    /// # Errors
    /// When something cannot be read, is no plain file or folder, is a link out of its folder, or has
    /// a name that cannot stand in a tree.
    pub fn identify(&self, path: &Path) -> Result<ArtifactRef, StoreError> {
        let meta = fs::metadata(path).during("look at", path)?;
        if meta.is_dir() {
            return self.identify_files(path, walk(path, Links::Inside)?);
        }
        plain(path, &meta)?;
        let (digest, size) = self.identify_file(path, &Stat::of(&meta))?;
        Ok(ArtifactRef { digest, tree: false, executable: executable(&meta), size })
    }

    /// Names the folder that holds the given files and nothing else, by their paths relative to `base`.
    ///
    /// # Errors
    /// As `identify`; also when a file is not below `base` or is given twice.
    pub fn identify_glob(&self, base: &Path, files: &[PathBuf]) -> Result<ArtifactRef, StoreError> {
        self.identify_files(base, among(base, files)?)
    }

    fn identify_files(&self, base: &Path, found: Vec<Found>) -> Result<ArtifactRef, StoreError> {
        let one = |file: Found| {
            let (digest, size) = self.identify_file(&file.path, &Stat::of(&file.meta))?;
            Ok(TreeFile { path: file.name, digest, size, executable: executable(&file.meta) })
        };
        let (tree, json) = spell(base, found.into_iter().map(one).collect::<Result<_, StoreError>>()?)?;
        Ok(tree.artifact(Digest::of_bytes(json.as_bytes())))
    }

    /// Takes a finished output's bytes in, to be named by `commit`; after that nothing is left at `path`.
    ///
    /// A file is moved where it can be and copied where it must: from another disk, or when it has
    /// other names, by which it could still be changed. One below `work` in the store's folder is moved
    /// only when it gets its name; its folder must stay till then. Links to files count as the files.
    ///
    /// # Errors
    /// As `identify`, except that links may lead anywhere; also when the disk is full or refuses.
    pub fn stage(&self, path: &Path) -> Result<Incoming, StoreError> {
        let meta = fs::symlink_metadata(path).during("take in", path)?;
        if meta.is_dir() {
            return self.stage_folder(path);
        }
        let staged = if meta.is_symlink() {
            let target = fs::canonicalize(path).during("follow the link", path)?;
            let meta = fs::metadata(&target).during("look at", &target)?;
            plain(&target, &meta)?;
            self.stage_file(path, &meta, Some(&target))?
        } else {
            plain(path, &meta)?;
            if meta.nlink() == 1 && path.starts_with(self.root().join("work")) {
                // Among our own scratch files, so it can wait where it is.
                self.protect(Temporary::at(path.to_owned()), executable(&meta))?
            } else {
                self.stage_file(path, &meta, None)?
            }
        };
        let artifact =
            ArtifactRef {
                digest: staged.hashed.digest,
                tree: false,
                executable: staged.executable,
                size: staged.hashed.stat.size,
            };
        Ok(Incoming { artifact, files: vec![staged], tree: None })
    }

    fn stage_folder(&self, path: &Path) -> Result<Incoming, StoreError> {
        let mut found = walk(path, Links::Anywhere)?;
        // Links first: the file that one leads to may be moved away after.
        found.sort_unstable_by(|a, b| (a.target.is_none(), &a.name).cmp(&(b.target.is_none(), &b.name)));
        let (mut staged, mut files) = (Vec::new(), Vec::new());
        for file in found {
            let one = self.stage_file(&file.path, &file.meta, file.target.as_deref())?;
            let (digest, size) = (one.hashed.digest, one.hashed.stat.size);
            files.push(TreeFile { path: file.name, digest, size, executable: one.executable });
            staged.push(one);
        }
        let (tree, json) = spell(path, files)?;
        let temporary = self.temporary()?;
        self.disk.write(&temporary, json.as_bytes()).during("write", &temporary)?;
        let listing = self.protect(temporary, false)?;
        fs::remove_dir_all(path).during("remove", path)?;
        Ok(Incoming { artifact: tree.artifact(listing.hashed.digest), files: staged, tree: Some(listing) })
    }

    /// Brings a file's bytes under a temporary name and hashes them there. `target` is where `path`
    /// leads if it is a link.
    fn stage_file(&self, path: &Path, meta: &Metadata, target: Option<&Path>) -> Result<Staged, StoreError> {
        if let Some(hashed) = target.and_then(|target| self.blob_at(target)) {
            fs::remove_file(path).during("remove", path)?;
            // The bit of a blob says what some tree wanted; the link cannot say what this one does.
            return Ok(Staged { temporary: None, hashed, executable: false, lasts: true });
        }
        let temporary = self.temporary()?;
        let sole = target.is_none() && meta.nlink() == 1;
        if !sole || self.disk.rename(path, &temporary).is_err() {
            self.disk.copy(target.unwrap_or(path), &temporary).during("copy", path)?;
            self.disk.remove(path).during("remove", path)?;
        }
        self.protect(temporary, executable(meta))
    }

    /// Hashes a temporary file that nobody may change any more.
    fn protect(&self, temporary: Temporary, executable: bool) -> Result<Staged, StoreError> {
        let mode = READ_ONLY | if executable { EXECUTABLE } else { 0 };
        self.disk.set_mode(&temporary, mode).during("protect", &temporary)?;
        let hashed = hash(&temporary, |stat| stat.mtime)?;
        let lasts = hashed.stat.size >= LARGE;
        if lasts && self.verify(&hashed.digest)?.is_some() {
            return Ok(Staged { temporary: None, hashed, executable, lasts });
        }
        if lasts {
            // At once, so that `commit` holds up nobody else.
            self.disk.sync(&temporary).during("sync", &temporary)?;
        }
        Ok(Staged { temporary: Some(temporary), hashed, executable, lasts })
    }

    /// What is known of `target` if it is a whole blob of this store.
    fn blob_at(&self, target: &Path) -> Option<Hashed> {
        let blobs = fs::canonicalize(self.root().join("blobs")).ok()?;
        let hex: String = target.strip_prefix(blobs).ok()?.to_str()?.split('/').collect();
        let digest: Digest = hex.parse().ok()?;
        self.verify(&digest).ok()??;
        let stat = Stat::of(&fs::metadata(target).ok()?);
        Some(Hashed { digest, stat, at: 0 })
    }
}

/// A tree of files and its JSON, within the limits.
fn spell(base: &Path, files: Vec<TreeFile>) -> Result<(Tree, String), StoreError> {
    let what = || format!("the folder {}", base.display());
    let tree = Tree::of(files).map_err(|why| StoreError::BadFolder { path: base.to_owned(), why })?;
    let json = tree.to_json();
    if json.len() as u64 > MOST_TREE_BYTES {
        return Err(StoreError::TooBig {
            what: what(),
            limit: format!("{MOST_TREE_BYTES} bytes of listing"),
        });
    }
    Ok((tree, json))
}

/// Whether its owner may execute it.
pub(super) fn executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o100 != 0
}
