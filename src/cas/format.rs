//! The marks of a store: its format and whose it is.
//!
//! Purpose: write `format` and `.gitignore` when a store is made, refuse to write to a newer one, and tell a
//! store from a folder that only has its name.
//! Invariant: a file that is not ours is never replaced; nothing is written before something is to be kept.
//! Must not know: blobs, actions, how a project root is searched for.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::disk::{Disk, replace_on};
use super::error::{During, StoreError};

/// The first words of the `.gitignore` of every store: a folder that has it is a store, and the folder above it
/// is a project root.
pub const MARKER: &str = "# Kiln's store:";
/// The format of a store that this Kiln writes. A store without a format file has the first one.
pub const STORE_FORMAT: &str = "kiln.store/2";
/// What stands before the number of a format.
const FORMAT_NAME: &str = "kiln.store/";
/// The most bytes of either file that are looked at.
const MOST_BYTES: u64 = 4096;

/// Whether a folder is a store of Kiln's.
pub fn is_store(folder: &Path) -> bool {
    start_of(&folder.join(".gitignore")).is_ok_and(|text| text.starts_with(MARKER))
}

/// Makes the folder of a store and its marks, where they are missing.
///
/// # Errors
/// `NewerFormat`; the disk refuses.
pub(super) fn prepare(disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
    let current = is_current(root)?;
    super::disk::make_durable_folders(disk, root).during("make", root)?;
    let ignore = root.join(".gitignore");
    if fs::symlink_metadata(&ignore).is_err() {
        let text =
            format!("{MARKER} this file marks the project root; keep it.\n/*\n!/.gitignore\n!/README.md\n");
        replace_on(disk, &ignore, text.as_bytes()).during("write", &ignore)?;
    }
    if !current {
        let file = root.join("format");
        replace_on(disk, &file, format!("{STORE_FORMAT}\n").as_bytes()).during("write", &file)?;
    }
    Ok(())
}

/// Whether the store has our format; an older one and none at all may be written over.
pub(super) fn is_current(root: &Path) -> Result<bool, StoreError> {
    let file = root.join("format");
    let text = match start_of(&file) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        text => text.during("read", &file)?,
    };
    let number = |text: &str| text.strip_prefix(FORMAT_NAME)?.parse::<u32>().ok();
    let found = text.trim();
    match (number(found), number(STORE_FORMAT)) {
        (Some(theirs), Some(ours)) if theirs <= ours => Ok(theirs == ours),
        _ => Err(StoreError::NewerFormat {
            root: root.to_owned(),
            found: found.chars().take(80).collect(),
            ours: STORE_FORMAT,
        }),
    }
}

fn start_of(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
