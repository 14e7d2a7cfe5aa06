//! The format of a remote, and whether it can be used as it is meant to be.
//!
//! Purpose: the object `format`, and an object that is written, read and removed as a test.
//! Invariant: nothing else of a remote with another format is used.
//! Must not know: what is in a remote.

use std::sync::{Arc, Mutex};

use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload};

use super::claims::COLLECTORS;
use super::error::{RemoteError, chain};
use super::object::Remote;
use crate::cas::stat;
use crate::digest::Digest;

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
        if self.look_at_format().await? || !self.access.writes() {
            return Ok(());
        }
        let put = self.store.put(&self.at(&["format"]), PutPayload::from_static(b"kiln.remote/1\n")).await;
        self.done("write its format", put)
    }

    /// Whether the remote has our format; false when it has none. Nothing is written.
    ///
    /// # Errors
    /// It has a newer one; a request failed.
    pub(super) async fn look_at_format(&self) -> Result<bool, RemoteError> {
        let found = self.small(&self.at(&["format"]), MOST_FORMAT_BYTES, "read its format").await?;
        match found.as_deref().map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()) {
            Some(found) if found == REMOTE_FORMAT => Ok(true),
            Some(found) => Err(RemoteError::NewerFormat { remote: self.name.clone(), found }),
            None => Ok(false),
        }
    }

    /// Writes an object, reads it back where reading is allowed, and removes it. Gives what else it cannot do, for people:
    /// results can be shared without it.
    ///
    /// # Errors
    /// One of these fails, or other bytes come back.
    pub async fn probe(self: &Arc<Self>) -> Result<Vec<String>, RemoteError> {
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
        let mut lacks = Vec::new();
        if let Err(error) = deleted {
            lacks.push(format!("objects cannot be removed, so that garbage stays: {}", chain(&error)));
        }
        if let Err(why) = self.try_conditions(&path).await {
            lacks.push(format!(
                "objects cannot be created on condition that there are none, so that of two who send other results for one \
                 stage at the same time the last one wins: {why}"
            ));
        }
        if let Err(error) = self.list(COLLECTORS).await {
            lacks.push(format!(
                "objects cannot be listed, which `kiln gc --remote` and `kiln remote du` need: {error}"
            ));
        }
        if self.has_leases()
            && let Err(error) = self.try_lease(&path).await
        {
            lacks.push(format!(
                "there are no leases, so that two may run one stage at the same time: {error}"
            ));
        }
        Ok(lacks)
    }

    /// Takes a lease and gives it back.
    async fn try_lease(self: &Arc<Self>, path: &ObjectPath) -> Result<(), RemoteError> {
        let key = Digest::of_bytes(path.as_ref().as_bytes());
        let (claim, given_back) = self.claim(&key, "kiln remote check", &Mutex::default()).await?;
        drop(claim);
        if let Some(given_back) = given_back {
            // It does not panic.
            let _ = given_back.await;
        }
        Ok(())
    }

    /// Creates an object twice: the second time there is one.
    async fn try_conditions(&self, path: &ObjectPath) -> Result<(), String> {
        let create = || self.store.put_opts(path, PutPayload::from_static(b"probe"), PutMode::Create.into());
        let (first, second) = (create().await, create().await);
        if let Err(error) = self.store.delete(path).await {
            tracing::debug!("an object was not removed: {}", chain(&error));
        }
        match (first, second) {
            (Err(error), _) => Err(chain(&error)),
            (Ok(_), Err(Error::AlreadyExists { .. } | Error::Precondition { .. })) => Ok(()),
            (Ok(_), Err(error)) => Err(chain(&error)),
            (Ok(_), Ok(_)) => Err("the condition was ignored".to_owned()),
        }
    }
}
