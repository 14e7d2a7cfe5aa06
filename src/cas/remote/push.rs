//! From the local store to the remotes.
//!
//! Purpose: send actions and the blobs of their outputs to every remote that may be written.
//! Invariant: blobs before the tree that lists them, trees before the action; bytes are verified while they are
//! sent, and what is damaged here gets no name there. An action waits for those that made what its stage read, if they
//! were handed over before it: it is sent as a difference from them.
//! Must not know: when something is sent, how it is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::claims::{Intent, Lease};
use super::error::RemoteError;
use super::list::Remotes;
use super::object::{Remote, Sent};
use super::pieces::{LARGE, Likeness, Near, Recipe, large_files, pack_up};
use crate::cas::error::StoreError;
use crate::cas::store::Store;
use crate::cas::tree::MOST_TREE_BYTES;
use crate::cas::types::{Action, ArtifactRef};
use crate::cas::unpoisoned;
use crate::digest::Digest;

/// How many blobs are sent at a time.
const BLOBS: usize = 8;
/// How many packs of a blob are on their way at a time.
const PACKS: usize = 2;
/// How often an action is tried whose sender was suspended.
const TRIES: usize = 3;

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

    /// Sends an action and its outputs to every remote that may be written, in the background. The lease is held
    /// until that is done.
    pub fn send(
        &self,
        store: Arc<Store>,
        action: Arc<Action>,
        how: Sending,
        lease: Option<Lease>,
    ) -> JoinHandle<Vec<Pushed>> {
        let (list, sending) = (Arc::clone(&self.list), Arc::clone(&self.sending));
        let (parents, underway) = self.underway.add(&action);
        self.runtime.spawn(async move {
            for parent in parents {
                parent.cancelled().await;
            }
            // It is never closed.
            let _permit = sending.acquire().await;
            let mut all = Vec::new();
            for remote in list.iter().filter(|remote| remote.access.writes()) {
                let mut bytes = 0;
                let sent = push(remote, &store, &action, how, &mut bytes).await;
                all.push(Pushed { remote: remote.name.clone(), sent, bytes });
            }
            drop((lease, underway));
            all
        })
    }

    /// Sends the bytes of artifacts to the remote of this name, whether or not an action names them there: a job on
    /// another machine reads them. Gives the bytes that were transferred.
    ///
    /// # Errors
    /// There is no such remote, it fails, or an artifact is not here.
    pub fn send_artifacts(
        &self,
        store: &Store,
        name: &str,
        artifacts: &[ArtifactRef],
        how: Sending,
    ) -> Result<u64, PushError> {
        let remote = self.writable(name)?;
        self.runtime.block_on(async {
            remote.check_writable()?;
            remote.prepare().await?;
            let named = Named::of(artifacts.iter(), store)?;
            let intent = Intent::declare(remote, named.digests()).await?;
            let mut bytes = 0;
            let sent = tokio::select! {
                biased;
                sent = send_blobs(&intent, (remote, store), &named, how, &mut bytes) => sent,
                never = intent.keep() => match never {},
            };
            intent.withdraw().await;
            sent.map(|()| bytes)
        })
    }

    /// Waits for something that was sent; none when it panicked.
    pub fn wait(&self, sent: JoinHandle<Vec<Pushed>>) -> Option<Vec<Pushed>> {
        self.runtime.block_on(sent).ok()
    }
}

/// The large artifacts that are being sent, or wait for it, each with the token that is cancelled at the end.
#[derive(Debug, Default)]
pub(super) struct Underway(Mutex<HashMap<Digest, CancellationToken>>);

impl Underway {
    /// Adds the outputs of an action, until the guard is dropped, and gives what the action has to wait for. It waits
    /// only for what was added before, so that none waits for itself through others.
    fn add(&self, action: &Action) -> (Vec<CancellationToken>, DropGuard) {
        let sent = CancellationToken::new();
        let mut underway = unpoisoned(&self.0);
        underway.retain(|_, sent| !sent.is_cancelled());
        let parents =
            action.inputs().iter().filter_map(|input| underway.get(&input.digest).cloned()).collect();
        let large = action.outputs.values().filter(|output| output.size >= LARGE);
        underway.extend(large.map(|output| (output.digest, sent.clone())));
        (parents, sent.drop_guard())
    }
}

/// What an action names: its files and listings with their sizes, and large files that these may be like.
#[derive(Clone)]
struct Named {
    files: BTreeMap<Digest, u64>,
    trees: BTreeMap<Digest, u64>,
    near: Vec<Digest>,
}

impl Named {
    fn by(action: &Action, store: &Store) -> Result<Self, StoreError> {
        let near = large_files(store, &action.inputs());
        Ok(Self { near, ..Self::of(action.outputs.values(), store)? })
    }

    fn of<'a>(artifacts: impl Iterator<Item = &'a ArtifactRef>, store: &Store) -> Result<Self, StoreError> {
        let (mut files, mut trees) = (BTreeMap::new(), BTreeMap::new());
        for output in artifacts {
            if output.tree {
                files.extend(store.tree(&output.digest)?.files.iter().map(|file| (file.digest, file.size)));
                let listing = store.blobs.verify(&output.digest)?;
                trees.insert(output.digest, listing.ok_or(StoreError::NotIntact(output.digest))?);
            } else {
                files.insert(output.digest, output.size);
            }
        }
        Ok(Self { files, trees, near: Vec::new() })
    }

    fn digests(&self) -> BTreeSet<Digest> {
        self.files.keys().chain(self.trees.keys()).chain(&self.near).copied().collect()
    }
}

async fn push(
    remote: &Remote,
    store: &Store,
    action: &Action,
    how: Sending,
    bytes: &mut u64,
) -> Result<Sent, PushError> {
    remote.check_writable()?;
    remote.prepare().await?;
    let named = Named::by(action, store)?;
    for _ in 0..TRIES {
        let intent = Intent::declare(remote, named.digests()).await?;
        let sent = tokio::select! {
            biased;
            sent = send_all(&intent, (remote, store), action, &named, how, bytes) => sent,
            never = intent.keep() => match never {},
        };
        intent.withdraw().await;
        if let Some(sent) = sent? {
            return Ok(sent);
        }
    }
    Err(lost(remote).into())
}

/// Sends the blobs and then the action; none when this process was suspended so long that blobs may be gone again.
async fn send_all(
    intent: &Intent<'_>,
    (remote, store): (&Remote, &Store),
    action: &Action,
    named: &Named,
    how: Sending,
    bytes: &mut u64,
) -> Result<Option<Sent>, PushError> {
    send_blobs(intent, (remote, store), named, how, bytes).await?;
    Ok(remote.put_action(action, how.replace, store.trust(), || intent.is_fresh()).await?)
}

/// Sends what is named: blobs before the listings that name them.
async fn send_blobs(
    intent: &Intent<'_>,
    (remote, store): (&Remote, &Store),
    named: &Named,
    how: Sending,
    bytes: &mut u64,
) -> Result<(), PushError> {
    let Named { mut files, trees, near } = named.clone();
    // What the stage has read may share pieces with what it made, and so may its outputs with each other.
    let mut near = Relatives { unasked: near, like: Likeness::default() };
    let large: Vec<_> = files.extract_if(.., |_, size| *size >= LARGE).collect();
    for blob in large {
        *bytes += push_pieces(intent, (remote, store), blob, &mut near, how).await?;
    }
    for blobs in [files, trees] {
        let sent = blobs.into_iter().map(|blob| push_blob(intent, (remote, store), blob, how).boxed());
        let sent: Vec<u64> = stream::iter(sent).buffer_unordered(BLOBS).try_collect().await?;
        *bytes += sent.iter().sum::<u64>();
    }
    Ok(())
}

/// Sends a blob unless the remote has it; gives the bytes that were sent.
async fn push_blob(
    intent: &Intent<'_>,
    (remote, store): (&Remote, &Store),
    (digest, size): (Digest, u64),
    how: Sending,
) -> Result<u64, PushError> {
    let digest = &digest;
    remote.check_writable()?;
    if !how.resend && intent.has_blob(digest).await? == Some(size) {
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
    intent: &Intent<'_>,
    (remote, store): (&Remote, &Store),
    (digest, size): (Digest, u64),
    near: &mut Relatives,
    how: Sending,
) -> Result<u64, PushError> {
    remote.check_writable()?;
    if !how.resend && intent.has_recipe(&digest).await? {
        near.unasked.push(digest);
        return Ok(0);
    }
    // A recipe of its own that is damaged is no help; nor are packs, when some are.
    near.unasked.retain(|near| *near != digest);
    if !how.resend {
        near.ask(remote, store).await;
    }
    let mut bytes = 0;
    for _ in 0..2 {
        let like = std::mem::take(&mut near.like);
        let packed = send_packs((remote, store), (digest, size), like, how).await?;
        near.like = packed.like;
        bytes += packed.bytes;
        if intent.renew_parts(&packed.recipe, &packed.sent).await? {
            remote.put_recipe(&packed.recipe).await?;
            if !how.resend {
                near.like.add(Near { recipe: packed.recipe, file: store.blob(&digest) });
            }
            return Ok(bytes);
        }
        // What it is like has lost something: everything is sent.
        near.like = Likeness::default();
    }
    Err(lost(remote).into())
}

/// What was sent was removed again, or may have been, each time that it was tried.
fn lost(remote: &Remote) -> RemoteError {
    let why = "this process was suspended, or things are being removed there all the time".to_owned();
    RemoteError::Request { remote: remote.name.clone(), what: "keep what was being sent".to_owned(), why }
}

/// A blob whose packs were sent, and the blobs that it was compared with.
struct SentPacks {
    recipe: Recipe,
    sent: Vec<Digest>,
    bytes: u64,
    like: Likeness,
}

/// Sends a pack unless it is there; gives it and its bytes if it was sent.
async fn send_pack(
    remote: &Remote,
    name: Digest,
    bytes: Vec<u8>,
    how: Sending,
) -> Result<Option<(Digest, u64)>, RemoteError> {
    // A transfer that was broken off has sent some already. One that is old is made young with the recipe.
    let there = if how.resend { None } else { remote.has("packs", &name).await? };
    let length = bytes.len() as u64;
    if there.is_some_and(|meta| meta.size == length) {
        return Ok(None);
    }
    remote.put_pack(&name, bytes.into()).await?;
    Ok(Some((name, length)))
}

async fn send_packs(
    (remote, store): (&Remote, &Store),
    (digest, size): (Digest, u64),
    like: Likeness,
    how: Sending,
) -> Result<SentPacks, PushError> {
    let (packs, mut filled) = tokio::sync::mpsc::channel::<(Digest, Vec<u8>)>(1);
    let path = store.blob(&digest);
    let packing = tokio::task::spawn_blocking(move || {
        let on_pack = &mut |name, bytes| packs.blocking_send((name, bytes)).is_ok();
        let packed = pack_up(&path, &digest, size, &like, on_pack);
        (packed, like)
    });
    let (mut sent, mut transferred) = (Vec::new(), 0);
    let mut underway = FuturesUnordered::new();
    loop {
        // While one pack is finished there, the next one is on its way. Without a receiver the packing ends.
        let done = tokio::select! {
            biased;
            Some(done) = underway.next() => done?,
            Some((name, bytes)) = filled.recv(), if underway.len() < PACKS => {
                underway.push(send_pack(remote, name, bytes, how));
                continue;
            }
            else => break,
        };
        if let Some((name, bytes)) = done {
            transferred += bytes;
            sent.push(name);
        }
    }
    let (packed, like) = packing.await.map_err(|_| StoreError::NotIntact(digest))?;
    let Some(recipe) = packed? else { return Err(StoreError::NotIntact(digest).into()) };
    Ok(SentPacks { recipe, sent, bytes: transferred, like })
}
