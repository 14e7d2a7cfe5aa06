//! What the runner and the supervisor of a process say to each other.
//!
//! Purpose: the description of a process to start, and of how it and its descendants ended.
//! Invariant: both sides are the same program, so the form may change from version to version.
//! Must not know: stages, keys, the store.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::executor::sandbox::{Method, Strict};

/// The byte by which the runner asks for a stop (SIGTERM to the process group of the leader).
pub const STOP: u8 = b's';
/// The byte by which the runner has everything killed.
pub const KILL: u8 = b'k';

/// A process to start, called the leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The program and its arguments.
    pub arguments: Vec<OsText>,
    /// The working folder.
    pub folder: PathBuf,
    /// The whole environment.
    pub environment: Vec<(OsText, OsText)>,
    /// The cores that it may use; all when empty.
    pub cores: Vec<usize>,
    /// How long its descendants may outlive it, in milliseconds.
    pub linger_ms: u64,
    /// What it may see, if not everything.
    pub confinement: Option<Confinement>,
}

/// A strict sandbox, and the method that works on this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Confinement {
    /// What it may see.
    pub strict: Strict,
    /// How that is enforced.
    pub method: Method,
}

/// How a process and its descendants ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The leader.
    pub leader: Leader,
    /// Whether a stop had been asked for before the leader ended.
    pub asked: bool,
    /// Descendants that had to be killed, or that died by a signal.
    pub left: Vec<Leftover>,
    /// Whether its supervisor ends now instead of serving another request.
    pub is_last: bool,
}

/// How the leader ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leader {
    /// With this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started.
    NotStarted {
        /// Why.
        message: String,
        /// Whether the program or its interpreter is missing.
        missing: bool,
    },
}

/// A descendant that outlived the leader and did not end by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Its process id.
    pub pid: i32,
    /// Its command line, or the name of its program.
    pub name: String,
    /// The signal by which it died; none when we killed it because it did not end.
    pub signal: Option<i32>,
}

/// A text of the operating system, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsText(pub OsString);

impl<T: Into<OsString>> From<T> for OsText {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl AsRef<OsStr> for OsText {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl Serialize for OsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.0.as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into(),
            Form::Bytes(bytes) => OsString::from_vec(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_utf_8_survive() {
        for bytes in [&b"plain"[..], b"\xff\x00x", "é".as_bytes()] {
            let text = OsText(OsString::from_vec(bytes.to_vec()));
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<OsText>(&json).unwrap(), text);
        }
    }
}
