//! Random damage to a store, and changes of times.
//!
//! Purpose: what disks, people and their tools do to files between two runs.
//! Invariant: nothing outside of the store is changed, but for times and inodes; damage says what it did.
//! Must not know: what is in the store.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fastrand::Rng;

use crate::project::Project;

/// Damages a store; says how, or nothing if there is nothing to damage.
pub fn damage(project: &Project, rng: &mut Rng) -> Option<String> {
    let store = project.store();
    let kind = rng.u8(..14);
    let of = |name: &str, rng: &mut Rng| pick(&files(&store.join(name)), rng);
    match kind {
        0 | 1 => remove(&of("blobs", rng)?),
        2 => truncate(&of("blobs", rng)?, rng),
        3..=5 => flip(&of("blobs", rng)?, rng, kind == 3),
        6 | 7 => remove(&of("actions", rng)?),
        8 => flip(&of("actions", rng)?, rng, false),
        9 => remove_all(&pick(&checkpoints(&store), rng)?),
        10 => remove(&store.join("cache/stat")),
        11 => flip(&store.join("cache/stat"), rng, false),
        12 => remove_all(&store.join(["out", "view", "runs"][rng.usize(..3)])),
        _ => truncate(&of("runs", rng)?, rng),
    }
}

/// Gives a file another inode or other times; its bytes stay.
pub fn touch(path: &Path, rng: &mut Rng) -> Option<String> {
    if rng.bool() {
        File::options().write(true).open(path).ok()?.set_modified(SystemTime::now()).ok()?;
        return Some(format!("touch {}", path.display()));
    }
    let copy = path.with_extension("copy~");
    fs::copy(path, &copy).ok()?;
    fs::rename(&copy, path).ok()?;
    Some(format!("replace {} by a copy", path.display()))
}

/// All files below a folder, in a fixed order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            found.extend(files(&path));
        } else if meta.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn checkpoints(store: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = below(store.join("work"))
        .flat_map(below)
        .map(|path| path.join("checkpoint"))
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    found
}

fn pick(paths: &[PathBuf], rng: &mut Rng) -> Option<PathBuf> {
    (!paths.is_empty()).then(|| paths[rng.usize(..paths.len())].clone())
}

fn remove(path: &Path) -> Option<String> {
    fs::remove_file(path).ok()?;
    Some(format!("remove {}", path.display()))
}

fn remove_all(path: &Path) -> Option<String> {
    fs::remove_dir_all(path).ok()?;
    Some(format!("remove {}", path.display()))
}

fn truncate(path: &Path, rng: &mut Rng) -> Option<String> {
    let mut bytes = fs::read(path).ok()?;
    bytes.truncate(rng.usize(..bytes.len().max(1)));
    rewrite(path, &bytes, false)?;
    Some(format!("cut {} to {} bytes", path.display(), bytes.len()))
}

/// Changes a bit; `quietly` keeps the time of modification.
fn flip(path: &Path, rng: &mut Rng, quietly: bool) -> Option<String> {
    let mut bytes = fs::read(path).ok()?;
    let at = rng.usize(..bytes.len().max(1));
    *bytes.get_mut(at)? ^= 1 << rng.u8(..8);
    rewrite(path, &bytes, quietly)?;
    Some(format!("flip a bit of byte {at} of {} (time kept: {quietly})", path.display()))
}

/// Writes other bytes into the same inode.
pub fn rewrite(path: &Path, bytes: &[u8], quietly: bool) -> Option<()> {
    let meta = fs::metadata(path).ok()?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).ok()?;
    fs::write(path, bytes).ok()?;
    if quietly {
        let times = FileTimes::new().set_modified(meta.modified().ok()?);
        File::options().write(true).open(path).ok()?.set_times(times).ok()?;
    }
    fs::set_permissions(path, meta.permissions()).ok()
}
