//! How outputs and actions get their names.
//!
//! Purpose: name the staged outputs and the actions of one stage or of many, with as few syncs for all of them as
//! for one.
//! Invariant: bytes are synced before they get a name; the blobs of a folder are named and their names
//! synced before its tree is; outputs before the action that stands for them. What goes wrong with one
//! stage is no error of another, save that all share their syncs; its files go back to the attempt.
//! Must not know: which stage made an output, when its turn comes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::collect::EXECUTABLE;
use super::staged::{Place, Staged, StagedOutput};
use crate::cas::error::{During, StoreError};
use crate::cas::local::{Draft, MustLast, READ_ONLY};
use crate::cas::store::Store;
use crate::cas::types::{Action, ArtifactRef};

/// What one stage wants kept.
#[derive(Default)]
pub struct PendingCommit {
    /// Outputs that are to become artifacts.
    pub outputs: Vec<StagedOutput>,
    /// The action that stands for them; its other outputs must be in the store.
    pub action: Option<Action>,
    /// Whether the action replaces one with other outputs, as that of a forced run does.
    pub replace: bool,
}

/// What became of an action that was committed.
#[derive(Debug, Clone, PartialEq)]
pub enum Committed {
    /// It was new and is kept.
    New,
    /// The store has it already, with the same outputs.
    Same,
    /// The store had one that could not be read, or whose outputs are not intact; the new one is kept.
    Healed,
    /// The store has one with other outputs, all intact: the stage is not deterministic.
    Conflict {
        /// The older one.
        previous: Box<Action>,
        /// Whether the new one replaced it; else the older one stays.
        replaced: bool,
    },
}

/// A commit on its way.
struct Ongoing {
    files: Vec<Staged>,
    trees: Vec<Staged>,
    action: Option<Draft>,
    replace: bool,
    committed: Option<Committed>,
    /// The folders of names that must be durable before the next step.
    shards: BTreeSet<PathBuf>,
    /// The blobs that were moved, with the places in the attempt that they had, and whether they were executable.
    moved: Vec<(PathBuf, PathBuf, bool)>,
}

/// Commits on their way, and why some are not.
struct Batch(Vec<Result<Ongoing, StoreError>>);

impl Store {
    /// Keeps what these stages made, for good. Gives for each what became of its action, if it has one.
    ///
    /// # Errors
    /// `BadKey`, `NotIntact` when an output of an action is not there, or when the disk refuses.
    pub fn commit(&self, pending: Vec<PendingCommit>) -> Vec<Result<Option<Committed>, StoreError>> {
        let mut batch = Batch(pending.into_iter().map(|one| self.begin(one)).collect());
        let bytes: Vec<MustLast> = batch.ongoing().flat_map(|ongoing| ongoing.bytes()).collect();
        batch.all(self, self.root.sync(&bytes));
        batch.each(self, |one| self.name_blobs(&mut one.files, &mut one.shards, &mut one.moved));
        if batch.ongoing().any(|ongoing| !ongoing.trees.is_empty()) {
            self.sync_shards(&mut batch);
            batch.each(self, |one| self.name_blobs(&mut one.trees, &mut one.shards, &mut one.moved));
        }
        self.sync_shards(&mut batch);
        batch.each(self, |one| {
            one.committed = match &mut one.action {
                Some(draft) => Some(self.name_action(draft, one.replace, &mut one.shards)?),
                None => None,
            };
            Ok(())
        });
        self.sync_shards(&mut batch);
        batch.0.into_iter().map(|one| one.map(|one| one.committed)).collect()
    }

    /// Writes the action down, when all its outputs are here or come in.
    fn begin(&self, pending: PendingCommit) -> Result<Ongoing, StoreError> {
        let (mut files, mut trees, mut shards) = (Vec::new(), Vec::new(), BTreeSet::new());
        if let Some(action) = &pending.action {
            let comes =
                |output: &ArtifactRef| pending.outputs.iter().any(|staged| staged.artifact == *output);
            for output in action.outputs.values().filter(|output| !comes(output)) {
                if !self.is_intact(output)? {
                    return Err(StoreError::NotIntact(output.digest));
                }
                shards.extend(self.blobs.shard(&output.digest));
            }
        }
        for StagedOutput { files: more, tree, .. } in pending.outputs {
            files.extend(more);
            trees.extend(tree);
        }
        let action = pending.action.map(|action| self.actions.draft(action)).transpose()?;
        let (replace, committed, moved) = (pending.replace, None, Vec::new());
        Ok(Ongoing { files, trees, action, replace, committed, shards, moved })
    }

    /// Gives staged blobs their names; their folders are added to `shards`.
    fn name_blobs(
        &self,
        staged: &mut [Staged],
        shards: &mut BTreeSet<PathBuf>,
        moved: &mut Vec<(PathBuf, PathBuf, bool)>,
    ) -> Result<(), StoreError> {
        for Staged { place, hashed, executable, .. } in staged {
            let (digest, blob) = (&hashed.digest, self.blobs.path(&hashed.digest));
            if self.blobs.verify(digest)?.is_some() {
                // It may have been named a moment ago by another thread, which has not yet synced the name.
                shards.extend(self.blobs.shard(digest));
                continue;
            }
            match place {
                Place::Blob => return Err(StoreError::NotIntact(*digest)),
                Place::Temporary(temporary) => temporary.name(|path| {
                    self.root.name_in_shard(&blob, shards, || self.disk().rename(path, &blob))
                })?,
                Place::Attempt(path) => {
                    self.root.name_in_shard(&blob, shards, || self.disk().rename(path, &blob))?;
                    moved.push((blob.clone(), path.clone(), *executable));
                    if *executable {
                        self.disk().set_mode(&blob, READ_ONLY).during("protect", &blob)?;
                    }
                }
            }
            self.blobs.record_named(digest, hashed)?;
        }
        Ok(())
    }

    /// Gives an action its name, or compares it with the one that has it.
    fn name_action(
        &self,
        draft: &mut Draft,
        replace: bool,
        shards: &mut BTreeSet<PathBuf>,
    ) -> Result<Committed, StoreError> {
        if self.actions.name_new(draft, shards)? {
            return Ok(Committed::New);
        }
        let Some(known) = self.actions.read(&draft.action.key) else {
            return self.actions.name_over(draft).map(|()| Committed::Healed);
        };
        // One that counts as absent blocks nothing.
        if !self.trust().accepts(&known) {
            return self.actions.name_over(draft).map(|()| Committed::Healed);
        }
        if self.trust().is_as_good(&known, &draft.action) {
            return Ok(Committed::Same);
        }
        if known.outputs == draft.action.outputs {
            return self.actions.name_over(draft).map(|()| Committed::Healed);
        }
        if self.outputs_intact(&known, known.outputs.keys())?.is_some() {
            return self.actions.name_over(draft).map(|()| Committed::Healed);
        }
        if replace {
            self.actions.keep_previous(&known)?;
            self.actions.name_over(draft)?;
        }
        Ok(Committed::Conflict { previous: Box::new(known), replaced: replace })
    }

    fn sync_shards(&self, batch: &mut Batch) {
        let shards = batch.ongoing().flat_map(|ongoing| std::mem::take(&mut ongoing.shards)).collect();
        batch.all(self, self.root.sync_names(&shards));
    }

    /// Gives the files of a commit that failed their places in the attempt back, as second names of their blobs,
    /// for another stage may count on these by now. Where that fails, the attempt is not what it was, and the next
    /// run sees that by its manifest.
    fn put_back(&self, failed: &Ongoing) {
        for (blob, path, executable) in &failed.moved {
            let back =
                if *executable { self.put_copy_back(blob, path) } else { self.disk().hard_link(blob, path) };
            if let Err(e) = back {
                tracing::warn!(file = %path.display(), "an output was not put back: {e}");
            }
        }
    }
}

impl Store {
    /// An executable file has a mode of its own, so it must be a file of its own, with the time it had.
    fn put_copy_back(&self, blob: &Path, path: &Path) -> io::Result<()> {
        let modified = fs::metadata(blob)?.modified()?;
        self.disk().copy(blob, path)?;
        self.disk().set_modified(path, modified)?;
        self.disk().set_mode(path, READ_ONLY | EXECUTABLE)
    }
}

impl Ongoing {
    /// The files whose bytes must be durable before they get their names.
    fn bytes(&self) -> Vec<MustLast> {
        let staged = self.files.iter().chain(&self.trees).filter_map(Staged::unsynced);
        let action = self.action.as_ref().map(|draft| draft.file().to_owned());
        staged.chain(action).map(MustLast::Bytes).collect()
    }
}

impl Batch {
    fn ongoing(&mut self) -> impl Iterator<Item = &mut Ongoing> {
        self.0.iter_mut().flatten()
    }

    /// Takes a step with each commit for itself.
    fn each(&mut self, store: &Store, mut step: impl FnMut(&mut Ongoing) -> Result<(), StoreError>) {
        for one in &mut self.0 {
            if let Ok(ongoing) = one
                && let Err(error) = step(ongoing)
            {
                store.put_back(ongoing);
                *one = Err(error);
            }
        }
    }

    /// A step that was taken for all at once.
    fn all(&mut self, store: &Store, step: Result<(), StoreError>) {
        let Err(error) = step else { return };
        self.each(store, |_| Err(error.again()));
    }
}
