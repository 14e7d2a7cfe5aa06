//! The files of a folder.
//!
//! Purpose: list what a folder holds as a tree will name it, refusing what a tree cannot hold.
//! Invariant: every path listed passed the rules of trees and leads to a plain file; the walk stays in
//! the folder, follows no link to a folder and ends.
//! Must not know: digests, the store.

use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use super::error::{During, StoreError};
use super::tree::{MOST_FILES, check_path};

/// Which links to files are taken for the files they lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// Those to files of the same folder.
    Inside,
    /// All.
    Anywhere,
}

/// A plain file, or a link to one.
pub(super) struct Found {
    /// As a tree names it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What the file system says of the file (not of the link).
    pub meta: Metadata,
    /// The file's real place when `path` is a link.
    pub target: Option<PathBuf>,
}

/// All files below `base`, in no order.
pub(super) fn walk(base: &Path, links: Links) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).during("list", &folder)? {
            let entry = entry.during("list", &folder)?;
            let path = entry.path();
            let meta = entry.metadata().during("look at", &path)?;
            if meta.is_dir() {
                // A folder's name is checked too: a bad one would be walked for nothing.
                name(base, &path)?;
                folders.push(path);
            } else if found.len() == MOST_FILES {
                let what = format!("the folder {}", base.display());
                return Err(StoreError::TooBig { what, limit: format!("{MOST_FILES} files") });
            } else {
                found.push(look(base, path, meta, links)?);
            }
        }
    }
    Ok(found)
}

/// The given files below `base`, each relative to it or beginning with it.
pub(super) fn among(base: &Path, files: &[PathBuf]) -> Result<Vec<Found>, StoreError> {
    let one = |file: &PathBuf| {
        let path = if file.starts_with(base) { file.clone() } else { base.join(file) };
        let meta = fs::symlink_metadata(&path).during("look at", &path)?;
        look(base, path, meta, Links::Inside)
    };
    files.iter().map(one).collect()
}

fn look(base: &Path, path: PathBuf, meta: Metadata, links: Links) -> Result<Found, StoreError> {
    let name = name(base, &path)?;
    if !meta.is_symlink() {
        plain(&path, &meta)?;
        return Ok(Found { name, path, meta, target: None });
    }
    let target = fs::canonicalize(&path).during("follow the link", &path)?;
    if links == Links::Inside {
        let real_base = fs::canonicalize(base).during("find", base)?;
        if !target.starts_with(real_base) {
            return Err(StoreError::LinkOut { path, target });
        }
    }
    let meta = fs::metadata(&target).during("look at", &target)?;
    if meta.is_dir() {
        return Err(StoreError::NotPlain { path, what: "a link to a folder" });
    }
    plain(&target, &meta)?;
    Ok(Found { name, path, meta, target: Some(target) })
}

/// Refuses what is no plain file.
pub(super) fn plain(path: &Path, meta: &Metadata) -> Result<(), StoreError> {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a link",
        () if kind.is_socket() => "a socket",
        () if kind.is_fifo() => "a pipe",
        () => "a device",
    };
    Err(StoreError::NotPlain { path: path.to_owned(), what })
}

/// The path of `path` in a tree of `base`.
fn name(base: &Path, path: &Path) -> Result<String, StoreError> {
    let bad = |why| StoreError::BadName { path: path.to_owned(), why };
    let below = path.strip_prefix(base).map_err(|_| bad("it is outside its folder"))?;
    let mut name = String::new();
    for part in below.components() {
        let Component::Normal(part) = part else { return Err(bad("its path is not normal")) };
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(part.to_str().ok_or_else(|| bad("its name is not UTF-8"))?);
    }
    check_path(&name).map_err(|_| bad("its path is too long or has a backslash"))?;
    Ok(name)
}
