//! The scratch folder of an action key.
//!
//! Purpose: where an attempt works, and what outlives it: the checkpoint, and outputs that could not be
//! collected.
//! Invariant: whoever writes here holds the lock of the key. The execution folder is new for each attempt.
//! Must not know: what a stage does in it.
//!
//! ```text
//! work/ab/cdef0123456789/
//!   run/           the execution folder of an attempt
//!   tmp/           TMPDIR of an attempt
//!   script         the script of a command
//!   request.json   the request to a provider
//!   manifest.json  what run/ held when it could not be collected
//!   checkpoint/    what a stage leaves for its next attempt
//!   key            the whole key, when the folder outlives its lock file
//!   metrics        the metrics file of the attempt that left the checkpoint
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cas::disk;

/// What outlives an attempt.
const KEPT: [&str; 3] = ["checkpoint", "key", "metrics"];
/// Checkpoints that nobody resumed for this long are removed.
const OLDEST_CHECKPOINT: Duration = Duration::from_secs(14 * 24 * 3600);

/// The scratch folder of a key.
#[derive(Debug, Clone)]
pub struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// The scratch folder at `root`, which may be missing.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The execution folder.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The folder for temporary files, which holds nothing of ours: many scripts empty it.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The script of a command.
    pub fn script(&self) -> PathBuf {
        self.root.join("script")
    }

    /// The request to a provider.
    pub fn request(&self) -> PathBuf {
        self.root.join("request.json")
    }

    /// What the execution folder held when its outputs could not be collected.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// The folder for checkpoints.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// The name of the metrics file of the attempt that left the checkpoint.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics")
    }

    /// True when an earlier attempt left a checkpoint.
    pub fn has_checkpoint(&self) -> bool {
        fs::read_dir(self.checkpoint()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes what is of no use to a later run: everything but a checkpoint.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn clear(&self) -> io::Result<()> {
        if self.has_checkpoint() { self.reset() } else { self.remove() }
    }

    /// Removes what an attempt must not see of the one before it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn reset(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if !KEPT.iter().any(|kept| entry.file_name() == *kept) {
                disk::remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self) -> io::Result<()> {
        disk::remove_tree(&self.root)
    }

    /// True when nobody has used the checkpoint for a long time.
    pub fn is_old(&self) -> bool {
        let modified = fs::metadata(self.checkpoint()).and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        age.is_none_or(|age| age > OLDEST_CHECKPOINT)
    }
}
