//! One remote and its layout.
//!
//! Purpose: `format`, `actions/KEY` and `blobs/DIGEST` in an object store: read and written one by one.
//! Invariant: an action that is given has the key that was asked for; the caller verifies the bytes of blobs. An
//! action is created only where there is none.
//! Must not know: the local store, other remotes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use object_store::{Error, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::address::Address;
use super::error::RemoteError;
use super::health::Health;
use super::packs::Sender;
use crate::cas::local::{MOST_ACTION_BYTES, parse_action, spell_action};
use crate::cas::trust::TrustPolicy;
use crate::cas::types::Action;
use crate::cas::unpoisoned;
use crate::digest::Digest;

/// A server from which nothing comes for so long is passed over.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// The bytes of an object as they come.
pub(super) type Body = BoxStream<'static, object_store::Result<Bytes>>;

/// What a remote is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Results are taken from it.
    Read,
    /// Results are sent to it.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// Whether results are taken from it.
    pub fn reads(self) -> bool {
        self != Self::Write
    }

    /// Whether results are sent to it.
    pub fn writes(self) -> bool {
        self != Self::Read
    }
}

/// A store elsewhere.
#[derive(Debug)]
pub struct Remote {
    /// Its name, for people.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// What it is used for.
    pub access: Access,
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    /// The bytes that were sent and received.
    pub(super) moved: Arc<AtomicU64>,
    /// How packs are sent to it.
    pub(super) sender: Sender,
    /// How its requests went.
    pub(super) health: Health,
    /// Whether runners ask it for leases.
    leases: bool,
    /// Whether its format was looked at and is ours.
    pub(super) known: tokio::sync::OnceCell<()>,
    /// The blobs that were found to have other bytes.
    pub(super) damaged: Mutex<HashSet<Digest>>,
}

/// What became of an action that was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Sent {
    /// The remote had none for this key.
    New,
    /// It has the same outputs already.
    Same,
    /// It has other outputs.
    Conflict(Box<Action>),
}

impl Remote {
    /// Opens a remote. No request is made.
    ///
    /// # Errors
    /// Something in the environment is missing or wrong.
    pub fn open(name: &str, address: Address, access: Access) -> Result<Self, RemoteError> {
        let opened = address.open(access.writes());
        let (store, prefix) = opened.map_err(|why| RemoteError::Open { remote: name.to_owned(), why })?;
        let access = if address.is_read_only() { Access::Read } else { access };
        Ok(Self::with(name, address, access, store, prefix))
    }

    /// A remote in this object store, below this prefix.
    pub(super) fn with(
        name: &str,
        address: Address,
        access: Access,
        store: Arc<dyn ObjectStore>,
        prefix: ObjectPath,
    ) -> Self {
        Self {
            name: name.to_owned(),
            address,
            access,
            store,
            prefix,
            moved: Arc::default(),
            sender: Sender::default(),
            health: Health::default(),
            leases: true,
            known: tokio::sync::OnceCell::new(),
            damaged: Mutex::default(),
        }
    }

    /// The same one, but nobody asks it for leases.
    #[must_use]
    pub fn without_leases(self) -> Self {
        Self { leases: false, ..self }
    }

    /// Whether it is a folder of this machine, or one that is mounted.
    pub(super) fn is_folder(&self) -> bool {
        self.address.file(&self.prefix).is_some()
    }

    /// Whether runners ask it for leases: those who wait for a result must be able to read it.
    pub(super) fn has_leases(&self) -> bool {
        self.leases && self.access == Access::ReadWrite && !self.health.is_without_leases()
    }

    /// The action of a key; none when it has none that can be used.
    ///
    /// # Errors
    /// A request failed, or the remote has a newer format.
    pub async fn action(&self, key: &Digest) -> Result<Option<Action>, RemoteError> {
        Ok(self.action_object(key).await?.map(|(action, _)| action))
    }

    /// The action of a key, and what is known of its object.
    pub(super) async fn action_object(
        &self,
        key: &Digest,
    ) -> Result<Option<(Action, ObjectMeta)>, RemoteError> {
        let path = self.place("actions", key);
        let read = self.small_object(&path, MOST_ACTION_BYTES, "read an action").await?;
        let Some((meta, bytes)) = read else { return Ok(None) };
        match parse_action(&bytes, key) {
            Ok(action) => Ok(Some((action, meta))),
            Err(why) => {
                let (remote, what) = (self.name.clone(), format!("the action {}", key.short()));
                Err(RemoteError::WrongBytes { remote, what, why })
            }
        }
    }

    /// The bytes of a blob as they come, with their number; none when it has none. They are for the caller to verify.
    ///
    /// # Errors
    /// The request failed. The stream may fail later.
    pub(super) async fn blob(&self, digest: &Digest) -> Result<Option<(u64, Body)>, RemoteError> {
        let got = self.get(&self.place("blobs", digest), "read a blob").await?;
        Ok(got.map(|result| (result.meta.size, result.into_stream())))
    }

    /// Remembers that a blob has other bytes, so that it is sent again when it can be.
    pub fn note_damage(&self, digest: &Digest) {
        unpoisoned(&self.damaged).insert(*digest);
    }

    /// What is known of an object without reading it; none when it has none, or one that is known to be damaged.
    ///
    /// # Errors
    /// The request failed.
    pub(super) async fn has(&self, kind: &str, digest: &Digest) -> Result<Option<ObjectMeta>, RemoteError> {
        if unpoisoned(&self.damaged).contains(digest) {
            return Ok(None);
        }
        let head = self.store.head(&self.place(kind, digest)).await;
        self.noted("look for an object", head)
    }

    /// All objects of a folder, and not those of folders in it.
    ///
    /// # Errors
    /// A request failed; `Denied` when the credentials allow no listing.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<ObjectMeta>, RemoteError> {
        let mut all = Vec::new();
        let folder = self.at(&[folder]);
        self.each_object(&folder, |meta| {
            let depth = meta.location.prefix_match(&folder).map(Iterator::count);
            all.extend((depth == Some(1)).then_some(meta));
        })
        .await?;
        Ok(all)
    }

    /// Sends a small blob.
    ///
    /// # Errors
    /// The request failed.
    pub async fn put_blob(&self, digest: &Digest, bytes: Bytes) -> Result<(), RemoteError> {
        let length = bytes.len();
        let put = self.store.put(&self.place("blobs", digest), PutPayload::from_bytes(bytes)).await;
        self.done("write a blob", put).inspect(|()| self.count_moved(length))
    }

    /// Sends an action, whose outputs are there, if there is none for its key; with `replace` even if there is one.
    /// None when `is_sure` says, right before something is written, that the outputs may be gone again.
    ///
    /// # Errors
    /// A request failed.
    pub async fn put_action(
        &self,
        action: &Action,
        replace: bool,
        trust: &TrustPolicy,
        is_sure: impl Fn() -> bool,
    ) -> Result<Option<Sent>, RemoteError> {
        let path = self.place("actions", &action.key);
        let spelt = spell_action(action).map_err(|e| RemoteError::Request {
            remote: self.name.clone(),
            what: "write an action".into(),
            why: e.to_string(),
        })?;
        let bytes = Bytes::from(spelt);
        let mode = if replace { PutMode::Overwrite } else { PutMode::Create };
        if !is_sure() {
            return Ok(None);
        }
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), mode.into());
        match self.in_time("write an action", put).await? {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            // Not every server knows conditions, and not every file system hard links. Of two who send other results at
            // the same time the last one wins there.
            Err(error) if !replace => match self.store.head(&path).await {
                Ok(_) => {}
                Err(Error::NotFound { .. }) if is_sure() => {
                    return self.overwrite(&path, bytes).await.map(Some);
                }
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(_) => return Err(self.write_failed("write an action", &error)),
            },
            put => return self.done("write an action", put).map(|()| Some(Sent::New)),
        }
        // Somebody was first, or an answer to us was lost.
        match self.action_object(&action.key).await {
            Ok(Some((known, object))) if trust.is_as_good(&known, action) => {
                self.renew_old(object).await;
                Ok(Some(Sent::Same))
            }
            Ok(Some((known, _))) if trust.accepts(&known) && known.outputs != action.outputs => {
                Ok(Some(Sent::Conflict(Box::new(known))))
            }
            // What does not count, or cannot be used, gives way.
            Ok(_) | Err(RemoteError::WrongBytes { .. }) if !is_sure() => Ok(None),
            Ok(_) | Err(RemoteError::WrongBytes { .. }) => self.overwrite(&path, bytes).await.map(Some),
            Err(error) => Err(error),
        }
    }

    async fn overwrite(&self, path: &ObjectPath, bytes: Bytes) -> Result<Sent, RemoteError> {
        let put = self.store.put(path, PutPayload::from_bytes(bytes));
        let put = self.in_time("write an action", put).await?;
        self.done("write an action", put).map(|()| Sent::New)
    }

    pub(super) fn place(&self, kind: &str, digest: &Digest) -> ObjectPath {
        self.at(&[kind, &digest.to_string()])
    }

    /// The path of an object below the prefix.
    pub(super) fn at(&self, parts: &[&str]) -> ObjectPath {
        parts.iter().fold(self.prefix.clone(), |path, part| path.join(*part))
    }

    async fn get(&self, path: &ObjectPath, what: &str) -> Result<Option<GetResult>, RemoteError> {
        self.check_alive()?;
        let got = self.store.get(path).await;
        self.noted(what, got)
    }

    /// A whole object of no more than `most` bytes.
    pub(super) async fn small(
        &self,
        path: &ObjectPath,
        most: u64,
        what: &str,
    ) -> Result<Option<Bytes>, RemoteError> {
        Ok(self.small_object(path, most, what).await?.map(|(_, bytes)| bytes))
    }

    async fn small_object(
        &self,
        path: &ObjectPath,
        most: u64,
        what: &str,
    ) -> Result<Option<(ObjectMeta, Bytes)>, RemoteError> {
        let Some(got) = self.get(path, what).await? else { return Ok(None) };
        let meta = got.meta.clone();
        let too_large = |size| RemoteError::WrongBytes {
            remote: self.name.clone(),
            what: path.to_string(),
            why: format!("it has {size} bytes, and no more than {most} are allowed"),
        };
        if got.meta.size > most {
            return Err(too_large(got.meta.size));
        }
        let (mut bytes, mut stream) = (Vec::new(), got.into_stream());
        while let Some(chunk) = self.next(&mut stream, what).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > most {
                return Err(too_large(bytes.len() as u64));
            }
        }
        Ok(Some((meta, bytes.into())))
    }

    /// Counts bytes that were moved.
    pub(super) fn count_moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The next bytes of a body; none at its end. However slow they come, something must come now and then.
    pub(super) async fn next(&self, body: &mut Body, what: &str) -> Result<Option<Bytes>, RemoteError> {
        match tokio::time::timeout(SILENCE, body.next()).await {
            Ok(next) => {
                let next = next.transpose().map_err(|error| self.failed(what, &error))?;
                self.count_moved(next.as_ref().map_or(0, Bytes::len));
                Ok(next)
            }
            Err(_) => Err(self.silent(what, SILENCE)),
        }
    }
}
