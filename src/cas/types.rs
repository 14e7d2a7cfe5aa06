//! What the store keeps: artifact references, trees and actions.
//!
//! Purpose: the data that is named by digests, as it stands on disk.
//! Invariant: every type reads what an older Kiln of the same format version wrote; what has another format
//! version is unknown.
//! Must not know: pipelines, plans, stages.

use std::collections::BTreeMap;

use super::trust::Signature;
use crate::digest::{CanonicalJson, Digest};
use serde::{Deserialize, Serialize};

/// The format of an [`Action`].
pub const ACTION_FORMAT: &str = "kiln.action/2";
/// The format of a [`Tree`].
pub const TREE_FORMAT: &str = "kiln.tree/2";

/// An artifact by its digest.
///
/// The executable bit of a single file stands beside its digest and never in it: two files of equal bytes and
/// different bits are two references to one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// Of a file: of its bytes. Of a folder: of its [`Tree`] in canonical JSON.
    pub digest: Digest,
    /// True for a folder.
    pub tree: bool,
    /// Whether a single file may be executed; always false for a folder, whose tree says it of each file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// The bytes in all (of a folder: of its files).
    pub size: u64,
}

/// The listing of a folder; itself a blob, in canonical JSON. (Fields stand in the order of canonical JSON.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Its files, sorted by path.
    pub files: Vec<TreeFile>,
    /// The folders that hold nothing, sorted.
    pub folders: Vec<String>,
    /// [`TREE_FORMAT`].
    pub format: String,
    /// Its symbolic links, sorted by path; none leads out of the folder.
    pub links: Vec<TreeLink>,
}

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeFile {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Whether it may be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// Relative, `/` between parts, no `.`, `..`, empty part, NUL or backslash.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A symbolic link of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeLink {
    /// As the path of a file.
    pub path: String,
    /// Relative to the folder of the link: any number of `..`, then names; it stays within the tree.
    pub target: String,
}

/// The record of work done: action key -> key inputs, outputs, provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// [`ACTION_FORMAT`].
    pub format: String,
    /// The digest of `key_inputs`; checked on every read.
    pub key: Digest,
    /// Everything that may change the outputs.
    pub key_inputs: CanonicalJson,
    /// The outputs by name.
    pub outputs: BTreeMap<String, ArtifactRef>,
    /// How it came about; never part of the key.
    pub provenance: Provenance,
    /// Signatures of all of the above by those who made it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

impl Action {
    /// The artifacts that the stage read: its inputs and, of a command, the files under `uses`. Their sizes are not
    /// known.
    pub fn inputs(&self) -> Vec<ArtifactRef> {
        let key_inputs = self.key_inputs.value();
        let sections = ["inputs", "uses"].iter().filter_map(|section| key_inputs.get(*section)?.as_object());
        let texts = sections.flat_map(|section| section.values()).filter_map(|value| value.as_str());
        let artifact = |text: &str| {
            let digest = text.get(..64)?.parse().ok()?;
            Some(ArtifactRef { digest, tree: text.ends_with('/'), executable: text.ends_with('*'), size: 0 })
        };
        texts.filter_map(artifact).collect()
    }
}

/// How an action came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run that did it.
    pub run: String,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The version of Kiln.
    pub kiln: String,
    /// The digest of the provider's program; none for a command.
    #[serde(default)]
    pub provider: Option<Digest>,
    /// Numbers for the summary table, in order.
    #[serde(default)]
    pub summary: Vec<(String, f64)>,
}
