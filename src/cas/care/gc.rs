//! Removes what nobody needs from a local store.
//!
//! Purpose: mark what the roots reach, plan what can go with its bytes and age, and remove it.
//! Invariant: nothing goes that a root reaches or that is younger than the grace window; records go before the blobs
//! they name, so that no record ever names what was removed here. Who removes holds the store for itself: no runner
//! is at work.
//! Must not know: what the roots are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::cas::error::{During, StoreError};
use crate::cas::store::Store;
use crate::cas::traits::{ActionCache, BlobStore};
use crate::cas::types::ArtifactRef;
use crate::digest::Digest;

/// What can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A record.
    Action,
    /// A blob; in a remote, a small one or a listing.
    Blob,
    /// In a remote, how a large blob is made from pieces.
    Recipe,
    /// In a remote, pieces.
    Pack,
    /// What somebody left who died.
    Leftover,
    /// The record that a forced run replaced.
    Replaced,
    /// A damaged blob or record that was put aside.
    Quarantined,
    /// A folder of links for people.
    View,
    /// The events, logs and metrics of a run.
    Run,
}

/// Something that can be removed.
#[derive(Debug, Clone, Serialize)]
pub struct Garbage {
    /// What it is.
    pub kind: Kind,
    /// Its path.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// How long ago it was last changed, in seconds.
    pub age: u64,
    /// Of a record: its key.
    pub key: Option<Digest>,
}

/// What can be removed, in the order in which it is removed.
#[derive(Debug, Default)]
pub struct GcPlan {
    /// The things.
    pub garbage: Vec<Garbage>,
    /// How many records stay.
    pub live_actions: usize,
    /// The bytes of the blobs that stay.
    pub live_bytes: u64,
    /// The runs that made the records that stay.
    pub live_runs: BTreeSet<String>,
}

/// Records go before what they name.
const REMOVED_IN_THIS_ORDER: [Kind; 7] =
    [Kind::Action, Kind::Replaced, Kind::Blob, Kind::Quarantined, Kind::View, Kind::Run, Kind::Leftover];

impl Garbage {
    /// A folder that can be removed, with the bytes of what is in it; none when it is gone.
    pub fn folder(kind: Kind, path: PathBuf) -> Option<Self> {
        let bytes = bytes_below(&path);
        Some(Self { bytes, ..garbage(kind, path, None)? })
    }
}

impl GcPlan {
    /// The bytes that can be removed.
    pub fn bytes(&self) -> u64 {
        self.garbage.iter().map(|garbage| garbage.bytes).sum()
    }
}

impl Store {
    /// Plans what can be removed: everything that neither the records of `roots` nor `held` need, and that is older than
    /// `grace`.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn plan_gc(
        &self,
        roots: &BTreeSet<Digest>,
        held: &[ArtifactRef],
        grace: Duration,
    ) -> Result<GcPlan, StoreError> {
        let (mut plan, mut live) = (GcPlan::default(), BTreeSet::new());
        held.iter().try_for_each(|artifact| self.mark_artifact(artifact, &mut live))?;
        let mut keys = Vec::new();
        self.actions.list(&mut |key| {
            keys.push(key);
            Ok(())
        })?;
        for key in keys {
            let garbage = garbage(Kind::Action, self.actions.path(&key), Some(key));
            match garbage.filter(|garbage| !roots.contains(&key) && is_old(garbage, grace)) {
                Some(garbage) => plan.garbage.push(garbage),
                None => {
                    plan.live_actions += 1;
                    plan.live_runs.extend(self.mark(&key, &mut live)?);
                }
            }
        }
        let mut blobs = Vec::new();
        self.blobs.list(&mut |digest| {
            blobs.push(digest);
            Ok(())
        })?;
        for digest in blobs {
            let Some(garbage) = garbage(Kind::Blob, self.blobs.path(&digest), None) else { continue };
            if live.contains(&digest) || !is_old(&garbage, grace) {
                plan.live_bytes += garbage.bytes;
            } else {
                plan.garbage.push(garbage);
            }
        }
        for shard in entries(&self.root().join("actions")) {
            let replaced =
                entries(&shard).into_iter().filter(|path| path.extension().is_some_and(|e| e == "previous"));
            let replaced = replaced.filter_map(|path| garbage(Kind::Replaced, path, None));
            plan.garbage.extend(replaced.filter(|garbage| is_old(garbage, grace)));
        }
        let is_left =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("verify-"));
        let left = entries(&self.root().join("work")).into_iter().filter(is_left);
        let left = left.filter_map(|path| Garbage::folder(Kind::Leftover, path));
        plan.garbage.extend(left.filter(|garbage| is_old(garbage, grace)));
        for (kind, folder) in [(Kind::Quarantined, "work/quarantine"), (Kind::View, "view")] {
            let old =
                entries(&self.root().join(folder)).into_iter().filter_map(|path| garbage(kind, path, None));
            let is_dead = |garbage: &Garbage| kind != Kind::View || !is_view_of(&garbage.path, &live);
            plan.garbage.extend(old.filter(|garbage| is_old(garbage, grace) && is_dead(garbage)));
        }
        Ok(plan)
    }

    /// Removes what was planned; gives the bytes that are free now. The caller holds the store for itself.
    ///
    /// # Errors
    /// The disk refuses; what was not removed stays whole.
    pub fn collect_garbage(&self, plan: &GcPlan) -> Result<u64, StoreError> {
        let (mut freed, mut folders) = (0, BTreeSet::new());
        for kind in REMOVED_IN_THIS_ORDER {
            for garbage in plan.garbage.iter().filter(|garbage| garbage.kind == kind) {
                let path = &garbage.path;
                let is_folder = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
                let removed =
                    if is_folder { self.disk().remove_folder(path) } else { self.disk().remove_file(path) };
                removed.during("remove", path)?;
                freed += garbage.bytes;
                folders.extend(path.parent().map(Path::to_owned));
            }
            // Records are gone for good before the first blob goes.
            for folder in std::mem::take(&mut folders) {
                self.disk().sync_folder(&folder).during("sync", &folder)?;
            }
        }
        Ok(freed)
    }

    /// Marks the blobs that a record needs: those of its outputs, and those of its inputs, for a large source has
    /// entered the store. Gives the run that made it.
    fn mark(&self, key: &Digest, live: &mut BTreeSet<Digest>) -> Result<Option<String>, StoreError> {
        let Some(action) = self.actions.read(key) else { return Ok(None) };
        for output in action.outputs.values() {
            self.mark_artifact(output, live)?;
        }
        for input in action.inputs() {
            self.mark_artifact(&input, live)?;
        }
        Ok(Some(action.provenance.run))
    }

    fn mark_artifact(&self, artifact: &ArtifactRef, live: &mut BTreeSet<Digest>) -> Result<(), StoreError> {
        if live.insert(artifact.digest) && artifact.tree {
            match self.tree(&artifact.digest) {
                Ok(tree) => live.extend(tree.files.iter().map(|file| file.digest)),
                // What is not here, or damaged, names nothing that could be kept.
                Err(StoreError::NotIntact(_) | StoreError::BadTree { .. } | StoreError::TooBig { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn garbage(kind: Kind, path: PathBuf, key: Option<Digest>) -> Option<Garbage> {
    let meta = fs::symlink_metadata(&path).ok()?;
    let age = meta.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    // A time in the future is that of something new.
    let age = age.unwrap_or_default().as_secs();
    let bytes = if meta.is_dir() { 0 } else { meta.len() };
    Some(Garbage { kind, path, bytes, age, key })
}

/// The bytes of all files below a folder.
fn bytes_below(folder: &Path) -> u64 {
    let size = |path: PathBuf| match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => bytes_below(&path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries(folder).into_iter().map(size).sum()
}

fn is_old(garbage: &Garbage, grace: Duration) -> bool {
    garbage.age >= grace.as_secs()
}

pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Whether a folder of links is named by a live digest.
fn is_view_of(path: &Path, live: &BTreeSet<Digest>) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.get(..64).and_then(|hex| hex.parse().ok()).is_some_and(|digest: Digest| live.contains(&digest))
}
