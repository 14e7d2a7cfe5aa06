//! How outputs are collected where a stage made them.
//!
//! Purpose: hash what a stage made and list it as a tree, so that `commit` has only to give names.
//! Invariant: nothing is moved; what is collected is made read-only and hashed after that, so that `commit` sees
//! whether somebody changed it. A relative link within the output stays a link, one into the stage's own inputs
//! is what it leads to, and any other one is refused.
//! Must not know: which stage made an output.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::staged::{Place, Staged, StagedOutput};
use crate::cas::error::{CollectError, During, SYNC, StoreError};
use crate::cas::local::{Hashed, LARGE, READ_ONLY, hash};
use crate::cas::paths::{executable, join, name_below, plain, target_within};
use crate::cas::sources::spell;
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::tree::{DEEPEST, MOST_ENTRIES};
use crate::cas::types::{ArtifactRef, Tree, TreeFile, TreeLink};
use crate::digest::Digest;

/// What an executable file has besides until it becomes a blob.
pub(super) const EXECUTABLE: u32 = 0o111;
/// What the owner of a file needs to read it.
const READABLE: u32 = 0o400;
/// What the owner of a folder needs to take files out of it.
const OWNER: u32 = 0o700;

/// The collection of one output.
struct Collector<'a> {
    store: &'a Store,
    output: &'a Path,
    /// The inputs, by the place of what was materialized.
    inputs: &'a [(PathBuf, ArtifactRef)],
    /// Their real places, found out when there is a link.
    real_inputs: OnceCell<Vec<PathBuf>>,
    /// The blobs of the inputs, found out when a link leads to a blob.
    digests: OnceCell<HashSet<Digest>>,
    files: Vec<(String, Staged)>,
    links: Vec<TreeLink>,
    folders: Vec<String>,
    entries: usize,
    /// Whether the output really is below `work` in the store's folder, and no link that a stage put in place of a
    /// folder leads elsewhere: then modes may be changed.
    scratch: bool,
    /// Whether files are taken from where they are.
    in_place: bool,
}

/// A folder that is being listed.
#[derive(Clone, Copy)]
struct Folder<'a> {
    /// Where it is.
    path: &'a Path,
    /// Its path in the tree.
    name: &'a str,
    /// The folder within which its relative links must stay: the output, or the folder a link led to.
    within: &'a Path,
    /// Whether the stage made it; else it belongs to an input.
    own: bool,
    depth: usize,
}

impl Store {
    /// Collects a finished output, to be named by `commit`. `inputs` says where the inputs of the stage are, and what.
    ///
    /// A file below `work` in the store's folder stays where it is until it gets its name; one that lies elsewhere,
    /// or has other names by which it could still be changed, is copied.
    ///
    /// # Errors
    /// `Recoverable` when the disk is full, fails or refuses; `Refused` when the output cannot be an artifact.
    pub fn collect(
        &self,
        output: &Path,
        inputs: &[(PathBuf, ArtifactRef)],
    ) -> Result<StagedOutput, CollectError> {
        self.collect_from(output, inputs, true)
    }

    /// Collects an output of an attempt that was kept because the disk failed. All files are copied: after a sync
    /// that failed, the system may hold bytes for written that never reached the disk, and another sync of the same
    /// file would not write them.
    ///
    /// # Errors
    /// As `collect`.
    pub fn collect_kept(
        &self,
        output: &Path,
        inputs: &[(PathBuf, ArtifactRef)],
    ) -> Result<StagedOutput, CollectError> {
        self.collect_from(output, inputs, false)
    }

    fn collect_from(
        &self,
        output: &Path,
        inputs: &[(PathBuf, ArtifactRef)],
        in_place: bool,
    ) -> Result<StagedOutput, CollectError> {
        let scratch = self.is_scratch(output);
        let mut collector = Collector {
            store: self,
            output,
            inputs,
            real_inputs: OnceCell::new(),
            digests: OnceCell::new(),
            files: Vec::new(),
            links: Vec::new(),
            folders: Vec::new(),
            entries: 0,
            scratch,
            in_place: in_place && scratch,
        };
        let meta = fs::symlink_metadata(output).during("collect", output)?;
        let (target, meta, own) = if meta.is_symlink() {
            let target = collector.target_in_inputs(output)?;
            let meta = fs::metadata(&target).during("look at", &target)?;
            (target, meta, false)
        } else {
            (output.to_owned(), meta, true)
        };
        if meta.is_dir() {
            collector.folder(Folder { path: &target, name: "", within: &target, own, depth: 0 })?;
            return Ok(collector.finish()?);
        }
        plain(output, &meta)?;
        let staged = collector.file(&target, &meta, own)?;
        let Hashed { digest, stat, .. } = staged.hashed;
        let artifact = ArtifactRef { digest, tree: false, executable: staged.executable, size: stat.size };
        Ok(StagedOutput { artifact, files: vec![staged], tree: None })
    }

    /// Whether a path that is not followed itself is below `work` in the store's folder.
    fn is_scratch(&self, path: &Path) -> bool {
        let folder = path.parent().and_then(|folder| fs::canonicalize(folder).ok());
        let work = self.real_work.get_or_init(|| fs::canonicalize(self.root().join("work")).ok());
        folder.zip(work.as_ref()).is_some_and(|(folder, work)| folder.starts_with(work))
    }

    /// Hashes a file that the stage made and that has no other name, where it is.
    fn stage_in_place(&self, path: &Path, meta: &Metadata) -> Result<Staged, StoreError> {
        let executable = executable(meta);
        // The bit stays, so that another attempt to collect it sees it; the blob will not have it.
        let mode = READ_ONLY | if executable { EXECUTABLE } else { 0 };
        if meta.permissions().mode() & 0o7777 != mode {
            self.disk().set_mode(path, mode).during("protect", path)?;
        }
        let hashed = hash(path, |stat| stat.mtime)?;
        self.staged(Place::Attempt(path.to_owned()), path, hashed, executable)
    }

    /// Hashes a file that somebody else could change or needs: a copy of it, unless the store has its bytes.
    pub(super) fn stage_copy(&self, path: &Path, meta: &Metadata) -> Result<Staged, StoreError> {
        let executable = executable(meta);
        let hashed = hash(path, Stat::last_change)?;
        if self.blobs.verify(&hashed.digest)?.is_some() {
            return Ok(Staged { place: Place::Blob, hashed, executable, durable: true });
        }
        let temporary = self.root.temporary()?;
        if !self.reflink(path, &temporary)? {
            self.disk().copy(path, &temporary).during("copy", path)?;
        }
        self.disk().set_mode(&temporary, READ_ONLY).during("protect", &temporary)?;
        let hashed = hash(&temporary, |stat| stat.mtime)?;
        let at = temporary.to_path_buf();
        self.staged(Place::Temporary(temporary), &at, hashed, executable)
    }

    fn staged(
        &self,
        place: Place,
        at: &Path,
        hashed: Hashed,
        executable: bool,
    ) -> Result<Staged, StoreError> {
        let durable = hashed.stat.size >= LARGE;
        if durable && self.blobs.verify(&hashed.digest)?.is_some() {
            return Ok(Staged { place: Place::Blob, hashed, executable, durable });
        }
        if durable {
            // At once, so that `commit` holds up nobody else.
            self.disk().sync(at).during(SYNC, at)?;
        }
        Ok(Staged { place, hashed, executable, durable })
    }
}

impl Collector<'_> {
    fn folder(&mut self, folder: Folder<'_>) -> Result<(), StoreError> {
        if folder.depth > DEEPEST {
            let (what, limit) = (folder.path.display().to_string(), format!("{DEEPEST} folders"));
            return Err(StoreError::TooBig { what, limit });
        }
        if folder.own && self.scratch {
            let mode = fs::symlink_metadata(folder.path).during("look at", folder.path)?.permissions().mode();
            if mode & OWNER != OWNER {
                let mode = mode & 0o7777 | OWNER;
                self.store.disk().set_mode(folder.path, mode).during("open up", folder.path)?;
            }
        }
        let mut empty = true;
        for entry in fs::read_dir(folder.path).during("list", folder.path)? {
            let path = entry.during("list", folder.path)?.path();
            let meta = fs::symlink_metadata(&path).during("look at", &path)?;
            self.entry(folder, path, &meta)?;
            empty = false;
        }
        if empty && !folder.name.is_empty() {
            self.folders.push(folder.name.to_owned());
        }
        Ok(())
    }

    fn entry(&mut self, folder: Folder<'_>, path: PathBuf, meta: &Metadata) -> Result<(), StoreError> {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            let what = format!("the folder {}", self.output.display());
            return Err(StoreError::TooBig { what, limit: format!("{MOST_ENTRIES} entries") });
        }
        let name = join(folder.name, &name_below(folder.path, &path)?);
        let below = Folder { path: &path, name: &name, depth: folder.depth + 1, ..folder };
        if meta.is_symlink() {
            return self.link(below);
        }
        if meta.is_dir() {
            return self.folder(below);
        }
        plain(&path, meta)?;
        let staged = self.file(&path, meta, folder.own)?;
        self.files.push((name, staged));
        Ok(())
    }

    /// Hashes a file; `own` says that the stage made it.
    fn file(&self, path: &Path, meta: &Metadata, own: bool) -> Result<Staged, StoreError> {
        if own && self.in_place && meta.nlink() == 1 {
            return self.store.stage_in_place(path, meta);
        }
        let mode = meta.permissions().mode() & 0o7777;
        if own && self.scratch && meta.nlink() == 1 && mode & READABLE == 0 {
            self.store.disk().set_mode(path, mode | READABLE).during("open up", path)?;
        }
        self.store.stage_copy(path, meta)
    }

    fn link(&mut self, link: Folder<'_>) -> Result<(), StoreError> {
        let target = fs::read_link(link.path).during("read the link", link.path)?;
        if let Some(target) = target_within(link.within, &name_below(link.within, link.path)?, &target) {
            self.links.push(TreeLink { path: link.name.to_owned(), target });
            return Ok(());
        }
        let target = self.target_in_inputs(link.path)?;
        let meta = fs::metadata(&target).during("look at", &target)?;
        if meta.is_dir() {
            return self.folder(Folder { path: &target, within: &target, own: false, ..link });
        }
        plain(&target, &meta)?;
        let staged = self.store.stage_copy(&target, &meta)?;
        self.files.push((link.name.to_owned(), staged));
        Ok(())
    }

    /// The real place of what a link leads to, if that is in an input of the stage.
    fn target_in_inputs(&self, link: &Path) -> Result<PathBuf, StoreError> {
        let out = || fs::read_link(link).map(|target| StoreError::LinkOut { path: link.to_owned(), target });
        let Ok(target) = fs::canonicalize(link) else { return Err(out().during("read the link", link)?) };
        let real = |(path, _): &(PathBuf, ArtifactRef)| fs::canonicalize(path).ok();
        let inputs = self.real_inputs.get_or_init(|| self.inputs.iter().filter_map(real).collect());
        if inputs.iter().any(|input| target.starts_with(input)) || self.is_input_blob(&target) {
            return Ok(target);
        }
        Err(out().during("read the link", link)?)
    }

    /// Whether this is a blob of an input: a provider's inputs are links to blobs.
    fn is_input_blob(&self, target: &Path) -> bool {
        let Ok(blobs) = fs::canonicalize(self.store.root().join("blobs")) else { return false };
        let Ok(below) = target.strip_prefix(blobs) else { return false };
        let hex: String = below.to_string_lossy().split('/').collect();
        let digests = self.digests.get_or_init(|| {
            self.inputs.iter().flat_map(|(_, artifact)| self.store.digests_of(artifact)).collect()
        });
        hex.parse().is_ok_and(|digest| digests.contains(&digest))
    }

    /// Writes the listing of a folder.
    fn finish(self) -> Result<StagedOutput, StoreError> {
        let (mut files, mut staged) = (Vec::new(), Vec::new());
        for (path, one) in self.files {
            let (digest, size) = (one.hashed.digest, one.hashed.stat.size);
            files.push(TreeFile { path, digest, size, executable: one.executable });
            staged.push(one);
        }
        let (tree, json) = spell(self.output, Tree::of(files, self.links, self.folders))?;
        let temporary = self.store.root.temporary()?;
        self.store.disk().write(&temporary, json.as_bytes()).during("write", &temporary)?;
        let at = temporary.to_path_buf();
        self.store.disk().set_mode(&at, READ_ONLY).during("protect", &at)?;
        let hashed = hash(&at, |stat| stat.mtime)?;
        let artifact = tree.artifact(hashed.digest);
        let listing = self.store.staged(Place::Temporary(temporary), &at, hashed, false)?;
        Ok(StagedOutput { artifact, files: staged, tree: Some(listing) })
    }
}
