//! Which blobs somebody is about to name.
//!
//! Purpose: whoever sends an action says first which blobs its outputs have, so that nobody removes them before the
//! action is there. Whoever removes things says so first, too, and a sender waits for it.
//! Invariant: the intent is written before the flags of collectors are looked for, and a collector raises its flag
//! before it looks for intents: so one of them sees the other, in whatever order their requests arrive. A blob that is
//! there already is made young again before an action relies on it, so that a sender that was suspended and taken for
//! dead does no harm within the grace window of a collector.
//! Must not know: how blobs are sent, what is garbage.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectMeta, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::heartbeat::{COLLECTORS, Heartbeat, INTENTS, Watched};
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::object::Remote;
use crate::cas::remote::pieces::{MOST_DEPTH, Recipe};
use crate::cas::tree::MOST_TREE_BYTES;
use crate::digest::{Digest, sealed};

/// The format of an intent.
const FORMAT: &str = "kiln.intent/1";
/// The most bytes of an intent.
const MOST_BYTES: u64 = MOST_TREE_BYTES;
/// What was written longer ago, by the server's clock, is made young before it is relied on. It is less than the least
/// grace window of a collector.
const YOUNG: Duration = Duration::from_secs(12 * 3600);
/// How old an action is that is made young again when it is used.
const RENEW_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// How often a sender looks whether a collector is done.
const PAUSE: Duration = Duration::from_millis(500);

/// The blobs that are about to be named.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: String,
    blobs: BTreeSet<Digest>,
}

/// What somebody is about to name, while it is being sent.
pub(in crate::cas::remote) struct Intent<'a> {
    heartbeat: Heartbeat<'a>,
    declared: Instant,
    /// When it was declared, by the server's clock, in milliseconds.
    server: OnceCell<i64>,
    remote: &'a Remote,
}

impl<'a> Intent<'a> {
    /// Declares that these blobs are about to be named, and waits until nobody removes anything.
    pub async fn declare(remote: &'a Remote, blobs: BTreeSet<Digest>) -> Result<Self, RemoteError> {
        let content = Content { format: FORMAT.to_owned(), blobs };
        let json = serde_json::to_string(&content).map_err(|e| RemoteError::Request {
            remote: remote.name.clone(),
            what: "say what it is about to do".into(),
            why: e.to_string(),
        })?;
        let declared = Instant::now();
        let heartbeat = Heartbeat::begin(remote, INTENTS, sealed::seal(&json).into()).await?;
        let intent = Self { heartbeat, declared, server: OnceCell::new(), remote };
        let waited = tokio::select! {
            biased;
            waited = wait_for_collectors(remote) => waited,
            never = intent.keep() => match never {},
        };
        match waited {
            Ok(()) => Ok(intent),
            Err(error) => {
                intent.withdraw().await;
                Err(error)
            }
        }
    }

    /// Its object.
    #[cfg(test)]
    pub fn path(&self) -> &ObjectPath {
        self.heartbeat.path()
    }

    /// Refreshes it for as long as this is polled.
    pub async fn keep(&self) -> std::convert::Infallible {
        self.heartbeat.keep().await
    }

    /// Whether no collector can have taken it for that of a dead sender.
    pub fn is_fresh(&self) -> bool {
        self.heartbeat.is_fresh()
    }

    /// Says that what was declared is done, or given up.
    pub async fn withdraw(self) {
        self.heartbeat.end().await;
    }

    /// Whether something that was written then can be relied on as it is.
    async fn is_young(&self, meta: &ObjectMeta) -> Result<bool, RemoteError> {
        let ask = || async {
            let head = self.remote.store.head(self.heartbeat.path()).await;
            let head = self.remote.noted("look at what it has just written", head)?;
            // Who took it for dead may have removed it; then nothing is young.
            Ok(head.map_or(i64::MAX, |meta| meta.last_modified.timestamp_millis()))
        };
        let declared = *self.server.get_or_try_init(ask).await?;
        let now = declared.saturating_add(milliseconds(self.declared.elapsed()));
        Ok(now.saturating_sub(meta.last_modified.timestamp_millis()) < milliseconds(YOUNG))
    }

    /// The size of a small blob that can be relied on; none when it must be sent, again or for the first time.
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, RemoteError> {
        match self.remote.has("blobs", digest).await? {
            Some(meta) if self.is_young(&meta).await? => Ok(Some(meta.size)),
            _ => Ok(None),
        }
    }

    /// Whether a large blob can be relied on: its recipe, the packs that this one names, and the blobs of which it is
    /// the difference. What is old is made young.
    pub async fn has_recipe(&self, digest: &Digest) -> Result<bool, RemoteError> {
        match self.remote.has("recipes", digest).await? {
            Some(_) => self.renew(*digest).await,
            None => Ok(false),
        }
    }

    /// Makes everything young that a recipe which is about to be sent names and that is there already. False when
    /// something of it is missing.
    pub async fn renew_parts(&self, recipe: &Recipe, sent: &[Digest]) -> Result<bool, RemoteError> {
        for pack in recipe.packs.iter().filter(|pack| !sent.contains(pack)) {
            if !self.renew_object("packs", pack).await? {
                return Ok(false);
            }
        }
        match recipe.base {
            Some(base) => self.renew(base).await,
            None => Ok(true),
        }
    }

    async fn renew(&self, digest: Digest) -> Result<bool, RemoteError> {
        let mut next = Some(digest);
        for _ in 0..=MOST_DEPTH {
            let Some(digest) = next else { return Ok(true) };
            let recipe = match self.remote.recipe(&digest).await {
                Err(RemoteError::WrongBytes { .. }) | Ok(None) => return Ok(false),
                recipe => recipe?,
            };
            let Some(recipe) = recipe else { return Ok(false) };
            for pack in &recipe.packs {
                if !self.renew_object("packs", pack).await? {
                    return Ok(false);
                }
            }
            if !self.renew_object("recipes", &digest).await? {
                return Ok(false);
            }
            next = recipe.base;
        }
        Ok(next.is_none())
    }

    /// Makes an object young, if it is not. False when it must be sent: it is missing, or somebody else's, whose time
    /// is not for us to change.
    async fn renew_object(&self, kind: &str, digest: &Digest) -> Result<bool, RemoteError> {
        match self.remote.has(kind, digest).await? {
            None => Ok(false),
            Some(meta) if self.is_young(&meta).await? => Ok(true),
            Some(meta) => Ok(self.remote.renew(&meta.location).await.unwrap_or_else(|error| {
                tracing::debug!("{error}");
                false
            })),
        }
    }
}

/// Waits until no living collector removes anything.
pub(in crate::cas::remote) async fn wait_for_collectors(remote: &Remote) -> Result<(), RemoteError> {
    let (mut watched, mut is_told) = (Watched::default(), false);
    loop {
        let owners = match watched.look(remote, COLLECTORS).await {
            // Who may not list relies on nothing that is old, and the grace window is enough for the rest.
            Err(RemoteError::Denied { .. }) => return Ok(()),
            owners => owners?,
        };
        if owners.values().all(|owner| owner.is_dead) {
            return Ok(());
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(
                "somebody removes garbage from the remote `{}`; sending waits for that",
                remote.name
            );
        }
        sleep(PAUSE).await;
    }
}

/// The blobs that an intent names.
///
/// # Errors
/// It could not be read, so that nobody can say what it protects.
pub(in crate::cas::remote) async fn read(
    remote: &Remote,
    path: &ObjectPath,
) -> Result<Option<BTreeSet<Digest>>, RemoteError> {
    let Some(bytes) = remote.small(path, MOST_BYTES, "read an intent").await? else { return Ok(None) };
    let content = sealed::open(&bytes).and_then(|text| {
        let content: Content = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if content.format == FORMAT { Ok(content) } else { Err(format!("its format is not {FORMAT}")) }
    });
    match content {
        Ok(content) => Ok(Some(content.blobs)),
        Err(why) => Err(RemoteError::WrongBytes {
            remote: remote.name.clone(),
            what: format!("the intent {path}"),
            why,
        }),
    }
}

impl Remote {
    /// Whether an action was written so long ago, by the clock of this machine, that it is made young again when it is
    /// used. (A clock that is wrong costs a request, or the action stays for a shorter time.)
    pub(in crate::cas::remote) fn is_old(&self, object: &ObjectMeta) -> bool {
        let age = jiff::Timestamp::now().as_millisecond() - object.last_modified.timestamp_millis();
        age > milliseconds(RENEW_AFTER)
    }

    /// An action that is used, or was to be sent, stays: one that is old is given the present time.
    pub(in crate::cas::remote) async fn renew_old(&self, object: ObjectMeta) {
        if self.is_old(&object)
            && let Err(error) = self.renew_action(object).await
        {
            tracing::debug!("an action that is used was not renewed: {error}");
        }
    }

    /// Gives an action the present time, if it is still the one that was read.
    pub(in crate::cas::remote) async fn renew_action(&self, object: ObjectMeta) -> Result<(), RemoteError> {
        if self.is_folder() {
            return self.renew(&object.location).await.map(drop);
        }
        let Some(bytes) = self.small(&object.location, MOST_BYTES, "read an action").await? else {
            return Ok(());
        };
        let version = UpdateVersion { e_tag: object.e_tag, version: object.version };
        let put = PutPayload::from_bytes(bytes);
        match self.store.put_opts(&object.location, put, PutMode::Update(version).into()).await {
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => Ok(()),
            put => put.map(drop).map_err(|error| self.refused("renew an action", &error)),
        }
    }

    /// Gives an object the present time, by the server's clock, without moving its bytes. False when it is missing.
    pub(in crate::cas::remote) async fn renew(&self, path: &ObjectPath) -> Result<bool, RemoteError> {
        if let Some(file) = self.address.file(path) {
            return self.renew_file(path, &file).await;
        }
        // An object cannot be copied onto itself everywhere.
        let aside = self.at(&["renewed", &format!("{:016x}", fastrand::u64(..))]);
        match self.store.copy(path, &aside).await {
            Ok(()) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(self.refused("renew an object", &error)),
        }
        let back = self.store.copy(&aside, path).await;
        if let Err(error) = self.store.delete(&aside).await {
            tracing::debug!("an object was not removed: {error}");
        }
        back.map(|()| true).map_err(|error| self.refused("renew an object", &error))
    }

    /// The present time is for whoever may write the file; another time would be for its owner alone. Where nobody else
    /// may write it, but the folder, a copy takes its place.
    async fn renew_file(&self, path: &ObjectPath, file: &Path) -> Result<bool, RemoteError> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match rustix::fs::utimensat(CWD, file, &times, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(Errno::ACCESS | Errno::PERM) => {
                let copied = match self.store.get(path).await {
                    Ok(got) => got.bytes().await,
                    Err(error) => Err(error),
                };
                let copied = match copied {
                    Ok(bytes) => self.store.put(path, PutPayload::from_bytes(bytes)).await,
                    Err(error) => Err(error),
                };
                copied.map(|_| true).map_err(|error| self.refused("renew an object", &error))
            }
            Err(error) => {
                let error = Error::Generic { store: "file", source: std::io::Error::from(error).into() };
                Err(self.refused("renew an object", &error))
            }
        }
    }
}

/// A time in milliseconds.
pub(in crate::cas::remote) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
