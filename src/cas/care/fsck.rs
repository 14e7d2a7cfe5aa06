//! Checks every byte of a store.
//!
//! Purpose: hash every blob and read every record, whatever is known of them by their stats; bring what is damaged
//! or missing from the remotes.
//! Invariant: what is damaged is quarantined, so that nobody reads it afterwards; nothing else is changed.
//! Must not know: pipelines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::cas::error::StoreError;
use crate::cas::format;
use crate::cas::remote::FetchError;
use crate::cas::store::Store;
use crate::cas::traits::{ActionCache, BlobStore};
use crate::cas::types::{Action, ArtifactRef};
use crate::digest::Digest;

/// What a check of a store found.
#[derive(Debug, Default, Serialize)]
pub struct Checked {
    /// How many blobs were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// How many records were read.
    pub actions: usize,
    /// Blobs that had other bytes than their names say and could not be had from a remote; they were quarantined.
    pub damaged_blobs: Vec<Digest>,
    /// Blobs that could not be read, and could not be had from a remote.
    pub unreadable_blobs: Vec<Unreadable>,
    /// Records that could not be used; they were quarantined.
    pub damaged_actions: Vec<Digest>,
    /// Records whose outputs are not whole, and cannot be made whole from the remotes.
    pub incomplete: Vec<Incomplete>,
    /// Copies of executable files, below `view`, that had other bytes than they should; they were put aside and made anew
    /// from their blobs.
    pub damaged_copies: Vec<PathBuf>,
    /// How many records have their outputs again, or are there again, from the remotes.
    pub repaired: usize,
}

/// A blob that the disk did not give.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// Its name.
    pub digest: Digest,
    /// What the disk said.
    pub why: String,
}

/// A record whose outputs are not whole.
#[derive(Debug, Serialize)]
pub struct Incomplete {
    /// Its key.
    pub key: Digest,
    /// Its kind of stage.
    pub kind: String,
    /// The outputs that lack bytes.
    pub outputs: Vec<String>,
    /// The run that made them.
    pub run: String,
}

impl Checked {
    /// Whether everything is as it should be, as far as it is known.
    pub fn is_sound(&self) -> bool {
        let blobs_are = self.damaged_blobs.is_empty() && self.unreadable_blobs.is_empty();
        blobs_are && self.damaged_actions.is_empty() && self.incomplete.is_empty()
    }
}

impl Store {
    /// Checks every blob and every record, and repairs from the remotes what it can. `on_bytes` is told how many
    /// bytes were read.
    ///
    /// # Errors
    /// The disk cannot be read; the store has a format that this Kiln does not know.
    pub fn fsck(&self, on_bytes: &mut dyn FnMut(u64)) -> Result<Checked, StoreError> {
        format::is_current(self.root())?;
        let mut checked = Checked::default();
        let mut blobs = Vec::new();
        self.blobs.list(&mut |digest| {
            blobs.push(digest);
            Ok(())
        })?;
        for digest in blobs {
            match self.blobs.verify_bytes(&digest) {
                Ok(Some(size)) => {
                    checked.blobs += 1;
                    checked.bytes += size;
                    on_bytes(checked.bytes);
                }
                Ok(None) => checked.damaged_blobs.push(digest),
                Err(error) => {
                    let why = error.to_string();
                    checked.unreadable_blobs.push(Unreadable { digest, why });
                }
            }
        }
        self.check_actions(&mut checked)?;
        self.check_copies(&mut checked)?;
        // What a remote had is sound again.
        let is_sound = |digest: &Digest| matches!(self.blobs.verify(digest), Ok(Some(_)));
        checked.damaged_blobs.retain(|digest| !is_sound(digest));
        checked.unreadable_blobs.retain(|blob| !is_sound(&blob.digest));
        Ok(checked)
    }

    fn check_actions(&self, checked: &mut Checked) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.actions.list(&mut |key| {
            keys.push(key);
            Ok(())
        })?;
        // Each artifact is looked at once, however many records name it.
        let mut intact: BTreeMap<ArtifactRef, bool> = BTreeMap::new();
        for key in keys {
            checked.actions += 1;
            // It is there to be compared, and no remote has it.
            if self.actions.has_previous(&key) && self.actions.previous(&key).is_none() {
                self.actions.quarantine_previous(&key)?;
                checked.damaged_actions.push(key);
            }
            let Some(action) = self.actions.read(&key) else {
                self.actions.quarantine(&key)?;
                match self.fetch_action(&key)? {
                    true => checked.repaired += 1,
                    false => checked.damaged_actions.push(key),
                }
                continue;
            };
            let lost = self.lost(&action, &mut intact)?;
            if lost.is_empty() {
                continue;
            }
            let outputs: Vec<_> = action.outputs.values().copied().collect();
            if self.remotes().is_some() && self.fetch_outputs(&action)? {
                outputs.iter().for_each(|output| _ = intact.insert(*output, true));
                checked.repaired += 1;
                continue;
            }
            let kind = action.key_inputs.value()["kind"].as_str().unwrap_or_default().to_owned();
            checked.incomplete.push(Incomplete { key, kind, outputs: lost, run: action.provenance.run });
        }
        Ok(())
    }

    /// The outputs of an action that are not whole.
    fn lost(
        &self,
        action: &Action,
        known: &mut BTreeMap<ArtifactRef, bool>,
    ) -> Result<Vec<String>, StoreError> {
        let mut lost = Vec::new();
        for (name, output) in &action.outputs {
            let intact = match known.get(output) {
                Some(intact) => *intact,
                // What cannot be read is not whole.
                None => {
                    self.is_intact(output).or_else(|e| if e.is_of_disk() { Ok(false) } else { Err(e) })?
                }
            };
            known.insert(*output, intact);
            if !intact {
                lost.push(name.clone());
            }
        }
        Ok(lost)
    }

    /// Brings the record of a key, and its outputs, from a remote; false when none gives them.
    fn fetch_action(&self, key: &Digest) -> Result<bool, StoreError> {
        let Some(remotes) = self.remotes() else { return Ok(false) };
        let Some(found) = remotes.lookup(&[*key], self.trust()).pop().flatten() else { return Ok(false) };
        Ok(self.fetch_outputs(&found.action)? && self.actions.put(&found.action)?)
    }

    /// Brings the outputs of an action from the remotes; false when none gives them.
    fn fetch_outputs(&self, action: &Action) -> Result<bool, StoreError> {
        let outputs: Vec<_> = action.outputs.values().copied().collect();
        match self.fetch(&outputs, &action.inputs()) {
            Ok(_) => Ok(true),
            Err(FetchError::Store(error)) if error.is_of_disk() => Err(error),
            Err(_) => Ok(false),
        }
    }
}
