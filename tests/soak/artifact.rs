//! Files and folders as values: what a stage of the model reads and makes.
//!
//! Purpose: an artifact that can be described (as the scripts of stages do), and compared with what lies on a disk.
//! Invariant: nothing here uses the code of Kiln; a digest is SHA-256 of bytes.
//! Must not know: stages, the binary.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// A file: its text and its executable bit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Leaf {
    pub text: String,
    pub exec: bool,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File(Leaf),
    Link(String),
    Folder,
}

/// A file, or a folder with all its entries by relative path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    File(Leaf),
    Folder(BTreeMap<String, Entry>),
}

/// The digest of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Artifact {
    /// What `scan` of `scan.sh` prints.
    pub fn scan(&self) -> String {
        match self {
            Self::File(leaf) => describe(leaf, "file"),
            Self::Folder(entries) => entries
                .iter()
                .map(|(path, entry)| match entry {
                    Entry::File(leaf) => describe(leaf, path),
                    Entry::Link(_) => format!("link {path}\n"),
                    Entry::Folder => format!("dir {path}\n"),
                })
                .collect(),
        }
    }

    /// What `first` of `scan.sh` prints.
    pub fn first(&self) -> String {
        match self {
            Self::File(leaf) => format!("first {}\n", leaf.text.lines().next().unwrap_or_default()),
            Self::Folder(_) => "folder\n".to_owned(),
        }
    }

    /// What lies at a path; links are not followed, but for the path itself.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        if !path.is_dir() {
            return Ok(Self::File(leaf(path)?));
        }
        let mut entries = BTreeMap::new();
        walk(path, "", &mut entries)?;
        Ok(Self::Folder(entries))
    }
}

fn describe(leaf: &Leaf, name: &str) -> String {
    let bit = if leaf.exec { 'x' } else { '-' };
    format!("{name} {bit} {}\n", sha256(leaf.text.as_bytes()))
}

fn leaf(path: &Path) -> std::io::Result<Leaf> {
    let exec = fs::metadata(path)?.permissions().mode() & 0o111 != 0;
    Ok(Leaf { text: String::from_utf8_lossy(&fs::read(path)?).into_owned(), exec })
}

fn walk(folder: &Path, prefix: &str, entries: &mut BTreeMap<String, Entry>) -> std::io::Result<()> {
    for found in fs::read_dir(folder)? {
        let (path, name) = found.map(|f| (f.path(), f.file_name().to_string_lossy().into_owned()))?;
        let name = format!("{prefix}{name}");
        let meta = fs::symlink_metadata(&path)?;
        let entry = if meta.is_symlink() {
            let target = fs::read_link(&path)?;
            // A view of an artifact is made of links to blobs.
            let target = target.to_string_lossy().into_owned();
            if target.contains("/blobs/") { Entry::File(leaf(&path)?) } else { Entry::Link(target) }
        } else if meta.is_dir() {
            walk(&path, &format!("{name}/"), entries)?;
            Entry::Folder
        } else {
            Entry::File(leaf(&path)?)
        };
        entries.insert(name, entry);
    }
    Ok(())
}
