//! Paths without symbolic links, and the links on the way.
//!
//! Purpose: a path inside of a hidden folder may lead through a link that is hidden too and must be made again.
//! Invariant: the resolved path has no link in it; each link is given by its own resolved path.
//! Must not know: what is hidden.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it lies, without links on the way.
    pub path: PathBuf,
    /// What it says.
    pub target: PathBuf,
}

/// Resolves an absolute path; gives the links on the way too.
pub(super) fn resolve(path: &Path) -> io::Result<(PathBuf, Vec<Link>)> {
    if !path.is_absolute() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute"));
    }
    let mut links = Vec::new();
    let mut resolved = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path).collect();
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&name);
        if !next.symlink_metadata()?.is_symlink() {
            resolved = next;
            continue;
        }
        if links.len() == MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = next.read_link()?;
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        for (i, name) in names(&target).enumerate() {
            rest.insert(i, name);
        }
        links.push(Link { path: next, target });
    }
    Ok((resolved, links))
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}
