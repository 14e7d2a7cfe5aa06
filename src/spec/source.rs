//! The `sources` section.
//!
//! Purpose: sources by name, as a path or a mapping of path and type.
//! Invariant: a path is absolute or stays inside the root, and does not contain the store; a type is known.
//! Must not know: which files lie at the path.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use glob::Pattern;

use crate::spec::catalog::Catalog;
use crate::spec::code::Code;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::node::{Data, Node};
use crate::spec::fields;
use crate::spec::load::LoadOptions;
use crate::spec::types::{Source, Span};

/// Reads the section. A source with an error is there all the same, so that its name is known.
pub fn read(
    node: &Node,
    catalog: &Catalog,
    options: &LoadOptions,
    out: &mut Diagnostics,
) -> Option<BTreeMap<String, Source>> {
    let entries = fields::mapping(node, "`sources`", out)?;
    let mut sources = BTreeMap::new();
    let store = StorePlace::of(&options.store);
    for entry in entries {
        fields::check_name(&entry.key, "a source", out);
        let reader = Reader { what: format!("source `{}`", entry.key.text), catalog, options, store: &store };
        let (path, artifact_type) = reader.read(&entry.value, out);
        let source = Source { span: entry.key.span, path, artifact_type };
        sources.insert(entry.key.text.clone(), source);
    }
    Some(sources)
}

/// The nodes of the section that name artifact types.
pub fn types(node: &Node) -> impl Iterator<Item = &Node> {
    node.entries().iter().filter_map(|entry| entry.value.get("type"))
}

struct Reader<'a> {
    /// Who has an error.
    what: String,
    catalog: &'a Catalog,
    options: &'a LoadOptions,
    store: &'a StorePlace,
}

/// Where the store is, looked up once for all sources.
struct StorePlace {
    /// Its path as it was given, without `.` and `..`; empty when there is no store.
    given: PathBuf,
    /// Its path without links.
    real: PathBuf,
}

impl Reader<'_> {
    fn read(&self, node: &Node, out: &mut Diagnostics) -> (String, String) {
        let what = &self.what;
        let any = || "any".to_owned();
        if node.as_str().is_some() {
            return (self.local_path(node, out), any());
        }
        if !matches!(node.data, Data::Map(_)) {
            let message = format!("{what} must be a path or a mapping with `path`, not {}", node.kind());
            out.push(Code::Type, node.span, message);
            return (String::new(), any());
        }
        let entries = fields::mapping(node, what, out).unwrap_or_default();
        let named = node.get("type");
        let artifact_type = named.and_then(|n| self.catalog.artifact_type(n, what, out)).unwrap_or_else(any);
        if let Some(url) = entries.iter().find(|e| matches!(e.key.text.as_str(), "url" | "sha256")) {
            self.unsupported(url.key.span, out);
            return (String::new(), artifact_type);
        }
        let meant = fields::only(entries, &["path", "type"], what, out);
        if let Some(path) = node.get("path") {
            return (self.local_path(path, out), artifact_type);
        }
        if !meant.contains(&"path") {
            out.push(Code::MissingKey, node.span, format!("{what} has no `path`"));
        }
        (String::new(), artifact_type)
    }

    fn local_path(&self, node: &Node, out: &mut Diagnostics) -> String {
        if node.as_str().is_some_and(|text| text.contains("://")) {
            self.unsupported(node.span, out);
            return String::new();
        }
        let Some(path) = fields::path(node, &self.what, out) else { return String::new() };
        if self.store.is_within(&self.options.root, path) {
            let store = self.options.store.display();
            let message = format!("{} `{path}` contains the store {store}", self.what);
            let hint = "name the files or folders beside it, or keep the store elsewhere with `--store`";
            out.push_hint(Code::StoreInSource, node.span, message, Some(hint.to_owned()));
        }
        path.to_owned()
    }

    fn unsupported(&self, span: Span, out: &mut Diagnostics) {
        let message =
            format!("{} lies on the net; this version reads local files and folders only", self.what);
        let hint = "fetch it with a `command` stage, or name a local path".to_owned();
        out.push_hint(Code::UnsupportedSource, span, message, Some(hint));
    }
}

impl StorePlace {
    fn of(store: &Path) -> Self {
        if store.as_os_str().is_empty() {
            return Self { given: PathBuf::new(), real: PathBuf::new() };
        }
        Self { given: normal(store), real: real(store) }
    }

    /// Whether the path or glob of a source is the store, or holds it.
    fn is_within(&self, root: &Path, path: &str) -> bool {
        let whole = root.join(path);
        !self.given.as_os_str().is_empty()
            && (self.real.starts_with(real(&whole))
                || reaches(&whole, &self.given)
                || reaches(&whole, &self.real))
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| normal(path))
}

/// Whether a pattern, taken part by part, names the store or a folder above it, or all files below one (`**`).
/// A wildcard at its end finds files only.
fn reaches(pattern: &Path, store: &Path) -> bool {
    let pattern = normal(pattern);
    let mut parts = store.components();
    let mut wild = false;
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy();
        if text == "**" {
            return true;
        }
        let Some(here) = parts.next() else { return false };
        let matches = Pattern::new(&text).is_ok_and(|p| p.matches(&here.as_os_str().to_string_lossy()));
        if part != here && !matches {
            return false;
        }
        wild = part != here;
    }
    !wild
}

/// A path from the root of the machine, without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => _ = out.pop(),
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_not_be_the_store_nor_contain_it() {
        let contains =
            |path: &str| StorePlace::of(Path::new("/p/artifacts")).is_within(Path::new("/p"), path);
        for path in
            [".", "artifacts", "./x/../artifacts/", "/", "/p", "**", "**/*.txt", "/*/**/x", "../*/artifacts"]
        {
            assert!(contains(path), "{path}");
        }
        for path in [
            "data",
            "*",
            "art*",
            "artifacts.txt",
            "data/**",
            "*.txt",
            "*/data.txt",
            "/q/**",
            "artifacts/runs/x",
        ] {
            assert!(!contains(path), "{path}");
        }
    }

    #[test]
    fn a_link_to_a_folder_around_the_store_contains_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("real/artifacts")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let store = StorePlace::of(&folder.path().join("real/artifacts"));
        assert!(store.is_within(folder.path(), "link"));
        assert!(!store.is_within(folder.path(), "other"));
    }
}
