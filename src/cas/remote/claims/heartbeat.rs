//! Objects that their owner refreshes while it is at work.
//!
//! Purpose: say that somebody is sending results, or collecting garbage, in a way that others can see even when the
//! owner has died: its object stands still then.
//! Invariant: no clock of one machine is compared with that of another one. An owner is dead when its object did not
//! change for [`STANDSTILL`] on the clock of whoever watches it; an owner acts only while it refreshed its object within
//! [`FRESH`], which is less.
//! Must not know: what the owner does.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload};
use tokio::time::{Instant, sleep};

use crate::cas::remote::error::RemoteError;
use crate::cas::remote::object::Remote;
use crate::cas::unpoisoned;

/// The objects of those who send results.
pub(in crate::cas::remote) const INTENTS: &str = "intents";
/// The objects of those who remove things.
pub(in crate::cas::remote) const COLLECTORS: &str = "collectors";
/// An owner that stood still for so long is dead.
pub(in crate::cas::remote) const STANDSTILL: Duration = Duration::from_secs(60);
/// How long ago an owner may have refreshed its object to act.
const FRESH: Duration = Duration::from_secs(30);
/// How long a request may be on its way that must not arrive when its owner has been taken for dead.
const IN_TIME: Duration = Duration::from_secs(25);
/// How often an owner refreshes its object.
const EVERY: Duration = Duration::from_secs(10);
/// What the refreshed object is called: its content may be large and is written once.
const BEAT: &str = ".beat";

/// An object of ours in a remote, and one beside it that changes as long as we live.
pub(in crate::cas::remote) struct Heartbeat<'a> {
    remote: &'a Remote,
    path: ObjectPath,
    beat: ObjectPath,
    refreshed: Mutex<Instant>,
    count: Mutex<u64>,
}

impl<'a> Heartbeat<'a> {
    /// Writes an object of ours into a folder of the remote.
    pub async fn begin(remote: &'a Remote, folder: &str, content: Bytes) -> Result<Self, RemoteError> {
        let id = format!("{:x}-{:016x}", std::process::id(), fastrand::u64(..));
        let (path, beat) = (remote.at(&[folder, &id]), remote.at(&[folder, &format!("{id}{BEAT}")]));
        let now = Instant::now();
        let put = remote.store.put(&path, PutPayload::from_bytes(content)).await;
        remote.done("say what it is about to do", put)?;
        Ok(Self { remote, path, beat, refreshed: Mutex::new(now), count: Mutex::new(0) })
    }

    /// Its object.
    pub fn path(&self) -> &ObjectPath {
        &self.path
    }

    /// Refreshes it for as long as this is polled. Once it is stale it stays so: others may have taken its owner for
    /// dead, and a later refresh does not undo what they did.
    pub async fn keep(&self) -> Infallible {
        loop {
            sleep(EVERY).await;
            if !self.is_fresh() {
                std::future::pending::<()>().await;
            }
            let now = Instant::now();
            let count = {
                let mut count = unpoisoned(&self.count);
                *count += 1;
                *count
            };
            let beat = PutPayload::from_bytes(count.to_string().into());
            if self.remote.store.put(&self.beat, beat).await.is_ok() && self.is_fresh() {
                *unpoisoned(&self.refreshed) = now;
            }
        }
    }

    /// Whether nobody can take the owner for dead yet.
    pub fn is_fresh(&self) -> bool {
        unpoisoned(&self.refreshed).elapsed() < FRESH
    }

    /// Removes it. What cannot be removed stands still, and a collector removes it.
    pub async fn end(self) {
        let beats = *unpoisoned(&self.count) > 0;
        for path in [Some(self.path), beats.then_some(self.beat)].into_iter().flatten() {
            if let Err(error) = self.remote.store.delete(&path).await {
                tracing::debug!("an object was not removed: {error}");
            }
        }
    }
}

impl Remote {
    /// A request that is given up when it may arrive too late.
    pub(in crate::cas::remote) async fn in_time<T>(
        &self,
        what: &str,
        request: impl Future<Output = T>,
    ) -> Result<T, RemoteError> {
        tokio::time::timeout(IN_TIME, request).await.map_err(|_| RemoteError::Request {
            remote: self.name.clone(),
            what: what.to_owned(),
            why: format!("there was no answer for {} s", IN_TIME.as_secs()),
        })
    }
}

/// Whether this is the name of something that is there for a time, such as `1f3a-00c0ffee00c0ffee`.
pub(in crate::cas::remote) fn is_id(name: Option<&str>) -> bool {
    let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    name.is_some_and(|name| name.split('-').count() <= 2 && name.split('-').all(is_hex))
}

/// One owner as others see it.
#[derive(Debug, Clone)]
pub(in crate::cas::remote) struct Owner {
    /// Its object, and the one that it refreshes.
    pub objects: Vec<ObjectMeta>,
    /// Whether it stood still for so long that it is dead.
    pub is_dead: bool,
}

/// The owners that were seen, and since when they stand still.
#[derive(Debug, Default)]
pub(in crate::cas::remote) struct Watched(HashMap<String, (Vec<ObjectMeta>, Instant)>);

impl Watched {
    /// Looks at all owners of a folder.
    pub async fn look(
        &mut self,
        remote: &Remote,
        folder: &str,
    ) -> Result<BTreeMap<String, Owner>, RemoteError> {
        // The time before the question: what is seen may be as old.
        let now = Instant::now();
        let mut seen: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
        for meta in remote.list(folder).await? {
            let name = meta.location.filename().unwrap_or_default();
            // What has another name is somebody else's.
            if !is_id(Some(name.trim_end_matches(BEAT))) {
                continue;
            }
            seen.entry(name.trim_end_matches(BEAT).to_owned()).or_default().push(meta);
        }
        let mut owners = BTreeMap::new();
        for (id, objects) in seen {
            let known = self.0.entry(id.clone()).or_insert_with(|| (objects.clone(), now));
            if known.0 != objects {
                *known = (objects.clone(), now);
            }
            let is_dead = now.duration_since(known.1) >= STANDSTILL;
            owners.insert(id, Owner { objects, is_dead });
        }
        Ok(owners)
    }
}
