//! How outputs and actions get their names.
//!
//! Purpose: name the staged outputs and the actions of one stage or of many, with as few syncs for
//! all of them as for one.
//! Invariant: bytes are synced before they get a name; the blobs of a folder are named and their names
//! synced before its tree is; outputs before the action that stands for them. What goes wrong with one
//! stage is no error of another, save that all share their syncs.
//! Must not know: which stage made an output, when its turn comes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::actions::{Draft, Put};
use super::error::{During, StoreError};
use super::ingest::{EXECUTABLE, Incoming, READ_ONLY, Staged, executable};
use super::stat::Stat;
use super::store::{Hashed, Store};
use super::sync::Lasting;
use super::types::{Action, ArtifactRef};
use crate::digest::Digest;

/// What one stage wants kept.
#[derive(Default)]
pub struct Entry {
    /// Outputs that are to become artifacts.
    pub outputs: Vec<Incoming>,
    /// The action that stands for them; its other outputs must be in the store.
    pub action: Option<Action>,
}

/// An entry on its way.
struct Going {
    files: Vec<Staged>,
    trees: Vec<Staged>,
    action: Option<Draft>,
    put: Option<Put>,
    /// The folders of names that must last before the next step.
    shards: BTreeSet<PathBuf>,
}

/// Entries on their way, and why some are not.
struct Batch(Vec<Result<Going, StoreError>>);

impl Store {
    /// Keeps what these stages made, for good. Gives for each what became of its action, if it has one.
    ///
    /// # Errors
    /// `BadKey`, `NotWhole` when an output of an action is not there, or when the disk refuses.
    pub fn commit(&self, entries: Vec<Entry>) -> Vec<Result<Option<Put>, StoreError>> {
        let mut batch = Batch(entries.into_iter().map(|entry| self.begin(entry)).collect());
        let bytes: Vec<Lasting> = batch.going().flat_map(|going| going.bytes()).collect();
        batch.all(self, self.make_last(&bytes));
        batch.each(|going| self.name_blobs(&mut going.files, &mut going.shards));
        if batch.going().any(|going| !going.trees.is_empty()) {
            self.shards_last(&mut batch);
            batch.each(|going| self.name_blobs(&mut going.trees, &mut going.shards));
        }
        self.shards_last(&mut batch);
        batch.each(|going| {
            going.put = match &mut going.action {
                Some(draft) => Some(self.name_action(draft, &mut going.shards)?),
                None => None,
            };
            Ok(())
        });
        self.shards_last(&mut batch);
        batch.0.into_iter().map(|going| going.map(|going| going.put)).collect()
    }

    /// Writes the action down, when all its outputs are here or come in.
    fn begin(&self, entry: Entry) -> Result<Going, StoreError> {
        let (mut files, mut trees, mut shards) = (Vec::new(), Vec::new(), BTreeSet::new());
        if let Some(action) = &entry.action {
            let comes = |output: &ArtifactRef| entry.outputs.iter().any(|coming| coming.artifact == *output);
            for output in action.outputs.values().filter(|output| !comes(output)) {
                if !self.is_whole(output)? {
                    return Err(StoreError::NotWhole(output.digest));
                }
                shards.extend(self.shard(&output.digest));
            }
        }
        for Incoming { files: more, tree, .. } in entry.outputs {
            files.extend(more);
            trees.extend(tree);
        }
        let action = entry.action.map(|action| self.draft(action)).transpose()?;
        Ok(Going { files, trees, action, put: None, shards })
    }

    /// Gives staged blobs their names; their folders are added to `shards`.
    fn name_blobs(&self, staged: &mut [Staged], shards: &mut BTreeSet<PathBuf>) -> Result<(), StoreError> {
        for Staged { temporary, hashed, executable, .. } in staged {
            let (digest, blob) = (&hashed.digest, self.blob(&hashed.digest));
            if self.verify(digest)?.is_some() {
                // It may have been named a moment ago by another thread, which has not yet synced the name.
                shards.extend(self.shard(digest));
            } else {
                let temporary = temporary.as_mut().ok_or(StoreError::NotWhole(*digest))?;
                temporary.name(|path| self.in_shard(&blob, shards, || self.disk.rename(path, &blob)))?;
                self.believe_named(digest, hashed)?;
            }
            if *executable {
                self.make_executable(digest)?;
            }
        }
        Ok(())
    }

    fn shards_last(&self, batch: &mut Batch) {
        let shards = batch.going().flat_map(|going| std::mem::take(&mut going.shards)).collect();
        batch.all(self, self.make_names_last(&shards));
    }

    /// Records the stat of a blob that was hashed under its temporary name. Naming it changed its ctime
    /// and nothing else, so the bytes are known by their mtime; else another has named the same bytes at
    /// the same time, or somebody has written to these.
    fn believe_named(&self, digest: &Digest, hashed: &Hashed) -> Result<(), StoreError> {
        let stat = fs::symlink_metadata(self.blob(digest)).map(|meta| Stat::of(&meta));
        match stat {
            Ok(stat) if (Stat { ctime: hashed.stat.ctime, ..stat }) == hashed.stat => {
                self.believe(digest, stat, stat.mtime, hashed.at);
                Ok(())
            }
            _ => self.verify(digest)?.map(drop).ok_or(StoreError::NotWhole(*digest)),
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

impl Going {
    /// The files whose bytes must last before they get their names.
    fn bytes(&self) -> Vec<Lasting> {
        let staged = self.files.iter().chain(&self.trees).filter(|staged| !staged.lasts);
        let blobs = staged.filter_map(|staged| staged.temporary.as_deref());
        let files = blobs.chain(self.action.as_ref().map(Draft::file));
        files.map(|file| Lasting::Bytes(file.to_owned())).collect()
    }
}

impl Batch {
    fn going(&mut self) -> impl Iterator<Item = &mut Going> {
        self.0.iter_mut().flatten()
    }

    /// Takes a step with each entry for itself.
    fn each(&mut self, mut step: impl FnMut(&mut Going) -> Result<(), StoreError>) {
        for entry in &mut self.0 {
            if let Ok(Err(error)) = entry.as_mut().map(&mut step) {
                *entry = Err(error);
            }
        }
    }

    /// A step that was taken for all at once.
    fn all(&mut self, store: &Store, step: Result<(), StoreError>) {
        let Err(error) = step else { return };
        let why = error.to_string();
        self.each(|_| Err(io::Error::other(why.clone())).during("keep what was made in", store.root()));
    }
}
