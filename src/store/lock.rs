//! One runner at a time for each action.
//!
//! Purpose: a lock per action key that ends with the processes that hold it, and tells who they are.
//! Invariant: while a `KeyLock` lives, or a process that inherited it, nobody else has the lock of that
//! key; a killed holder holds nothing.
//! Must not know: what is done under a lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::error::{During, StoreError};
use super::store::Store;
use crate::digest::Digest;

/// How often a waiting runner looks again.
const PAUSE: Duration = Duration::from_millis(50);

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
#[derive(Debug)]
pub enum Lock {
    /// It is ours.
    Taken(KeyLock),
    /// Someone has it.
    HeldBy(Holder),
}

/// The lock of an action key; dropping it gives it back.
#[derive(Debug)]
pub struct KeyLock {
    file: File,
    path: PathBuf,
}

impl Store {
    /// Takes the lock of a key for a stage, if it is free.
    ///
    /// # Errors
    /// When the lock file cannot be made or the disk knows no locks.
    pub fn try_lock(&self, key: &Digest, stage: &str) -> Result<Lock, StoreError> {
        let folder = self.root().join("work/locks");
        self.disk.make_folder(&folder).during("make", &folder)?;
        let path = folder.join(key.to_string());
        loop {
            let mut options = OpenOptions::new();
            let options = options.create(true).read(true).write(true).truncate(false);
            let mut file = options.open(&path).during("open the lock", &path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(Lock::HeldBy(holder(&mut file))),
                locked => locked.during("lock", &path)?,
            }
            // The one before us removed the file while we opened it: ours locks nothing.
            if !is_at(&file, &path) {
                continue;
            }
            sign(&mut file, stage).during("write the lock", &path)?;
            return Ok(Lock::Taken(KeyLock { file, path }));
        }
    }

    /// Waits for the lock of a key. Whenever someone else has it, `keep_waiting` is told who, and may end
    /// the wait; then there is none.
    ///
    /// # Errors
    /// As `try_lock`.
    pub fn lock(
        &self,
        key: &Digest,
        stage: &str,
        mut keep_waiting: impl FnMut(&Holder) -> bool,
    ) -> Result<Option<KeyLock>, StoreError> {
        loop {
            match self.try_lock(key, stage)? {
                Lock::Taken(lock) => return Ok(Some(lock)),
                Lock::HeldBy(holder) if !keep_waiting(&holder) => return Ok(None),
                Lock::HeldBy(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl KeyLock {
    /// Calls `spawn`; the processes it starts keep the lock too, so that it outlives a killed runner for
    /// as long as its orphan works.
    ///
    /// A process that another thread starts meanwhile may keep it as well. That is seen only when this
    /// runner is killed: then the lock is free when that orphan ends, too.
    pub fn inherited_by<R>(&self, spawn: impl FnOnce() -> R) -> R {
        // Both cannot fail on an open descriptor; at worst the child does not hold the lock.
        let _ = fcntl_setfd(&self.file, FdFlags::empty());
        let result = spawn();
        let _ = fcntl_setfd(&self.file, FdFlags::CLOEXEC);
        result
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
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

fn sign(file: &mut File, stage: &str) -> io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        stage: stage.to_owned(),
        since: format!("{:.0}", jiff::Timestamp::now()),
    };
    file.set_len(0)?;
    file.write_all(serde_json::to_string(&holder)?.as_bytes())
}

/// Who signed the lock file; nobody, if the one who took it has not got round to it.
fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(64 * 1024).read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}
