//! Whether a store is in use.
//!
//! Purpose: any number of runners share a store; whoever removes things from it has it alone.
//! Invariant: while a [`StoreUse`] of one kind lives, there is none of the other kind; a killed process holds nothing.
//! Must not know: what is done meanwhile.

use std::fs::{File, TryLockError};
use std::path::PathBuf;

use crate::cas::{During, Store, StoreError};

/// The use of a store; dropping it ends it.
pub struct StoreUse {
    _file: File,
}

impl Store {
    /// Uses the store together with others. Waits for somebody who has it alone, which is never for long.
    ///
    /// # Errors
    /// The file of the lock cannot be opened, or the file system has no locks.
    pub fn share(&self) -> Result<StoreUse, StoreError> {
        let (file, path) = self.use_file()?;
        file.lock_shared().during("lock", &path)?;
        Ok(StoreUse { _file: file })
    }

    /// Uses the store together with others, if it is there: what is planned from it stays in it until this is dropped.
    ///
    /// # Errors
    /// As [`Self::share`].
    pub fn share_if_there(&self) -> Result<Option<StoreUse>, StoreError> {
        match self.root().join("format").exists() {
            true => self.share().map(Some),
            false => Ok(None),
        }
    }

    /// Has the store alone; none while others use it.
    ///
    /// # Errors
    /// The file of the lock cannot be opened, or the file system has no locks.
    pub fn own(&self) -> Result<Option<StoreUse>, StoreError> {
        let (file, path) = self.use_file()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            locked => locked.during("lock", &path).map(|()| Some(StoreUse { _file: file })),
        }
    }

    /// The file of the store's format is there in every store that was prepared, and stays the same file.
    fn use_file(&self) -> Result<(File, PathBuf), StoreError> {
        self.prepare()?;
        let path = self.root().join("format");
        let file = File::open(&path).during("open the lock", &path)?;
        Ok((file, path))
    }
}
