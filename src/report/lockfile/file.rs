//! Where the lock file of a pipeline is, and its stanzas.
//!
//! Purpose: finds, reads and replaces the lock file.
//! Invariant: a file without our header is never replaced; a file is replaced as a whole, and only when its
//! text changes.
//! Must not know: what a stanza says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::stanza;
use crate::cas::disk;
use crate::digest::Digest;

/// The header of a lock file.
pub const HEADER: &str = "\
# The lock file of a Kiln pipeline: what each stage was made from and what came out.
# Written by `kiln run`; commit it.
version: 2
stages:
";
/// How the first line of our files begins; the second one is that of version 1.
const MARKS: [&str; 2] = [
    "# The lock file of a Kiln pipeline",
    "# What each stage was made of, and what came out. Written by `kiln run`",
];

/// The version that is written.
const VERSION: u64 = 2;

/// Why there is no lock file to use.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// A newer Kiln has written it.
    #[error(
        "{} has version {version}, which a newer kiln has written; this one knows versions up to {VERSION}: use the \
         newer one, or take the file away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Both names are taken by files of other programs.
    #[error("neither {} nor {} was written by Kiln; rename one of them", first.display(), second.display())]
    Foreign {
        /// `NAME.lock`.
        first: PathBuf,
        /// `NAME.kiln.lock`.
        second: PathBuf,
    },
    /// The system refused it.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// A lock file as it was read.
#[derive(Debug, Clone, Default)]
pub struct LockFile {
    /// Its path.
    pub path: PathBuf,
    /// Whether it exists.
    pub exists: bool,
    /// The stanzas by the name of the stage, spelled as a YAML key.
    pub stanzas: BTreeMap<String, String>,
    text: String,
}

/// What is at a path.
enum Found {
    Nothing,
    Ours(String),
    Foreign,
}

impl LockFile {
    /// The lock file of this pipeline file: `NAME.lock`, or `NAME.kiln.lock` where `NAME.lock` belongs to
    /// another program.
    ///
    /// # Errors
    /// Both names belong to another program, or the disk refuses.
    pub fn of(pipeline: &Path) -> Result<Self, LockFileError> {
        let (first, second) = (pipeline.with_extension("lock"), pipeline.with_extension("kiln.lock"));
        match (look(&first)?, look(&second)?) {
            (_, Found::Ours(text)) => Ok(Self::read(second, text)),
            (Found::Ours(text), _) => Ok(Self::read(first, text)),
            (Found::Nothing, _) => Ok(Self { path: first, ..Self::default() }),
            (Found::Foreign, Found::Nothing) => {
                tracing::warn!(
                    "{} was not written by Kiln and is left alone; the lock file of this pipeline is {}",
                    first.display(),
                    second.display()
                );
                Ok(Self { path: second, ..Self::default() })
            }
            (Found::Foreign, Found::Foreign) => Err(LockFileError::Foreign { first, second }),
        }
    }

    /// A lock file from its text.
    pub fn read(path: PathBuf, text: String) -> Self {
        Self { path, exists: true, stanzas: stanzas(&text), text }
    }

    /// Whether a text has our header.
    pub fn is_ours(text: &str) -> bool {
        MARKS.iter().any(|mark| text.starts_with(mark))
    }

    /// The action keys that it names.
    pub fn keys(&self) -> impl Iterator<Item = Digest> {
        self.stanzas.values().filter_map(|text| key_in(text))
    }

    /// The action key that it names for a stage.
    pub fn key(&self, stage: &str) -> Option<Digest> {
        key_in(self.stanza(stage)?)
    }

    /// Whether its stanzas have the form of today.
    pub fn is_current(&self) -> bool {
        self.text.starts_with(HEADER)
    }

    /// Replaces the file if these stanzas give another text.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn replace(&self, stanzas: &BTreeMap<String, String>) -> Result<(), LockFileError> {
        let text = write(stanzas.iter());
        if self.exists && text == self.text {
            return Ok(());
        }
        // A link is followed, so that it stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        disk::replace(&path, text.as_bytes()).map_err(|source| LockFileError::Io {
            what: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// The stanza of a stage.
    pub fn stanza(&self, stage: &str) -> Option<&str> {
        self.stanzas.get(&stanza::yaml_key(stage)).map(String::as_str)
    }
}

/// The action key in a stanza.
fn key_in(stanza: &str) -> Option<Digest> {
    stanza::read(stanza).remove(stanza::KEY)?.as_str()?.parse().ok()
}

/// The text of a lock file.
pub fn write<'a>(stanzas: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    stanzas.fold(HEADER.to_owned(), |text, (name, stanza)| text + &named(name, stanza))
}

/// A stanza with the name of its stage.
pub fn named(name: &str, stanza: &str) -> String {
    format!("  {name}:\n{stanza}")
}

fn look(path: &Path) -> Result<Found, LockFileError> {
    match fs::read_to_string(path) {
        Ok(text) if LockFile::is_ours(&text) => check_version(path, &text).map(|()| Found::Ours(text)),
        Ok(_) => Ok(Found::Foreign),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        // Not a text file, or a folder.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory) => {
            Ok(Found::Foreign)
        }
        Err(source) => Err(LockFileError::Io { what: "read", path: path.to_owned(), source }),
    }
}

/// Checks that this Kiln knows the version of a lock file.
///
/// # Errors
/// A newer one has written it.
pub fn check_version(path: &Path, text: &str) -> Result<(), LockFileError> {
    let version =
        text.lines().take_while(|line| *line != "stages:").find_map(|line| line.strip_prefix("version:"));
    match version.and_then(|version| version.trim().parse().ok()) {
        Some(version) if version > VERSION => Err(LockFileError::Newer { path: path.to_owned(), version }),
        _ => Ok(()),
    }
}

/// The stanzas of a lock file by name. Other lines are left out, and so is a stage that has two stanzas:
/// a merge left a conflict there.
fn stanzas(text: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    let mut conflicts = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if indent == 2 && line.ends_with(':') {
            let name = line[2..line.len() - 1].to_owned();
            if all.insert(name.clone(), String::new()).is_some() {
                conflicts.push(name.clone());
            }
            current = Some(name);
        } else if indent < 4 && !line.is_empty() {
            current = None;
        } else if let Some(stanza) = current.as_ref().and_then(|name| all.get_mut(name)) {
            stanza.push_str(line);
            stanza.push('\n');
        }
    }
    conflicts.iter().for_each(|name| drop(all.remove(name)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_read_back_and_other_lines_are_left_out() {
        let text = format!(
            "{HEADER}  a:\n    run: |\n      x\n\n      y\n    outputs:\n      o: 12\n<<<<<<< ours\n  \"b c\":\n    kind: y\n"
        );
        let found = stanzas(&text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["\"b c\"", "a"]);
        assert_eq!(found["a"], "    run: |\n      x\n\n      y\n    outputs:\n      o: 12\n");
    }

    #[test]
    fn a_stage_in_conflict_has_no_stanza() {
        let text = format!(
            "{HEADER}<<<<<<< ours\n  a:\n    key: 1\n=======\n  a:\n    key: 2\n>>>>>>> theirs\n  b:\n    key: 3\n"
        );
        assert_eq!(stanzas(&text).keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn only_files_with_our_header_are_ours() {
        assert!(LockFile::is_ours(HEADER));
        assert!(LockFile::is_ours(
            "# What each stage was made of, and what came out. Written by `kiln run`; commit it.\n"
        ));
        for foreign in ["", "version: 2\nstages:\n", "# This file is automatically @generated by Poetry"] {
            assert!(!LockFile::is_ours(foreign));
        }
    }
}
