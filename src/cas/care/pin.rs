//! Records that stay.
//!
//! Purpose: a pin is a named list of action keys, in a local store (`pins/NAME`) and in a remote.
//! Invariant: a pin that cannot be read is an error and never an empty one: nobody could say what it keeps.
//! Must not know: which stages have these keys.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cas::disk::{make_durable_folders, replace_on};
use crate::cas::error::{During, StoreError};
use crate::cas::store::Store;
use crate::digest::{Digest, sealed};

/// The format of a pin.
const FORMAT: &str = "kiln.pin/1";
/// The most bytes of a pin.
pub const MOST_PIN_BYTES: u64 = 64 << 20;
/// The longest name, in bytes.
const LONGEST_NAME: usize = 100;

/// A list of keys whose records stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    format: String,
    /// The keys.
    pub keys: BTreeSet<Digest>,
}

impl Pin {
    /// A pin of these keys.
    pub fn of(keys: BTreeSet<Digest>) -> Self {
        Self { format: FORMAT.to_owned(), keys }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        Ok(sealed::seal(&serde_json::to_string(self)?).into_bytes())
    }

    /// Reads a pin.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let pin: Self = serde_json::from_str(sealed::open(bytes)?).map_err(|e| e.to_string())?;
        if pin.format == FORMAT { Ok(pin) } else { Err(format!("its format is not {FORMAT}")) }
    }

    /// Whether this can be the name of a pin: letters, digits, `.`, `_` and `-`, and no `.` at the front.
    pub fn is_name(text: &str) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (1..=LONGEST_NAME).contains(&text.len()) && !text.starts_with('.') && text.chars().all(allowed)
    }
}

impl Store {
    /// Pins records under a name, in the place of what was pinned under it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn pin(&self, name: &str, pin: &Pin) -> Result<(), StoreError> {
        let (folder, path) = (self.root().join("pins"), self.pin_path(name));
        self.prepare()?;
        make_durable_folders(&**self.disk(), &folder).during("make", &folder)?;
        let bytes = pin.to_bytes().map_err(io::Error::from).during("write", &path)?;
        replace_on(&**self.disk(), &path, &bytes).during("write", &path)
    }

    /// Removes a pin; false when there is none of this name.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.pin_path(name);
        match self.disk().remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.during("remove", &path).map(|()| true),
        }
    }

    /// All pins by name.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn pins(&self) -> Result<BTreeMap<String, Pin>, StoreError> {
        let folder = self.root().join("pins");
        let mut pins = BTreeMap::new();
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(pins),
            entries => entries.during("read", &folder)?,
        };
        for entry in entries {
            let path = entry.during("read", &folder)?.path();
            // A file that is being written has another name.
            let Some(name) =
                path.file_name().and_then(|name| name.to_str()).filter(|name| Pin::is_name(name))
            else {
                continue;
            };
            let bytes = std::fs::read(&path).during("read", &path)?;
            let wrong =
                |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("it is no pin: {why}"));
            pins.insert(name.to_owned(), Pin::parse(&bytes).map_err(wrong).during("read", &path)?);
        }
        Ok(pins)
    }

    fn pin_path(&self, name: &str) -> PathBuf {
        self.root().join("pins").join(name)
    }
}
