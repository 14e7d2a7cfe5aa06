//! One runner at a time for each action.
//!
//! Purpose: a lock per action key that ends with the processes that hold it, and says who they are.
//! Invariant: while a `KeyLock` lives, or a process that inherited it, nobody else has the lock of that
//! key; a killed holder holds nothing.
//! Must not know: what is done under a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::cas::disk::{Disk, make_durable_folders};
use crate::cas::{During, Store, StoreError};
use crate::digest::Digest;

/// The most bytes of a lock file that are read.
const MOST_BYTES: u64 = 1 << 20;

/// Who holds a lock; the fields are empty for the moment in which a lock changes hands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// The stage it runs.
    pub stage: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "another runner"),
            pid => write!(f, "process {pid} on {} (stage {}, since {})", self.host, self.stage, self.since),
        }
    }
}

/// What came of asking for a lock.
pub enum Lock {
    /// It is ours.
    Acquired(KeyLock),
    /// Someone has it.
    HeldBy(Holder),
}

/// The lock of an action key; dropping it gives it back.
///
/// Its file says who has it, and is removed when the lock is given back. Whoever inherits the descriptor
/// keeps the lock too, so that it outlives a killed runner for as long as a process of the stage is alive.
pub struct KeyLock {
    disk: Arc<dyn Disk>,
    file: File,
    path: PathBuf,
}

impl Store {
    /// Takes the lock of a key for a stage, if it is free.
    ///
    /// # Errors
    /// When the lock file cannot be made or the file system has no locks.
    pub fn try_lock(&self, key: &Digest, stage: &str) -> Result<Lock, StoreError> {
        let path = self.lock_path(key);
        self.prepare()?;
        let (disk, folder) = (self.disk(), path.parent().unwrap_or(self.root()));
        make_durable_folders(&**disk, folder).during("make", folder)?;
        loop {
            let mut file = plain(disk.open_append(&path), &path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(Lock::HeldBy(holder(&text(&mut file)))),
                locked => locked.during("lock", &path)?,
            }
            // The one before us removed the file while we opened it: ours locks nothing.
            if !is_at(&file, &path) {
                continue;
            }
            // It says that a dead runner has it, which nobody may believe while we have it.
            if file.metadata().during("look at", &path)?.len() > 0 {
                disk.remove_file(&path).during("remove the lock of a dead runner", &path)?;
                continue;
            }
            let owner = record_of_owner(stage).during("write the lock", &path)?;
            // From here on the file is removed also when its first line cannot be written.
            let lock = KeyLock { disk: Arc::clone(disk), file, path };
            disk.append(&lock.file, owner.as_bytes()).during("write the lock", &lock.path)?;
            return Ok(Lock::Acquired(lock));
        }
    }

    /// Who has the lock of a key, if anybody has; nothing is taken and nothing written.
    ///
    /// # Errors
    /// When the lock file cannot be read or the file system has no locks.
    pub fn holder(&self, key: &Digest) -> Result<Option<Holder>, StoreError> {
        let path = self.lock_path(key);
        let mut file = match plain(to_read(&path), &path) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            file => file?,
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Ok(Some(holder(&text(&mut file)))),
            locked => locked.during("lock", &path).map(|()| None),
        }
    }

    /// Where the lock file of a key lies, while somebody holds the lock.
    pub fn lock_path(&self, key: &Digest) -> PathBuf {
        self.root().join("work/locks").join(key.to_string())
    }

    /// The keys that have a lock file, with the files.
    pub fn locks(&self) -> Vec<(Digest, PathBuf)> {
        let entries = fs::read_dir(self.root().join("work/locks")).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
    }
}

impl KeyLock {
    /// Its file, which whoever inherits the descriptor holds open.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for KeyLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Removed while it is held, and only if it is ours; whoever opened it meanwhile sees that it is gone.
        if is_at(&self.file, &self.path) {
            let _ = self.disk.remove_file(&self.path);
        }
    }
}

/// Opens a lock file to look at it.
fn to_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Refuses a lock that is not a plain file.
fn plain(file: io::Result<File>, path: &Path) -> Result<File, StoreError> {
    let file = file.during("open the lock", path)?;
    if file.metadata().during("look at", path)?.is_file() {
        return Ok(file);
    }
    Err(StoreError::NotPlain { path: path.to_owned(), what: "not a plain file" })
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// The line that says who owns a lock.
fn record_of_owner(stage: &str) -> io::Result<String> {
    let holder = Holder {
        pid: std::process::id(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        stage: stage.to_owned(),
        since: format!("{:.0}", jiff::Timestamp::now()),
    };
    Ok(format!("{}\n", serde_json::to_string(&holder)?))
}

/// Who owned it last; for a moment after it changed hands that is the one before, or nobody.
fn holder(text: &str) -> Holder {
    let owner = |line: &str| serde_json::from_str(line).ok().filter(|holder: &Holder| holder.pid != 0);
    text.lines().rev().find_map(owner).unwrap_or_default()
}

/// The lines of a lock file; those who write it do so by whole lines.
fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _ = file.take(MOST_BYTES).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
