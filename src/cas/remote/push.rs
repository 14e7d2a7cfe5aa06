//! From the local store to the remotes.
//!
//! Purpose: send actions and the blobs of their outputs to every remote that may be written.
//! Invariant: blobs before the tree that lists them, trees before the action; bytes are verified while they are
//! sent, and what is damaged here is never completed there.
//! Must not know: when something is sent, how it is shown.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::{MultipartUpload, PutPayload};
use tokio::task::JoinHandle;

use super::error::RemoteError;
use super::list::Remotes;
use super::object::{Remote, Sent};
use crate::cas::error::{During, StoreError};
use crate::cas::store::Store;
use crate::cas::types::Action;
use crate::digest::{Digest, Hasher};

/// Up to this size a blob is sent in one request.
const WHOLE: u64 = 8 << 20;
/// The bytes of a part of a larger one.
const PART: usize = 16 << 20;
/// How many parts of one blob are on their way at a time.
const PARTS: usize = 4;
/// How many blobs are sent at a time.
const BLOBS: usize = 8;

/// How an action is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sending {
    /// Whether it replaces one that is there, as that of a forced run does.
    pub replace: bool,
    /// Whether blobs are sent even if they seem to be there: some were found damaged.
    pub resend: bool,
}

/// What was sent to one remote.
#[derive(Debug)]
pub struct Pushed {
    /// The name of the remote.
    pub remote: String,
    /// What became of the action.
    pub sent: Result<Sent, PushError>,
    /// The bytes that were transferred.
    pub bytes: u64,
}

/// Why an action could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The remote failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Remotes {
    /// Whether a remote may be written.
    pub fn has_writable(&self) -> bool {
        self.list.iter().any(|remote| remote.access.writes())
    }

    /// Sends an action and its outputs to every remote that may be written, in the background.
    pub fn send(&self, store: Arc<Store>, action: Arc<Action>, how: Sending) -> JoinHandle<Vec<Pushed>> {
        let list = Arc::clone(&self.list);
        self.runtime.spawn(async move {
            let mut all = Vec::new();
            for remote in list.iter().filter(|remote| remote.access.writes()) {
                let mut bytes = 0;
                let sent = push(remote, &store, &action, how, &mut bytes).await;
                all.push(Pushed { remote: remote.name.clone(), sent, bytes });
            }
            all
        })
    }

    /// Waits for something that was sent; none when it panicked.
    pub fn wait(&self, sent: JoinHandle<Vec<Pushed>>) -> Option<Vec<Pushed>> {
        self.runtime.block_on(sent).ok()
    }
}

async fn push(
    remote: &Remote,
    store: &Store,
    action: &Action,
    how: Sending,
    bytes: &mut u64,
) -> Result<Sent, PushError> {
    remote.check_alive()?;
    remote.prepare().await?;
    let (mut files, mut trees) = (BTreeMap::new(), BTreeMap::new());
    for output in action.outputs.values() {
        if output.tree {
            files.extend(store.tree(&output.digest)?.files.iter().map(|file| (file.digest, file.size)));
            let listing = store.blobs.verify(&output.digest)?;
            trees.insert(output.digest, listing.ok_or(StoreError::NotIntact(output.digest))?);
        } else {
            files.insert(output.digest, output.size);
        }
    }
    for blobs in [files, trees] {
        let sent =
            blobs.into_iter().map(|(digest, size)| push_blob(remote, store, (digest, size), how).boxed());
        let sent: Vec<u64> = stream::iter(sent).buffer_unordered(BLOBS).try_collect().await?;
        *bytes += sent.iter().sum::<u64>();
    }
    Ok(remote.put_action(action, how.replace, store.trust()).await?)
}

/// Sends a blob unless the remote has it; gives the bytes that were sent.
async fn push_blob(
    remote: &Remote,
    store: &Store,
    (digest, size): (Digest, u64),
    how: Sending,
) -> Result<u64, PushError> {
    let digest = &digest;
    remote.check_alive()?;
    if !how.resend && remote.has_blob(digest).await? == Some(size) {
        return Ok(0);
    }
    if size <= WHOLE {
        let bytes = store.read(digest, WHOLE)?;
        remote.put_blob(digest, bytes.into()).await?;
        return Ok(size);
    }
    let mut upload = remote.put_parts(digest).await?;
    let sent = send_parts(remote, store, digest, &mut *upload).await;
    match sent {
        Ok(()) => {
            let completed = upload.complete().await;
            completed.map(|_| size).map_err(|error| remote.failed("write a blob", &error).into())
        }
        Err(error) => {
            // What stays of it is no object; the server removes it in time.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

async fn send_parts(
    remote: &Remote,
    store: &Store,
    digest: &Digest,
    upload: &mut dyn MultipartUpload,
) -> Result<(), PushError> {
    let path = store.blob(digest);
    let mut file = File::open(&path).during("read", &path)?;
    let (mut hasher, mut on_the_way) = (Hasher::default(), stream::FuturesUnordered::new());
    loop {
        let mut part = Vec::with_capacity(PART);
        file.by_ref().take(PART as u64).read_to_end(&mut part).during("read", &path)?;
        if part.is_empty() {
            break;
        }
        hasher.update(&part);
        on_the_way.push(upload.put_part(PutPayload::from_bytes(Bytes::from(part))));
        if on_the_way.len() >= PARTS {
            on_the_way.next().await.transpose().map_err(|error| remote.failed("write a blob", &error))?;
        }
    }
    while let Some(done) = on_the_way.next().await {
        done.map_err(|error| remote.failed("write a blob", &error))?;
    }
    match hasher.finish().0 == *digest {
        true => Ok(()),
        false => Err(StoreError::NotIntact(*digest).into()),
    }
}
