//! Tests of the store as its users see it.
//!
//! Purpose: hold the store to its invariants: round trips, damage, hostile trees, crashes, locks.
//! Invariant: no test needs more than the temporary folder and this machine's own clock.
//! Must not know: how the store keeps its promises, save for the crash tests, which own its disk.

mod actions;
mod artifacts;
pub(crate) mod crash;
mod damage;
pub(crate) mod faults;
mod format;
mod hostile;
mod materialize;
mod outputs;
mod sources;
mod speed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::types::{ACTION_FORMAT, Action, ArtifactRef, Provenance};
use super::{Committed, How, Ignore, PendingCommit, Store, StoreError};
use crate::digest::{CanonicalJson, Digest};

impl Store {
    /// Takes in and keeps one finished output.
    pub(crate) fn ingest(&self, path: &Path) -> Result<ArtifactRef, StoreError> {
        self.ingest_with(path, &[])
    }

    /// The same for a stage with inputs.
    fn ingest_with(&self, path: &Path, inputs: &[(PathBuf, ArtifactRef)]) -> Result<ArtifactRef, StoreError> {
        let staged = self.collect(path, inputs)?;
        let artifact = staged.artifact;
        let pending = PendingCommit { outputs: vec![staged], ..PendingCommit::default() };
        self.commit(vec![pending]).into_iter().try_for_each(|kept| kept.map(drop))?;
        Ok(artifact)
    }

    /// Keeps an action whose outputs are in the store.
    pub(crate) fn put_action(&self, action: &Action) -> Result<Committed, StoreError> {
        let pending = PendingCommit { action: Some(action.clone()), ..PendingCommit::default() };
        let committed = self.commit(vec![pending]).pop().unwrap_or(Ok(None))?;
        committed.ok_or(StoreError::BadKey(action.key))
    }

    /// Names what is outside, without any ignore rules.
    fn named(&self, path: &Path) -> Result<ArtifactRef, StoreError> {
        self.identify(path, &Ignore::none())
    }
}

/// A store in a temporary folder, and room beside it.
pub(crate) struct Place {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

pub(crate) fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("artifacts")).unwrap();
    Place { dir, store }
}

/// The same on a disk that does not wait for its syncs, for tests of many cases.
pub(crate) fn quick_place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let disk = crash::Mortal::with_steps(usize::MAX);
    let store = Store::on_disk(&dir.path().join("artifacts"), Arc::new(disk)).unwrap();
    Place { dir, store }
}

impl Place {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the store.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn ingested(&self, text: &str) -> ArtifactRef {
        self.store.ingest(&self.file("output", text)).unwrap()
    }

    /// The store as another process would open it now.
    pub(crate) fn reopened(&self) -> Store {
        Store::open(self.store.root()).unwrap()
    }
}

pub(crate) fn action(key_inputs: Value, outputs: &[(&str, ArtifactRef)]) -> Action {
    Action {
        format: ACTION_FORMAT.into(),
        key: Digest::of_json(&key_inputs),
        key_inputs: CanonicalJson::of(&key_inputs),
        outputs: outputs.iter().map(|(name, output)| ((*name).to_owned(), *output)).collect(),
        provenance: Provenance {
            run: "r-0001".into(),
            started: "2026-01-02T03:04:05Z".into(),
            seconds: 1.5,
            kiln: "0.1.0".into(),
            provider: None,
            summary: vec![("loss".into(), 2.5)],
        },
        signatures: Vec::new(),
    }
}

pub(crate) fn key_inputs(n: u64) -> Value {
    json!({"format": 1, "kind": "sft", "params": {"learning_rate": 1e-5, "n": n}})
}

/// All files below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        // A link to a folder is not followed: several that lead upwards would give endless many files.
        let is_folder = entry.file_type().unwrap().is_dir();
        if is_folder { files.extend(files_below(&entry.path())) } else { files.push(entry.path()) }
    }
    files.sort();
    files
}

/// The bytes of all files below a folder, by path.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let bytes = |path: &Path| match path.is_dir() {
        true => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
        false => fs::read(path).unwrap(),
    };
    files_below(folder).into_iter().map(|path| (name(&path), bytes(&path))).collect()
}
