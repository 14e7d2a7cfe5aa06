//! The `sources` section.
//!
//! Purpose: sources by name: a path, or a mapping with a path or a URL and a type.
//! Invariant: a path is absolute or stays inside the root, and does not contain the store; a type is known.
//! Must not know: which files lie at the path.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use glob::Pattern;

use crate::cas::remote::without_secrets;
use crate::spec::catalog::Catalog;
use crate::spec::code::Code;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::node::{Data, Node};
use crate::spec::download;
use crate::spec::fields;
use crate::spec::load::LoadOptions;
use crate::spec::types::{Download, Source, Span, Stage};

/// What the section says.
#[derive(Debug, Default)]
pub struct Sources {
    /// Those that lie here, by name.
    pub local: BTreeMap<String, Source>,
    /// The stages that bring the others.
    pub downloads: Vec<Stage>,
}

impl Sources {
    /// Where the name of a source stands.
    pub fn span(&self, name: &str) -> Option<Span> {
        let download = || self.downloads.iter().find(|stage| stage.name.value == name);
        self.local.get(name).map(|source| source.span).or_else(|| Some(download()?.name.span))
    }
}

/// Reads the section. A source with an error is there all the same, so that its name is known.
pub fn read(node: &Node, catalog: &Catalog, options: &LoadOptions, out: &mut Diagnostics) -> Option<Sources> {
    let entries = fields::mapping(node, "`sources`", out)?;
    let mut sources = Sources::default();
    let store = StorePlace::of(&options.store);
    for entry in entries {
        fields::check_name(&entry.key, "a source", out);
        let reader = Reader { what: format!("source `{}`", entry.key.text), catalog, options, store: &store };
        let (place, artifact_type) = reader.read(&entry.value, out);
        match place {
            Place::Here(path) => {
                let source = Source { span: entry.key.span, path, artifact_type };
                sources.local.insert(entry.key.text.clone(), source);
            }
            Place::Elsewhere(what) => {
                sources.downloads.push(download::stage(&entry.key, what, artifact_type));
            }
        }
    }
    Some(sources)
}

/// The nodes of the section that name artifact types.
pub fn types(node: &Node) -> impl Iterator<Item = &Node> {
    node.entries().iter().filter_map(|entry| entry.value.get("type"))
}

/// Where a source is.
enum Place {
    /// At a path.
    Here(String),
    /// Behind a URL.
    Elsewhere(Download),
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
    fn read(&self, node: &Node, out: &mut Diagnostics) -> (Place, String) {
        let what = &self.what;
        let any = || "any".to_owned();
        if node.as_str().is_some() {
            return (Place::Here(self.local_path(node, out)), any());
        }
        if !matches!(node.data, Data::Map(_)) {
            let message =
                format!("{what} must be a path or a mapping with `path` or `url`, not {}", node.kind());
            out.push(Code::Type, node.span, message);
            return (Place::Here(String::new()), any());
        }
        let entries = fields::mapping(node, what, out).unwrap_or_default();
        let named = node.get("type");
        let artifact_type = named.and_then(|n| self.catalog.artifact_type(n, what, out)).unwrap_or_else(any);
        let meant = fields::only(entries, &["path", "url", "sha256", "type"], what, out);
        let key = |name: &str| entries.iter().find(|entry| entry.key.text == name);
        if let Some(url) = key("url") {
            if let Some(path) = key("path") {
                let message = format!("{what} has both a `path` and a `url`; name one of them");
                out.push(Code::UnknownKey, path.key.span, message);
            }
            return (Place::Elsewhere(download::read(node, url.key.span, what, out)), artifact_type);
        }
        if let Some(sha256) = key("sha256") {
            let message = format!("{what} has a `sha256`, which only a source with a `url` has");
            let hint = "the digest of a local file is found when the pipeline is planned".to_owned();
            out.push_hint(Code::UnknownKey, sha256.key.span, message, Some(hint));
        }
        if let Some(path) = node.get("path") {
            return (Place::Here(self.local_path(path, out)), artifact_type);
        }
        if !meant.iter().any(|key| ["path", "url"].contains(key)) {
            out.push(Code::MissingKey, node.span, format!("{what} has no `path` and no `url`"));
        }
        (Place::Here(String::new()), artifact_type)
    }

    fn local_path(&self, node: &Node, out: &mut Diagnostics) -> String {
        if let Some(text) = node.as_str().filter(|text| text.contains("://")) {
            let message = format!("{} is a URL; a path is of this machine", self.what);
            let hint = format!("write `{{ url: {}, sha256: .. }}`", without_secrets(text));
            out.push_hint(Code::UnsupportedSource, node.span, message, Some(hint));
            return String::new();
        }
        let Some(path) = fields::path(node, &self.options.root, &self.what, out) else {
            return String::new();
        };
        if self.store.is_within(&self.options.root, path) {
            let store = self.options.store.display();
            let message = format!("{} `{path}` contains the store {store}", self.what);
            let hint = "name the files or folders beside it, or keep the store elsewhere with `--store`";
            out.push_hint(Code::StoreInSource, node.span, message, Some(hint.to_owned()));
        }
        path.to_owned()
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
