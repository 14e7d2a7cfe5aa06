//! The `sources` section.
//!
//! Purpose: sources by name, as a path or a mapping of path and type.
//! Invariant: a path is absolute or stays inside the root; a type is known.
//! Must not know: what lies at the path.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::protocol::ARTIFACT_TYPES;
use crate::spec::diagnostic::{Diagnostics, did_you_mean, list_names};
use crate::spec::fields;
use crate::spec::node::{Data, Node, Place};
use crate::spec::types::Source;

/// Reads the section. A damaged source is there all the same, so that its name is known.
pub fn read(node: &Node, out: &mut Diagnostics) -> Option<BTreeMap<String, Source>> {
    let entries = fields::mapping(node, "`sources`", out)?;
    let mut sources = BTreeMap::new();
    for entry in entries {
        fields::check_name(&entry.key, "a source", out);
        let (path, artifact_type) = read_one(&entry.key.text, &entry.value, out);
        let source = Source { span: entry.key.at.into(), path, artifact_type };
        sources.insert(entry.key.text.clone(), source);
    }
    Some(sources)
}

fn read_one(name: &str, node: &Node, out: &mut Diagnostics) -> (String, String) {
    let what = format!("source `{name}`");
    let any = || "any".to_owned();
    if node.as_str().is_some() {
        return (local_path(node, &what, out), any());
    }
    if !matches!(node.data, Data::Map(_)) {
        let message = format!("{what} must be a path or a mapping with `path`, not {}", node.kind());
        out.push("type", node.place(), message);
        return (String::new(), any());
    }
    let entries = fields::mapping(node, &what, out).unwrap_or_default();
    let artifact_type = node.get("type").and_then(|n| artifact_type(n, &what, out)).unwrap_or_else(any);
    if let Some(url) = entries.iter().find(|e| matches!(e.key.text.as_str(), "url" | "sha256")) {
        unsupported(url.key.place(), &what, out);
        return (String::new(), artifact_type);
    }
    let meant = fields::only(entries, &["path", "type"], &what, out);
    if let Some(path) = node.get("path") {
        return (local_path(path, &what, out), artifact_type);
    }
    if !meant.contains(&"path") {
        out.push("missing-key", node.place(), format!("{what} has no `path`"));
    }
    (String::new(), artifact_type)
}

fn local_path(node: &Node, what: &str, out: &mut Diagnostics) -> String {
    if node.as_str().is_some_and(|text| text.contains("://")) {
        unsupported(node.place(), what, out);
        return String::new();
    }
    fields::path(node, what, out).unwrap_or_default().to_owned()
}

fn unsupported(place: Place, what: &str, out: &mut Diagnostics) {
    let message = format!("{what} lies on the net; this version reads local files and folders only");
    let hint = "fetch it with a `command` stage, or name a local path".to_owned();
    out.push_hint("unsupported-source", place, message, Some(hint));
}

/// An artifact type that Kiln knows.
pub fn artifact_type(node: &Node, what: impl Display, out: &mut Diagnostics) -> Option<String> {
    let text = fields::string(node, format_args!("the type of {what}"), out)?;
    if ARTIFACT_TYPES.contains(&text) {
        return Some(text.to_owned());
    }
    let hint = did_you_mean(text, ARTIFACT_TYPES)
        .unwrap_or_else(|| format!("there is: {}", list_names(ARTIFACT_TYPES)));
    let message = format!("{what} has the type `{text}`, which does not exist");
    out.push_hint("unknown-type", node.place(), message, Some(hint));
    None
}
