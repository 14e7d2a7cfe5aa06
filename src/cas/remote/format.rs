//! The format of a remote, and whether it can be used as it is meant to be.
//!
//! Purpose: the object `format`, and an object that is written, read and removed as a test.
//! Invariant: nothing else of a remote with another format is used.
//! Must not know: what is in a remote.

use object_store::{ObjectStoreExt, PutPayload};

use super::error::{RemoteError, chain};
use super::object::Remote;
use crate::cas::stat;

/// The format of a remote, which stands in its object `format`.
const REMOTE_FORMAT: &str = "kiln.remote/1";
/// The most bytes of the object `format`.
const MOST_FORMAT_BYTES: u64 = 1024;

impl Remote {
    /// Makes sure that the remote has our format, and writes it down where there is none.
    ///
    /// # Errors
    /// It has a newer one; a request failed.
    pub async fn prepare(&self) -> Result<(), RemoteError> {
        self.known.get_or_try_init(|| self.check_format()).await.copied()
    }

    async fn check_format(&self) -> Result<(), RemoteError> {
        let path = self.at(&["format"]);
        let found = self.small(&path, MOST_FORMAT_BYTES, "read its format").await?;
        match found.as_deref().map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()) {
            Some(found) if found == REMOTE_FORMAT => Ok(()),
            Some(found) => Err(RemoteError::NewerFormat { remote: self.name.clone(), found }),
            None if !self.access.writes() => Ok(()),
            None => {
                let put = self.store.put(&path, PutPayload::from_static(b"kiln.remote/1\n")).await;
                self.done("write its format", put)
            }
        }
    }

    /// Writes an object, reads it back where reading is allowed, and removes it.
    ///
    /// # Errors
    /// One of these fails, or other bytes come back.
    pub async fn probe(&self) -> Result<(), RemoteError> {
        let path = self.at(&["probes", &format!("{}-{:x}", std::process::id(), stat::now())]);
        let put = self.store.put(&path, PutPayload::from_static(b"probe")).await;
        self.done("write an object", put)?;
        let got = if self.access.reads() { self.small(&path, 16, "read an object").await? } else { None };
        let deleted = self.store.delete(&path).await;
        if self.access.reads() && got.as_deref() != Some(b"probe") {
            let (remote, what) = (self.name.clone(), "an object that was just written".to_owned());
            return Err(RemoteError::WrongBytes {
                remote,
                what,
                why: "it is another one, or missing".into(),
            });
        }
        // Who may not remove things can still share results.
        if let Err(error) = deleted {
            tracing::debug!("an object was not removed: {}", chain(&error));
        }
        Ok(())
    }
}
