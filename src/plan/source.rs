//! The files of a source.
//!
//! Purpose: what the path of a source stands for now: one file or folder, or the files of a glob.
//! Invariant: the files of a glob come sorted by path, hidden ones only where the glob names the
//! dot; their names in the artifact start after the glob's fixed folders.
//! Must not know: digests, what is cached.

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::plan::PlanError;
use crate::spec::types::Source;

/// What a source stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceFiles {
    /// One file or folder.
    Path(PathBuf),
    /// The files of a glob.
    Glob {
        /// The folder that their names are relative to.
        base: PathBuf,
        /// The files, sorted.
        files: Vec<PathBuf>,
    },
}

/// Finds the files of a source.
///
/// # Errors
/// No such file; a glob that is none or that cannot be walked.
pub fn source_files(root: &Path, name: &str, source: &Source) -> Result<SourceFiles, PlanError> {
    let path = root.join(&source.path);
    let missing = || PlanError::NoSource { name: name.into(), path: source.path.clone(), at: source.span.start };
    // A file may have brackets in its name: what is there as it is written is no glob.
    if path.exists() {
        return Ok(SourceFiles::Path(path));
    }
    if !is_glob(&source.path) {
        return Err(missing());
    }
    let base = fixed_folders(&source.path);
    // Only the user's part is a pattern; joining keeps an absolute one as it is.
    let pattern = Path::new(&Pattern::escape(&root.to_string_lossy())).join(&source.path);
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let walk = glob::glob_with(&pattern.to_string_lossy(), options).map_err(|e| PlanError::BadGlob {
        name: name.into(),
        path: source.path.clone(),
        why: e.to_string(),
        at: source.span.start,
    })?;
    let mut files = Vec::new();
    for found in walk {
        let found = found.map_err(|e| PlanError::Unreadable {
            name: name.into(),
            why: e.to_string(),
            at: source.span.start,
        })?;
        if found.is_file() {
            files.push(found);
        }
    }
    files.sort();
    if files.is_empty() { Err(missing()) } else { Ok(SourceFiles::Glob { base: root.join(base), files }) }
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The folders of a glob before its first part with a wildcard.
fn fixed_folders(path: &str) -> PathBuf {
    let fixed = |c: &Component| !is_glob(&c.as_os_str().to_string_lossy());
    Path::new(path).components().take_while(fixed).collect()
}
