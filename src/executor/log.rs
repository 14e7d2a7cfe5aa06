//! The log of a stage.
//!
//! Purpose: append to it, with the values of secrets replaced.
//! Invariant: no line that is written here holds a secret, as a whole or one line of it.
//! Must not know: what is logged.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";
/// Shorter parts of a secret are too common to be replaced.
const SHORTEST: usize = 3;

/// Replaces the values of secrets.
#[derive(Debug, Default, Clone)]
pub struct Masks {
    /// The longest first, so that a part of one never hides the whole of another.
    texts: Vec<Vec<u8>>,
}

impl Masks {
    /// Masks for these values, each line of which counts for itself.
    pub fn new(secrets: &[OsString]) -> Self {
        let lines = secrets.iter().flat_map(|secret| secret.as_bytes().split(|&b| b == b'\n'));
        let mut texts: Vec<_> = lines.map(|line| line.trim_ascii().to_vec()).collect();
        texts.retain(|text| text.len() >= SHORTEST);
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        texts.dedup();
        Self { texts }
    }

    /// True when there is nothing to replace.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The text without secrets.
    pub fn text(&self, text: String) -> String {
        match self.is_empty() {
            true => text,
            false => String::from_utf8_lossy(&self.apply(text.as_bytes())).into_owned(),
        }
    }

    /// The line without secrets.
    pub fn apply(&self, line: &[u8]) -> Vec<u8> {
        let mut line = line.to_vec();
        for text in &self.texts {
            let mut at = 0;
            while let Some(found) = find(&line[at..], text) {
                line.splice(at + found..at + found + text.len(), MASK.iter().copied());
                at += found + MASK.len();
            }
        }
        line
    }
}

fn find(line: &[u8], text: &[u8]) -> Option<usize> {
    line.windows(text.len()).position(|window| window == text)
}

/// The log of a stage, opened to append.
#[derive(Debug)]
pub struct Log {
    file: File,
    masks: Masks,
}

impl Log {
    /// Opens a log.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, masks: Masks::default() })
    }

    /// The same log, with masks.
    #[must_use]
    pub fn masked(self, masks: Masks) -> Self {
        Self { masks, ..self }
    }

    /// Its file, for a process without secrets to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What it replaces.
    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    /// Writes a line.
    pub fn line(&self, line: &[u8]) {
        let mut line = self.masks.apply(line);
        line.push(b'\n');
        // A log that cannot be written must not end the stage.
        let _ = (&self.file).write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_secret_is_logged() {
        let masks =
            Masks::new(&["hunter2".into(), "line one\nline two".into(), "ab".into(), "hunter".into()]);
        let masked = |line: &str| String::from_utf8(masks.apply(line.as_bytes())).unwrap();
        assert_eq!(masked("password=hunter2, hunter2!"), "password=***, ***!");
        assert_eq!(masked("x line two y"), "x *** y");
        assert_eq!(masked("hunters and ab"), "***s and ab");
    }
}
