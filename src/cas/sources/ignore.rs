//! Which files of a source do not count.
//!
//! Purpose: one set of rules in gitignore syntax for sources and for what a command uses: built-in ones, those of
//! the pipeline, and those of the project's `.kilnignore`, the later ones before the earlier ones.
//! Invariant: nothing of git's own configuration is read, because keys must not depend on it. Outputs are never
//! filtered.
//! Must not know: how a source is named in a pipeline.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::cas::error::StoreError;

/// What never counts unless a later rule takes it back in: the folders of version control, the caches of
/// interpreters and desktops, and what editors leave while a file is open.
const BUILT_IN: [&str; 10] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__/",
    "*.pyc",
    ".DS_Store",
    ".#*",
    "*~",
    ".*.swp",
    ".ipynb_checkpoints/",
];
/// The project's own file of rules.
const PROJECT_FILE: &str = ".kilnignore";

/// The rules by which files of a source do not count.
#[derive(Debug)]
pub struct Ignore {
    root: PathBuf,
    rules: Gitignore,
    store: Option<PathBuf>,
    store_id: Option<(u64, u64)>,
}

impl Ignore {
    /// The rules of a project: built-in ones, then `lines` of its pipeline, then its `.kilnignore`. The folder
    /// of the store does not count either, and no rule changes that.
    ///
    /// # Errors
    /// A rule is not in gitignore syntax, or `.kilnignore` cannot be read.
    pub fn new(root: &Path, lines: &[String], store: &Path) -> Result<Self, StoreError> {
        let bad =
            |line: &str, e: &ignore::Error| StoreError::BadIgnore { line: line.into(), why: e.to_string() };
        let mut builder = GitignoreBuilder::new(root);
        for line in BUILT_IN.into_iter().chain(lines.iter().map(String::as_str)) {
            builder.add_line(None, line).map_err(|e| bad(line, &e))?;
        }
        let file = root.join(PROJECT_FILE);
        if file.exists()
            && let Some(e) = builder.add(&file)
        {
            return Err(bad(&file.to_string_lossy(), &e));
        }
        let rules = builder.build().map_err(|e| bad(&lines.join(", "), &e))?;
        let id = fs::metadata(store).ok().map(|meta| (meta.dev(), meta.ino()));
        Ok(Self { root: root.to_owned(), rules, store: std::path::absolute(store).ok(), store_id: id })
    }

    /// No rules at all.
    pub fn none() -> Self {
        Self { root: PathBuf::new(), rules: Gitignore::empty(), store: None, store_id: None }
    }

    /// Whether a file or folder does not count. What is below a folder that does not count must not be asked for.
    pub fn is_ignored(&self, path: &Path, is_folder: bool) -> bool {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        self.rules.matched(below, is_folder).is_ignore() || self.store.as_deref() == Some(path)
    }

    /// Whether a file that a glob found below `base` does not count, by itself or by a folder on the way to it.
    pub fn hides(&self, base: &Path, file: &Path) -> bool {
        let below = file.ancestors().skip(1).take_while(|folder| folder.starts_with(base) && *folder != base);
        self.is_ignored(file, false) || below.into_iter().any(|folder| self.is_ignored(folder, true))
    }

    /// The same for what has been looked at: the store is known by whatever name it is reached.
    pub(super) fn skips(&self, path: &Path, meta: &Metadata) -> bool {
        let is_store = meta.is_dir() && self.store_id == Some((meta.dev(), meta.ino()));
        is_store || self.is_ignored(path, meta.is_dir())
    }
}
