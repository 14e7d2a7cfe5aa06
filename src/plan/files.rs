//! The files that a path or a glob stands for.
//!
//! Purpose: the path of a source -> one file or folder, or the files of a glob; an entry of `uses` -> every
//! single file.
//! Invariant: what exists as it is written is no glob. The files of a glob come sorted by path, hidden ones
//! only where the glob names the dot; their names in the artifact start after the glob's fixed folders.
//! What the ignore rules name is left out below a folder or a wildcard, never where it is named itself.
//! Must not know: digests, what is cached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::cas::Ignore;

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

/// Why files cannot be found.
#[derive(Debug)]
pub enum FilesError {
    /// There is no such file.
    Missing,
    /// The glob is none.
    BadGlob(String),
    /// A place on the way cannot be read.
    Unreadable(String),
}

/// Finds what the path of a source stands for.
pub fn source_files(root: &Path, written: &str, ignore: &Ignore) -> Result<SourceFiles, FilesError> {
    let path = root.join(written);
    if path.exists() {
        return Ok(SourceFiles::Path(path));
    }
    if !is_glob(written) {
        return Err(FilesError::Missing);
    }
    let base = root.join(fixed_folders(written));
    let files: Vec<_> = walk_glob(root, written, ignore)?.into_iter().filter(|path| path.is_file()).collect();
    if files.is_empty() { Err(FilesError::Missing) } else { Ok(SourceFiles::Glob { base, files }) }
}

/// Finds every single file that an entry of `uses` stands for, by its path relative to the root; a file
/// outside of the root by its whole path. A folder and a list of its files give the same.
pub fn used_files(
    root: &Path,
    written: &str,
    ignore: &Ignore,
) -> Result<BTreeMap<String, PathBuf>, FilesError> {
    let path = root.join(written);
    let tops = if path.exists() {
        vec![path]
    } else if is_glob(written) {
        walk_glob(root, written, ignore)?
    } else {
        return Err(FilesError::Missing);
    };
    let mut files = Vec::new();
    for path in &tops {
        below(path, ignore, &mut BTreeSet::new(), &mut files)
            .map_err(|(at, e)| FilesError::Unreadable(format!("{}: {e}", at.display())))?;
    }
    if tops.is_empty() {
        return Err(FilesError::Missing);
    }
    files.into_iter().map(|file| Ok((name(root, &file)?, file))).collect()
}

/// Whether an entry of `uses` is where a file comes from, for pointing at it.
pub fn names_file(written: &str, file: &str) -> bool {
    let written = normal(written);
    let folder = written.is_empty() || file.strip_prefix(&written).is_some_and(|rest| rest.starts_with('/'));
    file == written
        || folder
        || Pattern::new(&written).is_ok_and(|pattern| {
            // A glob may name the folder above the file.
            Path::new(file).ancestors().any(|path| pattern.matches_path_with(path, options()))
        })
}

/// Adds a file, or each file below a folder; links are followed, a folder that is its own ancestor is not.
fn below(
    path: &Path,
    ignore: &Ignore,
    ancestors: &mut BTreeSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, io::Error)> {
    let fail = |e| (path.to_owned(), e);
    if !fs::metadata(path).map_err(fail)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let real = fs::canonicalize(path).map_err(fail)?;
    if !ancestors.insert(real.clone()) {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if !ignore.is_ignored(&path, path.is_dir()) {
            below(&path, ignore, ancestors, files)?;
        }
    }
    ancestors.remove(&real);
    Ok(())
}

/// What a glob matches, sorted, without what the rules name below its fixed folders.
fn walk_glob(root: &Path, written: &str, ignore: &Ignore) -> Result<Vec<PathBuf>, FilesError> {
    // Only the user's part is a pattern; joining keeps an absolute one as it is.
    let mut pattern = Path::new(&Pattern::escape(&root.to_string_lossy())).join(written);
    if pattern.ends_with("**") {
        // The library gives folders alone here; people mean what is in them.
        pattern.push("*");
    }
    let walk = glob::glob_with(&pattern.to_string_lossy(), options())
        .map_err(|e| FilesError::BadGlob(e.to_string()))?;
    let mut found = walk.collect::<Result<Vec<_>, _>>().map_err(|e| FilesError::Unreadable(e.to_string()))?;
    let base = root.join(fixed_folders(written));
    found.retain(|path| {
        let mut parts = path.ancestors().take_while(|part| *part != base);
        !parts.any(|part| ignore.is_ignored(part, part != path || part.is_dir()))
    });
    found.sort();
    Ok(found)
}

fn options() -> MatchOptions {
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true }
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The folders of a glob before its first part with a wildcard.
fn fixed_folders(path: &str) -> PathBuf {
    let fixed = |c: &Component| !is_glob(&c.as_os_str().to_string_lossy());
    Path::new(path).components().take_while(fixed).collect()
}

/// The name of a used file in a key: relative to the root, `/` between parts, one spelling a place.
fn name(root: &Path, file: &Path) -> Result<String, FilesError> {
    let relative = file.strip_prefix(root).unwrap_or(file);
    // Two such names could be one in a key.
    let text = relative.to_str().ok_or_else(|| FilesError::Unreadable(format!("{relative:?}: not UTF-8")))?;
    Ok(normal(text))
}

/// A path without `.` and doubled slashes.
fn normal(path: &str) -> String {
    let parts = Path::new(path).components().filter(|c| *c != Component::CurDir);
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}
