//! The store as its users see it.
//!
//! Purpose: say where things lie, what is known, and what is intact.
//! Invariant: opening and reading write nothing but the records of stats, and those only where a store already
//! is; a damaged blob is quarantined.
//! Must not know: how outputs and sources come in (`outputs`, `sources`) or go out (`materialize`).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::disk::Disk;
use super::error::{During, StoreError};
use super::format;
use super::local::{LocalActions, LocalBlobs, Root};
use super::remote::{FetchError, Remotes};
use super::stat::Trust;
use super::traits::{ActionCache, BlobStore};
use super::tree::MOST_TREE_BYTES;
use super::trust::TrustPolicy;
use super::types::{Action, ArtifactRef, Tree};
use crate::digest::Digest;

/// An input of this size and more is not copied where reflinks are missing.
const HARD_LINKS_FROM: u64 = 64 << 20;
/// The file of a scratch folder that holds the whole key.
const KEY: &str = "key";
/// How many digits of a key name its scratch folder.
const WORK_DIGITS: usize = 16;

/// A local store; shared by threads.
pub struct Store {
    pub(super) root: Arc<Root>,
    pub(super) blobs: LocalBlobs,
    pub(super) actions: LocalActions,
    /// Whether the file system was found to have no reflinks.
    pub(super) no_reflinks: AtomicBool,
    /// From so many bytes in all on, the files of an artifact are hard links where reflinks are missing.
    pub(super) hard_links_from: u64,
    /// The real place of the folder for scratch files, once it was asked for.
    pub(super) real_work: OnceLock<Option<PathBuf>>,
    /// Where results are shared, if anywhere.
    remotes: OnceLock<Remotes>,
    /// Whose records count.
    trust: OnceLock<TrustPolicy>,
}

impl Store {
    /// The store in folder `root`, on this disk, with these records of stats.
    ///
    /// # Errors
    /// When `root` is empty or the working folder is gone.
    pub(crate) fn with(
        root: &Path,
        disk: Arc<dyn Disk>,
        trust: impl FnOnce(&Path) -> Box<dyn Trust>,
    ) -> Result<Self, StoreError> {
        let path = std::path::absolute(root).during("open the store", root)?;
        let trust = trust(&path);
        let root = Arc::new(Root::new(path, disk));
        let blobs = LocalBlobs::new(Arc::clone(&root), trust);
        let actions = LocalActions::new(Arc::clone(&root));
        let (no_reflinks, hard_links_from) = (AtomicBool::new(false), HARD_LINKS_FROM);
        Ok(Self {
            root,
            blobs,
            actions,
            no_reflinks,
            hard_links_from,
            real_work: OnceLock::new(),
            remotes: OnceLock::new(),
            trust: OnceLock::new(),
        })
    }

    /// Its folder, an absolute path.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The disk that it is on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.root.disk
    }

    /// Makes the folder of the store and its marks, where they are missing; to be called before anything is
    /// written.
    ///
    /// # Errors
    /// `NewerFormat`; the disk refuses.
    pub(crate) fn prepare(&self) -> Result<(), StoreError> {
        self.root.prepare()
    }

    /// Says whose records count, from now on. Without it all do.
    pub fn set_trust(&self, trust: TrustPolicy) {
        let _ = self.trust.set(trust);
    }

    /// Whose records count.
    pub fn trust(&self) -> &TrustPolicy {
        self.trust.get_or_init(TrustPolicy::default)
    }

    /// Has results shared with these remotes, from now on.
    pub fn share_with(&self, remotes: Remotes) {
        let _ = self.remotes.set(remotes);
    }

    /// The remotes with which results are shared.
    pub fn remotes(&self) -> Option<&Remotes> {
        self.remotes.get()
    }

    /// Brings artifacts here from the remotes; what is here already costs nothing. `near` are artifacts that may have
    /// some of the same bytes. Gives the bytes of what was brought.
    ///
    /// # Errors
    /// `Missing` when no remote gives the bytes of one; the disk refuses.
    pub fn fetch(&self, artifacts: &[ArtifactRef], near: &[ArtifactRef]) -> Result<u64, FetchError> {
        match self.remotes() {
            Some(remotes) => remotes.fetch(self, artifacts, near),
            None => {
                for artifact in artifacts {
                    if !self.is_intact(artifact)? {
                        return Err(FetchError::Missing(artifact.digest));
                    }
                }
                Ok(0)
            }
        }
    }

    /// Its blobs.
    pub fn blobs(&self) -> &dyn BlobStore {
        &self.blobs
    }

    /// Its actions.
    pub fn actions(&self) -> &dyn ActionCache {
        &self.actions
    }

    /// The scratch folder of an action: `work/<2 digits of the key>/<14 more>`, short because tools have limits on
    /// paths. It may not be there yet.
    pub fn work(&self, key: &Digest) -> PathBuf {
        let key = key.to_string();
        self.root().join("work").join(&key[..2]).join(&key[2..WORK_DIGITS])
    }

    /// Writes its whole key into the scratch folder of an action that is to stay, so that it can be locked and
    /// removed when nobody knows the key any more. (While an attempt goes on, its lock file has the key.)
    ///
    /// # Errors
    /// The disk refuses.
    pub fn label_work(&self, key: &Digest) -> io::Result<()> {
        let (disk, file) = (self.disk(), self.work(key).join(KEY));
        match disk.remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => disk.write(&file, key.to_string().as_bytes()),
        }
    }

    /// The keys that have a lock file or a labelled scratch folder.
    pub fn works(&self) -> BTreeSet<Digest> {
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok())
        };
        let work = self.root().join("work");
        let mut keys: BTreeSet<Digest> =
            names(&work.join("locks")).filter_map(|key| key.parse().ok()).collect();
        for shard in names(&work).filter(|name| name.len() == 2) {
            let folder = work.join(shard);
            let read = |name: String| fs::read_to_string(folder.join(name).join(KEY)).ok();
            keys.extend(names(&folder).filter_map(read).filter_map(|key| key.parse::<Digest>().ok()));
        }
        keys
    }

    /// The path of a blob, which may be missing or damaged: for people and their tools to find.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.path(digest)
    }

    /// Says that stages will write below the store's folder, which is made: from now on a `commit` that syncs
    /// the whole disk fails if the disk could not do one of these writes.
    ///
    /// # Errors
    /// The folder cannot be made or opened.
    pub fn watch(&self) -> Result<(), StoreError> {
        self.root.prepare()?;
        self.root.disk.watch(self.root()).during("open", self.root())
    }

    /// The action of a key, if one is known. A record that is damaged, of another format, or filed under
    /// a key that is not its own, is none, and a warning says so; so is one that no trusted key has signed, where that
    /// is demanded. Its outputs may be gone: see `is_intact`.
    ///
    /// # Errors
    /// None today: what cannot be read is a miss.
    pub fn action(&self, key: &Digest) -> Result<Option<Action>, StoreError> {
        Ok(self.actions.read(key).filter(|action| self.trust().accepts(action)))
    }

    /// The format of the record of a key that was made by an older format and counts as unknown for that reason.
    pub fn older_format(&self, key: &Digest) -> Option<String> {
        self.actions.older_format(key)
    }

    /// The action that a forced run replaced last, if any.
    ///
    /// # Errors
    /// None today: what cannot be read is a miss.
    pub fn previous_action(&self, key: &Digest) -> Result<Option<Action>, StoreError> {
        Ok(self.actions.previous(key))
    }

    /// Whether a file or folder is all there, byte for byte. What is damaged is quarantined.
    ///
    /// # Errors
    /// When the disk cannot be read; damage is no error.
    pub fn is_intact(&self, artifact: &ArtifactRef) -> Result<bool, StoreError> {
        if !artifact.tree {
            return Ok(self.blobs.verify(&artifact.digest)? == Some(artifact.size));
        }
        let tree = match self.tree(&artifact.digest) {
            Ok(tree) => tree,
            Err(StoreError::NotIntact(_)) => return Ok(false),
            Err(e @ (StoreError::BadTree { .. } | StoreError::TooBig { .. })) => {
                tracing::warn!(digest = %artifact.digest, "{e}");
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        for file in &tree.files {
            if self.blobs.verify(&file.digest)? != Some(file.size) {
                return Ok(false);
            }
        }
        Ok(tree.artifact(artifact.digest) == *artifact)
    }

    /// The first of these outputs that the action does not have or that is not intact; none when all are.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn outputs_intact<S: AsRef<str>>(
        &self,
        action: &Action,
        names: impl IntoIterator<Item = S>,
    ) -> Result<Option<String>, StoreError> {
        for name in names {
            let intact = match action.outputs.get(name.as_ref()) {
                Some(output) => self.is_intact(output)?,
                None => false,
            };
            if !intact {
                return Ok(Some(name.as_ref().to_owned()));
            }
        }
        Ok(None)
    }

    /// A tree by its digest, checked against the rules of trees.
    ///
    /// # Errors
    /// `NotIntact` when its blob is missing or damaged, `BadTree` when it breaks a rule.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, StoreError> {
        let bytes = self.read(digest, MOST_TREE_BYTES)?;
        Tree::parse(&bytes).map_err(|why| StoreError::BadTree { digest: *digest, why })
    }

    /// The bytes of a blob, verified; no more than `limit` of them.
    ///
    /// # Errors
    /// `NotIntact` when it is missing or damaged, `TooBig` above the limit.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.blobs.read(digest, limit)
    }

    /// Hashes again the small files that changed too shortly before they were hashed, so that the next process
    /// need not.
    pub fn settle(&self) {
        self.blobs.settle();
    }

    /// As [`Self::flush`], with a warning where it fails: files are read once more then, and nothing else is lost.
    pub fn flush_or_warn(&self) {
        if let Err(error) = self.flush() {
            tracing::warn!("the stat cache was not saved: {error}");
        }
    }

    /// Saves what is known of files by their stat, if that changed and the store's folder exists.
    ///
    /// # Errors
    /// When the disk refuses; nothing but time is lost then.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.settle();
        if !self.root().is_dir() || format::is_current(self.root()).is_err() {
            return Ok(());
        }
        self.blobs.trust.save(&**self.disk()).during("save the stats of files in", self.root())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.flush() {
            tracing::debug!("the stats of files were not saved: {e}");
        }
    }
}
