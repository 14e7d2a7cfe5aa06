//! From the local store to the remotes.
//!
//! Purpose: send actions and the blobs of their outputs to every remote that may be written.
//! Invariant: blobs before the tree that lists them, trees before the action; bytes are verified while they are
//! sent, and what is damaged here gets no name there.
//! Must not know: when something is sent, how it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

use super::error::RemoteError;
use super::list::Remotes;
use super::object::{Remote, Sent};
use super::pieces::{LARGE, Likeness, Near, Packed, large_files, pack_up};
use crate::cas::error::StoreError;
use crate::cas::store::Store;
use crate::cas::tree::MOST_TREE_BYTES;
use crate::cas::types::Action;
use crate::digest::Digest;

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
        let (list, sending) = (Arc::clone(&self.list), Arc::clone(&self.sending));
        self.runtime.spawn(async move {
            // It is never closed.
            let _permit = sending.acquire().await;
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
    // What the stage has read may share pieces with what it made, and so may its outputs with each other.
    let mut near = Relatives { unasked: large_files(store, &action.inputs()), like: Likeness::default() };
    let large: Vec<_> = files.extract_if(.., |_, size| *size >= LARGE).collect();
    for (digest, size) in large {
        *bytes += push_pieces(remote, store, (digest, size), &mut near, how).await?;
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
    // A listing is sent whole, however large it is.
    let bytes = store.read(digest, MOST_TREE_BYTES)?;
    remote.put_blob(digest, bytes.into()).await?;
    Ok(size)
}

/// Blobs that what is sent may be like. The remote is asked for their recipes when the first blob is sent, and once.
struct Relatives {
    unasked: Vec<Digest>,
    like: Likeness,
}

impl Relatives {
    async fn ask(&mut self, remote: &Remote, store: &Store) {
        for digest in std::mem::take(&mut self.unasked) {
            // What cannot be read has no pieces to share.
            if let Some(recipe) = remote.recipe(&digest).await.ok().flatten() {
                self.like.add(Near { recipe, file: store.blob(&digest) });
            }
        }
    }
}

/// Sends a large blob in pieces, those alone that no blob that it may be like has; gives the bytes that were sent. It
/// is one of those blobs from then on.
async fn push_pieces(
    remote: &Remote,
    store: &Store,
    (digest, size): (Digest, u64),
    near: &mut Relatives,
    how: Sending,
) -> Result<u64, PushError> {
    remote.check_alive()?;
    if !how.resend && remote.has_recipe(&digest).await? {
        near.unasked.push(digest);
        return Ok(0);
    }
    // A recipe of its own that is damaged is no help; nor are packs, when some are.
    near.unasked.retain(|near| *near != digest);
    if !how.resend {
        near.ask(remote, store).await;
    }
    let like = std::mem::take(&mut near.like);
    let (packs, mut filled) = tokio::sync::mpsc::channel::<(Digest, Vec<u8>)>(1);
    let path = store.blob(&digest);
    let packing = tokio::task::spawn_blocking(move || {
        let on_pack = &mut |name, bytes| packs.blocking_send((name, bytes)).is_ok();
        let packed = pack_up(&path, &digest, size, &like, on_pack);
        (packed, like)
    });
    while let Some((name, bytes)) = filled.recv().await {
        // Without a receiver the packing ends.
        remote.put_pack(&name, bytes.into()).await?;
    }
    let (packed, like) = packing.await.map_err(|_| StoreError::NotIntact(digest))?;
    near.like = like;
    let Some(Packed { recipe, bytes }) = packed? else { return Err(StoreError::NotIntact(digest).into()) };
    remote.put_recipe(&recipe).await?;
    if !how.resend {
        near.like.add(Near { recipe, file: store.blob(&digest) });
    }
    Ok(bytes)
}
