//! The actions of the local store.
//!
//! Purpose: find the action of a key, and write one.
//! Invariant: an action that is named was synced first; its key is the digest of its key inputs. What is damaged,
//! of another format, or filed under a key that is not its own counts as unknown.
//! Must not know: how keys are made, what stages are, whether outputs are intact.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::root::{MustLast, Root};
use super::temporary::Temporary;
use crate::cas::disk::{make_durable_folders, replace_on};
use crate::cas::error::{During, StoreError};
use crate::cas::stat;
use crate::cas::traits::ActionCache;
use crate::cas::types::{ACTION_FORMAT, Action, Provenance};
use crate::digest::{Digest, canonical_json, sealed};

/// The most bytes of an action.
pub(in crate::cas) const MOST_BYTES: u64 = 16 << 20;
/// The most outputs of an action.
const MOST_OUTPUTS: usize = 10_000;
/// The longest name of an output, in bytes.
const LONGEST_NAME: usize = 255;
/// The most numbers of the summary of an action.
const MOST_NUMBERS: usize = 1_000;
/// The formats that earlier versions wrote.
const OLDER_FORMATS: [&str; 1] = ["kiln.action/1"];

/// The actions of a local store; shared by threads.
pub(in crate::cas) struct LocalActions {
    root: Arc<Root>,
}

/// The one field that every format has.
#[derive(serde::Deserialize)]
struct Format {
    format: String,
}

/// An action that is written and has no name yet.
pub(in crate::cas) struct Draft {
    pub action: Action,
    temporary: Temporary,
}

impl Draft {
    /// Where it is written.
    pub fn file(&self) -> &Path {
        &self.temporary
    }
}

impl LocalActions {
    pub fn new(root: Arc<Root>) -> Self {
        Self { root }
    }

    /// Where the action of a key lies.
    pub fn path(&self, key: &Digest) -> PathBuf {
        self.root.place("actions", key)
    }

    fn previous_path(&self, key: &Digest) -> PathBuf {
        self.path(key).with_extension("previous")
    }

    /// The action of a key; a warning says why one that is there cannot be used.
    pub fn read(&self, key: &Digest) -> Option<Action> {
        read_at(&self.path(key), key)
    }

    /// The action that a forced run replaced.
    pub fn previous(&self, key: &Digest) -> Option<Action> {
        read_at(&self.previous_path(key), key)
    }

    /// Whether there is a file for the action that a forced run replaced.
    pub fn has_previous(&self, key: &Digest) -> bool {
        self.previous_path(key).exists()
    }

    /// The format of what lies under a key, if an earlier version wrote it.
    pub fn older_format(&self, key: &Digest) -> Option<String> {
        let bytes = read(&self.path(key)).ok()?;
        let Format { format } = serde_json::from_slice(&bytes).ok()?;
        OLDER_FORMATS.contains(&format.as_str()).then_some(format)
    }

    /// Puts a record aside that cannot be used.
    pub fn quarantine(&self, key: &Digest) -> Result<(), StoreError> {
        self.put_aside(key, &self.path(key))
    }

    /// Puts aside what a forced run replaced and cannot be used.
    pub fn quarantine_previous(&self, key: &Digest) -> Result<(), StoreError> {
        self.put_aside(key, &self.previous_path(key))
    }

    fn put_aside(&self, key: &Digest, path: &Path) -> Result<(), StoreError> {
        let folder = self.root.path().join("work/quarantine");
        let aside = folder.join(format!("{key}-{:x}.action", stat::now()));
        make_durable_folders(&*self.root.disk, &folder).during("make", &folder)?;
        self.root.disk.rename(path, &aside).during("put aside", path)
    }

    /// Keeps an action that is about to be replaced.
    pub fn keep_previous(&self, action: &Action) -> Result<(), StoreError> {
        let path = self.previous_path(&action.key);
        replace_on(&*self.root.disk, &path, spell(action)?.as_bytes()).during("write", &path)
    }

    /// Writes an action to a temporary file. Numbers of the provenance that are not finite are left out, because
    /// JSON cannot express them.
    pub fn draft(&self, mut action: Action) -> Result<Draft, StoreError> {
        action.provenance.summary.retain(|(_, value)| value.is_finite());
        let json = spell(&action)?;
        // Read back, so that no action is ever written that would be a miss.
        match parse(json.as_bytes(), &action.key) {
            Ok(_) => {}
            Err(_) if action.key_inputs.digest() != action.key => {
                return Err(StoreError::BadKey(action.key));
            }
            Err(why) => return Err(StoreError::BadAction { key: action.key, why }),
        }
        let temporary = self.root.temporary()?;
        self.root.disk.write(&temporary, json.as_bytes()).during("write", &temporary)?;
        Ok(Draft { action, temporary })
    }

    /// Gives an action its name, if its key has none yet; the folder of it is added to `shards`.
    pub fn name_new(&self, draft: &mut Draft, shards: &mut BTreeSet<PathBuf>) -> Result<bool, StoreError> {
        let (path, disk) = (self.path(&draft.action.key), &*self.root.disk);
        let new = |from: &Path| self.root.name_in_shard(&path, shards, || disk.rename_new(from, &path));
        match draft.temporary.name(new) {
            Ok(()) => Ok(true),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives an action its name in the place of the one that has it.
    pub fn name_over(&self, draft: &mut Draft) -> Result<(), StoreError> {
        let path = self.path(&draft.action.key);
        draft.temporary.name(|from| self.root.disk.rename(from, &path).during("name", &path))
    }
}

impl ActionCache for LocalActions {
    fn get(&self, key: &Digest) -> Result<Option<Action>, StoreError> {
        Ok(self.read(key))
    }

    fn put(&self, action: &Action) -> Result<bool, StoreError> {
        let (mut draft, mut shards) = (self.draft(action.clone())?, BTreeSet::new());
        self.root.sync(&[MustLast::Bytes(draft.file().to_owned())])?;
        let new = self.name_new(&mut draft, &mut shards)?;
        self.root.sync_names(&shards).map(|()| new)
    }

    fn list(&self, each: &mut dyn FnMut(Digest) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.root.list("actions", each)
    }
}

/// The text of an action.
pub(crate) fn spell(action: &Action) -> Result<String, StoreError> {
    let json = serde_json::to_value(action);
    let json = json.map_err(|e| StoreError::BadAction { key: action.key, why: e.to_string() })?;
    Ok(sealed::seal(&canonical_json(&json)))
}

fn read_at(path: &Path, key: &Digest) -> Option<Action> {
    let bytes = match read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        bytes => bytes,
    };
    let action = bytes.map_err(|e| e.to_string()).and_then(|bytes| parse(&bytes, key));
    if let Err(why) = &action {
        let (key, path) = (key.short(), path.display());
        tracing::warn!("the record {key} cannot be used and counts as absent: {why}; it is {path}");
    }
    action.ok()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2048);
    // A FIFO would be waited for.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads an action that is to have this key.
///
/// # Errors
/// The rule broken, as a fragment.
pub(crate) fn parse(bytes: &[u8], key: &Digest) -> Result<Action, String> {
    let text = sealed::open(bytes).map_err(|why| match serde_json::from_slice(bytes) {
        // Older formats had no checksum.
        Ok(Format { format }) if format != ACTION_FORMAT => foreign(&format),
        _ => why,
    })?;
    let action: Action = match serde_json::from_str(text) {
        Ok(action) => action,
        Err(e) => match serde_json::from_str(text) {
            Ok(Format { format }) if format != ACTION_FORMAT => return Err(foreign(&format)),
            _ => return Err(e.to_string()),
        },
    };
    if action.format != ACTION_FORMAT {
        return Err(foreign(&action.format));
    }
    if action.key != *key || action.key_inputs.digest() != *key {
        return Err("its key is not the digest of its key inputs".into());
    }
    if action.outputs.len() > MOST_OUTPUTS {
        return Err(format!("it has more than {MOST_OUTPUTS} outputs"));
    }
    if action.outputs.keys().any(|name| name.is_empty() || name.len() > LONGEST_NAME) {
        return Err("the name of an output is empty or too long".into());
    }
    if action.outputs.values().any(|output| output.tree && output.executable) {
        return Err("a folder is marked as executable".into());
    }
    check_provenance(&action.provenance).map(|()| action)
}

/// What a record of somebody else says of its origin is shown to people and names a folder of the store.
fn check_provenance(provenance: &Provenance) -> Result<(), String> {
    let Provenance { run, started, kiln, summary, .. } = provenance;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if run.len() > LONGEST_NAME || !run.chars().all(is_word) {
        return Err("the name of its run is not made of letters, digits, `-` and `_`".into());
    }
    let names = summary.iter().map(|(name, _)| name);
    let is_plain = |text: &String| text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    match summary.len() <= MOST_NUMBERS && [started, kiln].into_iter().chain(names).all(is_plain) {
        true => Ok(()),
        false => Err("its provenance has texts that are too long or cannot be shown".into()),
    }
}

fn foreign(format: &str) -> String {
    match OLDER_FORMATS.contains(&format) {
        true => format!("it was made by an older format, `{format}`"),
        false => format!("its format is not {ACTION_FORMAT}"),
    }
}
