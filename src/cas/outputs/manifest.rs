//! What a kept attempt looked like.
//!
//! Purpose: tell whether the outputs of an attempt that could not be collected are still what they were.
//! Invariant: any write to a file shows, as far as the file system's times do; modes do not count, because to
//! collect changes them.
//! Must not know: why an attempt was kept.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cas::error::{During, StoreError};
use crate::cas::stat::Stat;
use crate::cas::store::Store;
use crate::cas::tree::MOST_ENTRIES;
use crate::digest::Digest;

/// Names, sizes and times of all that is in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    entries: BTreeMap<String, ManifestEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum ManifestEntry {
    Folder,
    File {
        size: u64,
        mtime: i64,
    },
    Link {
        target: Digest,
    },
    /// A pipe, a socket or a device.
    Other,
}

impl Store {
    /// Names, sizes and times of all that is in the folder of an attempt.
    ///
    /// # Errors
    /// The folder cannot be read, or holds too much.
    pub fn manifest(&self, folder: &Path) -> Result<Manifest, StoreError> {
        let mut entries = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let path = folder.join(&below);
            for entry in fs::read_dir(&path).during("list", &path)? {
                let entry = entry.during("list", &path)?;
                let (name, path) = (below.join(entry.file_name()), entry.path());
                let described = describe(&path).during("look at", &path)?;
                if matches!(described, ManifestEntry::Folder) {
                    folders.push(name.clone());
                }
                // Escaped, so that any bytes make a text of their own.
                entries.insert(name.as_os_str().as_bytes().escape_ascii().to_string(), described);
                if entries.len() > MOST_ENTRIES {
                    let what = format!("the folder {}", folder.display());
                    return Err(StoreError::TooBig { what, limit: format!("{MOST_ENTRIES} entries") });
                }
            }
        }
        Ok(Manifest { entries })
    }

    /// Whether the folder of an attempt is still what it was.
    pub fn matches(&self, manifest: &Manifest, folder: &Path) -> bool {
        self.manifest(folder).is_ok_and(|now| now == *manifest)
    }
}

fn describe(path: &Path) -> io::Result<ManifestEntry> {
    let meta = fs::symlink_metadata(path)?;
    Ok(if meta.is_dir() {
        ManifestEntry::Folder
    } else if meta.is_file() {
        let stat = Stat::of(&meta);
        ManifestEntry::File { size: stat.size, mtime: stat.mtime }
    } else if meta.is_symlink() {
        ManifestEntry::Link { target: Digest::of_bytes(fs::read_link(path)?.as_os_str().as_bytes()) }
    } else {
        ManifestEntry::Other
    })
}
