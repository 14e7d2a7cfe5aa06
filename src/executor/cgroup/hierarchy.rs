//! Where the control groups of a process lie in the file system.
//!
//! Purpose: parse `/proc/self/mountinfo` and `/proc/self/cgroup`, and join them.
//! Invariant: pure; a folder that it gives is the mount point of the hierarchy or lies below it.
//! Must not know: what the files in those folders mean.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// The texts that say where our groups are.
#[derive(Debug, Clone, Default)]
pub(super) struct Hierarchies {
    mounts: Vec<Mount>,
    /// (controllers, path); version 2 has no controllers here.
    memberships: Vec<(Vec<String>, PathBuf)>,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    version_2: bool,
    /// Which group is at the mount point.
    root: PathBuf,
    point: PathBuf,
    /// Of version 1.
    controllers: Vec<String>,
}

impl Hierarchies {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    /// Parses the texts of `mountinfo` and `cgroup`.
    pub fn parse(mountinfo: &str, cgroup: &str) -> Self {
        Self {
            mounts: mountinfo.lines().filter_map(mount).collect(),
            memberships: cgroup.lines().filter_map(membership).collect(),
        }
    }

    /// The folder of our group of version 2, if it is visible here.
    pub fn unified(&self) -> Option<PathBuf> {
        let path = &self.memberships.iter().find(|(controllers, _)| controllers.is_empty())?.1;
        self.mounts.iter().filter(|mount| mount.version_2).find_map(|mount| mount.folder(path))
    }

    /// The folders of our group of version 2 and of its ancestors, the own one first.
    pub fn unified_chain(&self) -> Vec<PathBuf> {
        self.chain(|controllers| controllers.is_empty(), |mount| mount.version_2)
    }

    /// The same for the hierarchy of version 1 with this controller.
    pub fn controller_chain(&self, controller: &str) -> Vec<PathBuf> {
        let named = |names: &[String]| names.iter().any(|name| name == controller);
        self.chain(named, |mount| named(&mount.controllers))
    }

    fn chain(&self, ours: impl Fn(&[String]) -> bool, fits: impl Fn(&Mount) -> bool) -> Vec<PathBuf> {
        let Some((_, path)) = self.memberships.iter().find(|(controllers, _)| ours(controllers)) else {
            return Vec::new();
        };
        let mounts = || self.mounts.iter().filter(|mount| fits(mount));
        let whole = mounts()
            .filter_map(|mount| Some((mount, mount.folder(path)?)))
            .min_by_key(|(mount, _)| mount.root.components().count());
        match (whole, mounts().next()) {
            (Some((mount, folder)), _) => {
                let up = folder.ancestors().take_while(|folder| folder.starts_with(&mount.point));
                up.map(Path::to_path_buf).collect()
            }
            // In a container our path may be one of the host; what is mounted is then the nearest known ancestor.
            (None, Some(mount)) => vec![mount.point.clone()],
            (None, None) => Vec::new(),
        }
    }
}

impl Mount {
    /// Where the group with this path lies in this mount.
    fn folder(&self, group: &Path) -> Option<PathBuf> {
        let below = group.strip_prefix(&self.root).ok()?;
        let is_below = below.components().all(|part| matches!(part, Component::Normal(_)));
        is_below
            .then(|| if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }
}

/// `36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, point) = (unescape(before.next()?), unescape(before.next()?));
    let mut after = after.split(' ');
    let version_2 = match after.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let options = after.nth(1).unwrap_or_default();
    let controllers = if version_2 { Vec::new() } else { options.split(',').map(str::to_owned).collect() };
    Some(Mount { version_2, root, point, controllers })
}

/// `4:memory:/user.slice` or `0::/user.slice`
fn membership(line: &str) -> Option<(Vec<String>, PathBuf)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Some((controllers, path.into()))
}

/// Blanks and backslashes stand in `mountinfo` as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}
