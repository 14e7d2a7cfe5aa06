//! What any store of blobs and any store of actions can do.
//!
//! Purpose: the small traits behind which the local store stands, and a remote and a tiered one can.
//! Invariant: everything is a point read or a point write, but for `list`, which only the cleaning of a store needs.
//! Must not know: files of the local store, pipelines, plans.

use std::io::Read;
use std::path::Path;

use super::error::StoreError;
use super::types::Action;
use crate::digest::Digest;

/// Bytes named by their digest.
pub trait BlobStore: Send + Sync {
    /// The size of a blob that is there; none when it is missing.
    ///
    /// # Errors
    /// The store cannot be asked.
    fn exists(&self, digest: &Digest) -> Result<Option<u64>, StoreError>;

    /// Opens a blob to be read; none when it is missing. The reader's bytes are for the caller to verify.
    ///
    /// # Errors
    /// The store cannot be asked.
    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, StoreError>;

    /// Keeps the bytes of a file, which stays as it is; to keep what is there already is well and costs little.
    ///
    /// # Errors
    /// The file does not have this digest, or the store refuses.
    fn put(&self, digest: &Digest, file: &Path) -> Result<(), StoreError>;

    /// Gives the digest of every blob, in no order.
    ///
    /// # Errors
    /// The store cannot be read, or `each` fails.
    fn list(&self, each: &mut dyn FnMut(Digest) -> Result<(), StoreError>) -> Result<(), StoreError>;
}

/// Actions named by their key.
pub trait ActionCache: Send + Sync {
    /// The action of a key; none when it is unknown or cannot be used.
    ///
    /// # Errors
    /// The store cannot be asked.
    fn get(&self, key: &Digest) -> Result<Option<Action>, StoreError>;

    /// Keeps an action if its key has none yet; false when there is one, which stays. The caller has seen to
    /// it that the outputs are kept.
    ///
    /// # Errors
    /// The action breaks a rule, or the store refuses.
    fn put(&self, action: &Action) -> Result<bool, StoreError>;

    /// Gives the key of every action, in no order.
    ///
    /// # Errors
    /// The store cannot be read, or `each` fails.
    fn list(&self, each: &mut dyn FnMut(Digest) -> Result<(), StoreError>) -> Result<(), StoreError>;
}
