//! Execution folders that are used again.
//!
//! Purpose: to make and to remove folders is the dearest thing in a short stage (on ext4 a new inode also
//! searches past those that were removed lately), so the empty folders of one stage serve the next one.
//! Invariant: a folder is used again only when nothing is left in it but the folders that every attempt has,
//! with the modes that they were made with.
//! Must not know: stages, keys.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::scratch::Scratch;
use super::supervise::descendants;
use crate::cas::disk;

/// The most folders that are kept.
const MOST: usize = 64;

/// The empty folders of one runner.
#[derive(Debug)]
pub struct Spares {
    folder: PathBuf,
    /// Without and with a folder for inputs.
    lists: Mutex<[Vec<PathBuf>; 2]>,
    next: AtomicU64,
}

impl Spares {
    /// None yet; they lie below `work`.
    pub fn new(work: &Path) -> Self {
        let folder = work.join("spare").join(std::process::id().to_string());
        Self { folder, lists: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Makes the execution folder of an attempt, of an old one where there is one. `inputs` says whether it
    /// has a folder for inputs.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn make(&self, scratch: &Scratch, inputs: bool) -> io::Result<()> {
        let spare = self.lists.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(inputs)].pop();
        if let Some(spare) = spare
            && scratch.root().parent().is_some_and(|shard| shard.is_dir() || fs::create_dir(shard).is_ok())
            && fs::rename(&spare, scratch.root()).is_ok()
        {
            return Ok(());
        }
        fs::create_dir_all(scratch.run().join("outputs"))?;
        if inputs {
            fs::create_dir(scratch.run().join("inputs"))?;
        }
        fs::create_dir_all(scratch.checkpoint())?;
        fs::create_dir(scratch.tmp())
    }

    /// Takes the folder of a stage that is done, if it is as good as new.
    pub fn give(&self, scratch: &Scratch) -> bool {
        let Some(inputs) = is_as_new(scratch) else { return false };
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let list = &mut lists[usize::from(inputs)];
        if list.len() == MOST {
            return false;
        }
        let spare = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let moved = fs::rename(scratch.root(), &spare);
        let moved = moved.or_else(|_| {
            fs::create_dir_all(&self.folder)?;
            fs::rename(scratch.root(), &spare)
        });
        if moved.is_ok() {
            list.push(spare);
        }
        moved.is_ok()
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        let _ = disk::remove_tree(&self.folder);
    }
}

/// Removes the folders of runners that died.
pub fn sweep(work: &Path) {
    for entry in fs::read_dir(work.join("spare")).into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if !pid.is_some_and(descendants::is_alive) {
            let _ = disk::remove_tree(&entry.path());
        }
    }
}

/// Empties the folder for inputs. When all that is left are the folders of a new attempt, says whether it has
/// a folder for inputs.
fn is_as_new(scratch: &Scratch) -> Option<bool> {
    let run = scratch.run();
    let (inputs, outputs) = (run.join("inputs"), run.join("outputs"));
    let mode = |path: &Path| {
        let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
        Some((meta.mode(), meta.uid(), meta.gid()))
    };
    let ours = mode(scratch.root())?;
    let is_ours = |path: &Path| mode(path) == Some(ours);
    let (tmp, checkpoint) = (scratch.tmp(), scratch.checkpoint());
    let empty = names(scratch.root()) == ["checkpoint", "run", "tmp"]
        && [&outputs, &tmp, &checkpoint].iter().all(|path| names(path).is_empty());
    if !empty || ![&run, &outputs, &tmp, &checkpoint].into_iter().all(|path| is_ours(path)) {
        return None;
    }
    let names = names(&run);
    if names == ["outputs"] {
        return Some(false);
    }
    (names == ["inputs", "outputs"] && is_ours(&inputs) && empty_folder(&inputs)).then_some(true)
}

fn empty_folder(folder: &Path) -> bool {
    names(folder).iter().all(|name| disk::remove_tree(&folder.join(name)).is_ok())
}

fn names(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_empty_folder_serves_again_and_one_with_anything_in_it_does_not() {
        let work = tempfile::tempdir().unwrap();
        let spares = Spares::new(work.path());
        let scratch = |name: &str| Scratch::at(work.path().join("ab").join(name));
        let first = scratch("first");
        spares.make(&first, true).unwrap();
        fs::write(first.run().join("inputs/i"), "x").unwrap();
        let inode = fs::metadata(first.run()).unwrap().ino();
        assert!(spares.give(&first) && !first.root().exists());
        let second = scratch("second");
        spares.make(&second, true).unwrap();
        assert_eq!(fs::metadata(second.run()).unwrap().ino(), inode);
        assert!(names(&second.run().join("inputs")).is_empty());
        for (left, name) in [
            ("run/left", "a"),
            ("tmp/123", "b"),
            ("run/outputs/more", "c"),
            ("checkpoint/x", "d"),
            ("key", "e"),
        ] {
            let scratch = scratch(name);
            spares.make(&scratch, false).unwrap();
            assert!(!scratch.run().join("inputs").exists());
            fs::write(scratch.root().join(left), "").unwrap();
            assert!(!spares.give(&scratch) && scratch.root().exists(), "{left}");
        }
        fs::set_permissions(second.run(), fs::Permissions::from_mode(0o500)).unwrap();
        assert!(!spares.give(&second));
        drop(spares);
        assert!(!work.path().join("spare").join(std::process::id().to_string()).exists());
    }
}
