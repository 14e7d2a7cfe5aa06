//! The records of work done.
//!
//! Purpose: find the action of a key, and add one when its outputs are in the store.
//! Invariant: an action that is named was synced first, after the blobs it names; its key is the digest
//! of its ingredients. An action is never changed while its outputs are whole.
//! Must not know: how keys are made, what stages are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{During, StoreError};
use super::store::{Store, Temporary};
use super::types::{ACTION_FORMAT, Action};
use crate::digest::{Digest, canonical_json};

/// The most bytes of an action.
const MOST_BYTES: u64 = 16 << 20;

/// What became of an action that was put.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// It was new and is kept.
    New,
    /// The store has it already, with the same outputs.
    Same,
    /// The store had one that could not be read, or whose outputs are not whole; the new one is kept.
    Healed,
    /// The store has one with other outputs, all whole: the stage is not deterministic. The old one,
    /// given here, stays.
    Differs(Box<Action>),
}

/// An action that is written and has no name yet.
pub(super) struct Draft {
    action: Action,
    temporary: Temporary,
}

impl Draft {
    /// Where it is written.
    pub(super) fn file(&self) -> &Path {
        &self.temporary
    }
}

impl Store {
    /// The action of a key, if one is known. A record that is damaged, of another format, or filed under
    /// a key that is not its own, is none; a warning tells. Its outputs may be gone: see `is_whole`.
    ///
    /// # Errors
    /// None today: what cannot be read is a miss.
    pub fn action(&self, key: &Digest) -> Result<Option<Action>, StoreError> {
        let path = self.place("actions", key);
        let bytes = match read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes,
        };
        let action = bytes.map_err(|e| e.to_string()).and_then(|bytes| parse(&bytes, key));
        if let Err(why) = &action {
            tracing::warn!(%key, file = %path.display(), "an action cannot be used and counts as unknown: {why}");
        }
        Ok(action.ok())
    }

    /// Writes an action to a temporary file. Numbers of the provenance that are not finite are left out:
    /// JSON has no word for them.
    pub(super) fn draft(&self, mut action: Action) -> Result<Draft, StoreError> {
        action.provenance.summary.retain(|(_, value)| value.is_finite());
        let json = serde_json::to_value(&action).map_err(io::Error::from);
        let json = canonical_json(&json.during("write the action", &self.place("actions", &action.key))?);
        // Read back, so that no action is ever written that would be a miss.
        parse(json.as_bytes(), &action.key).map_err(|_| StoreError::BadKey(action.key))?;
        let temporary = self.temporary()?;
        self.disk.write(&temporary, json.as_bytes()).during("write", &temporary)?;
        Ok(Draft { action, temporary })
    }

    /// Gives an action its name; the folder of it is added to `shards`.
    pub(super) fn name_action(
        &self,
        Draft { action, temporary }: &mut Draft,
        shards: &mut BTreeSet<PathBuf>,
    ) -> Result<Put, StoreError> {
        let path = self.place("actions", &action.key);
        let new = |draft: &Path| self.in_shard(&path, shards, || self.disk.rename_new(draft, &path));
        match temporary.name(new) {
            Ok(()) => return Ok(Put::New),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if let Some(put) = self.compare(action)? {
            return Ok(put);
        }
        temporary.name(|draft| self.disk.rename(draft, &path).during("name", &path))?;
        Ok(Put::Healed)
    }

    /// Compares with the action that is there; none when that one should be replaced.
    fn compare(&self, action: &Action) -> Result<Option<Put>, StoreError> {
        let Some(known) = self.action(&action.key)? else { return Ok(None) };
        if known.outputs == action.outputs {
            return Ok(Some(Put::Same));
        }
        for output in known.outputs.values() {
            if !self.is_whole(output)? {
                return Ok(None);
            }
        }
        Ok(Some(Put::Differs(Box::new(known))))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2048);
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8], key: &Digest) -> Result<Action, String> {
    let action: Action = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if action.format != ACTION_FORMAT {
        return Err(format!("its format is not {ACTION_FORMAT}"));
    }
    if action.key != *key || Digest::of_json(&action.key_inputs) != *key {
        return Err("its key is not the digest of its ingredients".into());
    }
    Ok(action)
}
