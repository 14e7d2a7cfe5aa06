//! Paths on their way into a tree.
//!
//! Purpose: give the path that a file has in a tree, judge where a link leads, and refuse what cannot be kept.
//! Invariant: a name or target given here passes the rules of trees.
//! Must not know: digests, the store.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Component, Path};

use super::error::StoreError;
use super::tree::{check_path, check_target};

/// The path of `path` in a tree of `base`.
pub(super) fn name_below(base: &Path, path: &Path) -> Result<String, StoreError> {
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
    check_path(&name).map_err(|_| bad("its path is too long or too deep, or has a backslash"))?;
    Ok(name)
}

/// Joins a path of a tree and a path below it.
pub(super) fn join(above: &str, below: &str) -> String {
    if above.is_empty() { below.to_owned() } else { format!("{above}/{below}") }
}

/// The target of a relative link, in the form that a tree holds, if the link stays within `base` at every step.
/// `name` is the path of the link below `base`.
pub(super) fn target_within(base: &Path, name: &str, target: &Path) -> Option<String> {
    let mut above: Vec<&str> = name.split('/').collect();
    above.pop();
    let (mut climbs, mut names) = (0, Vec::new());
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => names.push(part.to_str()?),
            Component::ParentDir if names.is_empty() => {
                above.pop()?;
                climbs += 1;
            }
            Component::ParentDir => {
                // It can be left out with the name before it only if that is a folder and not a link to one.
                let folder = base.join(above.join("/")).join(names.join("/"));
                fs::symlink_metadata(folder).ok().filter(Metadata::is_dir)?;
                names.pop();
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let climbing = vec![".."; climbs];
    let normal = climbing.into_iter().chain(names).collect::<Vec<_>>().join("/");
    let normal = if normal.is_empty() { ".".to_owned() } else { normal };
    check_target(name, &normal).ok().map(|()| normal)
}

/// Refuses what is not a plain file.
pub(super) fn plain(path: &Path, meta: &Metadata) -> Result<(), StoreError> {
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

/// Whether its owner may execute it.
pub(super) fn executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o100 != 0
}
