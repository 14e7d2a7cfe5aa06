//! How artifacts are named and come in.
//!
//! Purpose: name files and folders outside, and take finished outputs in as blobs.
//! Invariant: bytes are hashed and synced before a blob gets its name; the blobs of a folder are named
//! and their folders synced before its tree is. A blob is read-only.
//! Must not know: which stage made an output, or why a file is identified.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{During, StoreError};
use super::stat::Stat;
use super::store::{Hashed, Store, hash};
use super::tree::MOST_TREE_BYTES;
use super::types::{ArtifactRef, Tree, TreeFile};
use super::walk::{Found, Links, among, plain, walk};
use crate::digest::Digest;

/// The permission bits of a blob, and what an executable one has besides.
const READ_ONLY: u32 = 0o444;
const EXECUTABLE: u32 = 0o111;
/// From this many files on the whole disk is synced at once. (A sync took .2 to .5 ms, one of the whole
/// disk .4 ms and little more for each file; but it waits for what others wrote, too.)
const MANY: usize = 32;

/// A file on its way in: its bytes are hashed and lie under a temporary name, or are a blob already.
struct Staged {
    temporary: Option<PathBuf>,
    hashed: Hashed,
    executable: bool,
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
        Ok(ArtifactRef { digest, tree: false, size })
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

    /// Takes a finished output in; nothing is left at `path`.
    ///
    /// A file is moved where it can be and copied where it must: from another disk, or when it has
    /// other names, by which it could still be changed. Links to files count as the files.
    ///
    /// # Errors
    /// As `identify`, except that links may lead anywhere; also when the disk is full or refuses.
    pub fn ingest(&self, path: &Path) -> Result<ArtifactRef, StoreError> {
        let meta = fs::symlink_metadata(path).during("take in", path)?;
        if meta.is_dir() {
            return self.ingest_folder(path);
        }
        let staged = if meta.is_symlink() {
            let target = fs::canonicalize(path).during("follow the link", path)?;
            let meta = fs::metadata(&target).during("look at", &target)?;
            plain(&target, &meta)?;
            self.stage(path, &meta, Some(&target))?
        } else {
            plain(path, &meta)?;
            self.stage(path, &meta, None)?
        };
        let artifact =
            ArtifactRef { digest: staged.hashed.digest, tree: false, size: staged.hashed.stat.size };
        self.commit(vec![staged])?;
        Ok(artifact)
    }

    fn ingest_folder(&self, path: &Path) -> Result<ArtifactRef, StoreError> {
        let mut found = walk(path, Links::Anywhere)?;
        // Links first: the file that one leads to may be moved away after.
        found.sort_unstable_by(|a, b| (a.target.is_none(), &a.name).cmp(&(b.target.is_none(), &b.name)));
        let (mut staged, mut files) = (Vec::new(), Vec::new());
        for file in found {
            let one = self.stage(&file.path, &file.meta, file.target.as_deref())?;
            let (digest, size) = (one.hashed.digest, one.hashed.stat.size);
            files.push(TreeFile { path: file.name, digest, size, executable: one.executable });
            staged.push(one);
        }
        self.commit(staged)?;
        let (tree, json) = spell(path, files)?;
        let digest = self.put_bytes(json.as_bytes())?;
        fs::remove_dir_all(path).during("remove", path)?;
        Ok(tree.artifact(digest))
    }

    /// Makes bytes a blob.
    fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let temporary = self.temporary()?;
        self.disk.write(&temporary, bytes).during("write", &temporary)?;
        self.disk.set_mode(&temporary, READ_ONLY).during("protect", &temporary)?;
        let hashed = hash(&temporary, |stat| stat.mtime)?;
        let digest = hashed.digest;
        self.commit(vec![Staged { temporary: Some(temporary), hashed, executable: false }])?;
        Ok(digest)
    }

    /// Brings a file's bytes under a temporary name and hashes them there. `target` is where `path`
    /// leads if it is a link.
    fn stage(&self, path: &Path, meta: &Metadata, target: Option<&Path>) -> Result<Staged, StoreError> {
        let executable = executable(meta);
        if let Some(hashed) = target.and_then(|target| self.blob_at(target)) {
            fs::remove_file(path).during("remove", path)?;
            // The bit of a blob says what some tree wanted; the link cannot say what this one does.
            return Ok(Staged { temporary: None, hashed, executable: false });
        }
        let temporary = self.temporary()?;
        let sole = target.is_none() && meta.nlink() == 1;
        if !sole || self.disk.rename(path, &temporary).is_err() {
            self.disk.copy(target.unwrap_or(path), &temporary).during("copy", path)?;
            self.disk.remove(path).during("remove", path)?;
        }
        let mode = READ_ONLY | if executable { EXECUTABLE } else { 0 };
        self.disk.set_mode(&temporary, mode).during("protect", &temporary)?;
        Ok(Staged { hashed: hash(&temporary, |stat| stat.mtime)?, temporary: Some(temporary), executable })
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

    /// Gives staged files their names: sync all, name all, sync the folders of the names.
    fn commit(&self, staged: Vec<Staged>) -> Result<(), StoreError> {
        let mut new: BTreeMap<Digest, (PathBuf, Hashed)> = BTreeMap::new();
        let (mut shards, mut executables) = (BTreeSet::new(), BTreeSet::new());
        for Staged { temporary, hashed, executable } in staged {
            let digest = hashed.digest;
            // A blob that is there already may have been named a moment ago by another thread, which
            // has not yet synced the name.
            shards.extend(self.blob(&digest).parent().map(Path::to_owned));
            if executable {
                executables.insert(digest);
            }
            let Some(temporary) = temporary else { continue };
            if new.contains_key(&digest) || self.verify(&digest)?.is_some() {
                self.disk.remove(&temporary).during("remove", &temporary)?;
            } else {
                new.insert(digest, (temporary, hashed));
            }
        }
        self.sync_all(new.values().map(|(temporary, _)| temporary), |file| self.disk.sync(file))?;
        for shard in &shards {
            self.disk.make_folder(shard).during("make", shard)?;
        }
        for (digest, (temporary, _)) in &new {
            let blob = self.blob(digest);
            self.disk.rename(temporary, &blob).during("name", &blob)?;
        }
        self.sync_all(shards.iter(), |shard| self.disk.sync_folder(shard))?;
        for (digest, (_, hashed)) in &new {
            self.believe_named(digest, hashed);
        }
        executables.iter().try_for_each(|digest| self.make_executable(digest))
    }

    /// Syncs a few paths one by one, and many at once.
    fn sync_all<'a>(
        &self,
        paths: impl ExactSizeIterator<Item = &'a PathBuf>,
        one: impl Fn(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        if paths.len() > MANY {
            return self.disk.sync_everything(self.root()).during("sync", self.root());
        }
        paths.into_iter().try_for_each(|path| one(path).during("sync", path))
    }

    /// Records the stat of a blob that was hashed under its temporary name. Naming it changed its ctime
    /// and nothing else, so the bytes are known by their mtime.
    fn believe_named(&self, digest: &Digest, hashed: &Hashed) {
        let Ok(stat) = fs::symlink_metadata(self.blob(digest)).map(|meta| Stat::of(&meta)) else { return };
        if (Stat { ctime: hashed.stat.ctime, ..stat }) == hashed.stat {
            self.believe(digest, stat, stat.mtime, hashed.at);
        }
    }

    /// Lets a blob be executed: some tree lists it so.
    fn make_executable(&self, digest: &Digest) -> Result<(), StoreError> {
        let blob = self.blob(digest);
        let meta = fs::metadata(&blob).during("look at", &blob)?;
        if executable(&meta) {
            return Ok(());
        }
        let known = self.stats(|cache| cache.blob(digest, &Stat::of(&meta)));
        self.disk.set_mode(&blob, READ_ONLY | EXECUTABLE).during("protect", &blob)?;
        if known {
            let stat = Stat::of(&fs::metadata(&blob).during("look at", &blob)?);
            self.stats(|cache| cache.put_blob(*digest, stat));
        }
        Ok(())
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
