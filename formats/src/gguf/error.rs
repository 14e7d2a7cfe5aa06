//! What can be wrong with a GGUF file, or with what is to become one.
//!
//! Purpose: one error that carries the file, the place in it, and what to do.
//! Invariant: names that a file gives are shown escaped and cut, so that they cannot fill or control a terminal.
//! Must not know: how the errors are shown.

use std::fmt;
use std::path::{Path, PathBuf};

/// A GGUF file could not be read, understood or written.
#[derive(Debug, thiserror::Error)]
#[error("{}{place}{what}", Prefix(.path.as_deref()))]
pub struct GgufError {
    path: Option<PathBuf>,
    place: Place,
    what: String,
    source: Option<std::io::Error>,
}

/// Where in a file something is wrong.
#[derive(Debug)]
enum Place {
    Whole,
    Offset(u64),
    Key(String),
    Tensor(String),
    Field(&'static str, String),
}

struct Prefix<'a>(Option<&'a Path>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(path) => write!(out, "{}: ", path.display()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Place::Whole => Ok(()),
            Place::Offset(offset) => write!(out, "at byte {offset}: "),
            Place::Key(key) => write!(out, "metadata key `{key}`: "),
            Place::Tensor(name) => write!(out, "tensor `{name}`: "),
            Place::Field(document, field) => write!(out, "{document}: `{field}`: "),
        }
    }
}

/// Characters of a name that a message shows.
const SHOWN: usize = 96;

/// A name from a file, as a message may show it.
pub(super) fn quoted(name: &str) -> String {
    let mut shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        shown.push_str("..");
    }
    shown
}

impl GgufError {
    fn new(place: Place, what: impl Into<String>) -> Self {
        Self { path: None, place, what: what.into(), source: None }
    }

    /// Something about the file as a whole.
    pub(super) fn whole(what: impl Into<String>) -> Self {
        Self::new(Place::Whole, what)
    }

    /// Something at this byte.
    pub(super) fn at(offset: u64, what: impl Into<String>) -> Self {
        Self::new(Place::Offset(offset), what)
    }

    /// Something about this metadata key.
    pub(super) fn key(key: &str, what: impl Into<String>) -> Self {
        Self::new(Place::Key(quoted(key)), what)
    }

    /// Something about this tensor.
    pub(super) fn tensor(name: &str, what: impl Into<String>) -> Self {
        Self::new(Place::Tensor(quoted(name)), what)
    }

    /// Something about a field of a JSON document, say `config.json`.
    pub(super) fn field(document: &'static str, field: &str, what: impl Into<String>) -> Self {
        Self::new(Place::Field(document, quoted(field)), what)
    }

    /// The file system refused.
    pub(super) fn io(source: std::io::Error) -> Self {
        Self { what: source.to_string(), source: Some(source), ..Self::whole("") }
    }

    /// The same error, of the file at `path`.
    pub(super) fn in_file(self, path: &Path) -> Self {
        Self { path: Some(path.to_path_buf()), ..self }
    }
}
