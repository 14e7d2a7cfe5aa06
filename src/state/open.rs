//! Opening a store.
//!
//! Purpose: put the store together with its records of stats, which it knows by a trait alone.
//! Invariant: opening writes nothing.
//! Must not know: what a store is opened for.

use std::path::Path;
use std::sync::Arc;

use super::history::History;
use super::stat_index::StatIndex;
use crate::cas::disk::{Disk, Os};
use crate::cas::{Store, StoreError};

impl Store {
    /// The store in folder `root`, which is made when there is something to keep.
    ///
    /// # Errors
    /// When `root` is empty or the working folder is gone.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::on_disk(root, Arc::new(Os::default()))
    }

    pub(crate) fn on_disk(root: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        Self::with(root, disk, |root| Box::new(StatIndex::new(&root.join("cache/stat"))))
    }

    /// The runs of this store.
    pub fn history(&self) -> History<'_> {
        History::of(self)
    }
}
