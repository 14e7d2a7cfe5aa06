//! From the remotes into the local store.
//!
//! Purpose: bring the bytes of artifacts here that are not here yet.
//! Invariant: nothing gets a name before all its bytes were compared with its digest; no more bytes are taken than
//! the action says; a remote that gives other bytes is passed over.
//! Must not know: which stage wants an artifact.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::error::{FetchError, RemoteError};
use super::list::{Remotes, readable};
use super::object::Remote;
use crate::cas::error::{During, StoreError};
use crate::cas::local::{Hashed, READ_ONLY};
use crate::cas::outputs::StagedOutput;
use crate::cas::stat::{self, Stat};
use crate::cas::store::Store;
use crate::cas::tree::MOST_TREE_BYTES;
use crate::cas::types::{ArtifactRef, Tree};
use crate::cas::{PendingCommit, local::Temporary};
use crate::digest::{Digest, Hasher};

/// How many blobs are fetched at a time.
const FETCHES: usize = 16;
/// A server that sends nothing for so long is passed over.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a blob could not be taken from one remote.
enum Refusal {
    Remote(RemoteError),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Remotes {
    /// Brings artifacts here; what is here already costs no request. Gives the bytes that were transferred.
    ///
    /// # Errors
    /// `Missing` when no remote gives the bytes of one; the local store fails.
    pub fn fetch(&self, store: &Store, artifacts: &[ArtifactRef]) -> Result<u64, FetchError> {
        let mut transferred = 0;
        for artifact in artifacts {
            if store.is_intact(artifact)? {
                continue;
            }
            let (staged, bytes) = self.runtime.block_on(self.bring(store, artifact))?;
            let pending = PendingCommit { outputs: vec![staged], ..PendingCommit::default() };
            store.commit(vec![pending]).into_iter().try_for_each(|kept| kept.map(drop))?;
            transferred += bytes;
        }
        Ok(transferred)
    }

    async fn bring(&self, store: &Store, artifact: &ArtifactRef) -> Result<(StagedOutput, u64), FetchError> {
        if !artifact.tree {
            let file = self.blob(store, &artifact.digest, artifact.size).await?;
            return Ok((StagedOutput::fetched(*artifact, vec![file], None), artifact.size));
        }
        let (tree, listing) = self.tree(store, artifact).await?;
        let mut wanted = BTreeMap::new();
        for file in &tree.files {
            if store.blobs.verify(&file.digest)? != Some(file.size) {
                wanted.insert(file.digest, file.size);
            }
        }
        let bytes = wanted.values().sum();
        let files = wanted.iter().map(|(digest, size)| self.blob(store, digest, *size));
        let files = stream::iter(files).buffer_unordered(FETCHES).try_collect().await?;
        Ok((StagedOutput::fetched(*artifact, files, listing), bytes))
    }

    /// The listing of a folder, and its bytes if they were not here.
    async fn tree(
        &self,
        store: &Store,
        artifact: &ArtifactRef,
    ) -> Result<(Tree, Option<(Temporary, Hashed)>), FetchError> {
        let digest = &artifact.digest;
        let fetched = match store.blobs.verify(digest)? {
            Some(_) => None,
            None => Some(self.sized_blob(store, digest, None).await?),
        };
        let tree = match &fetched {
            None => store.tree(digest)?,
            Some((file, _)) => {
                let bytes = std::fs::read(&**file).during("read", file)?;
                Tree::parse(&bytes).map_err(|why| StoreError::BadTree { digest: *digest, why })?
            }
        };
        match tree.artifact(*digest) == *artifact {
            true => Ok((tree, fetched)),
            false => {
                let why = "its sizes are not those of the action".to_owned();
                Err(StoreError::BadTree { digest: *digest, why }.into())
            }
        }
    }

    async fn blob(
        &self,
        store: &Store,
        digest: &Digest,
        size: u64,
    ) -> Result<(Temporary, Hashed), FetchError> {
        self.sized_blob(store, digest, Some(size)).await
    }

    /// A blob from the first remote that has its bytes. The size of a listing is not known before.
    async fn sized_blob(
        &self,
        store: &Store,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<(Temporary, Hashed), FetchError> {
        for remote in readable(&self.list) {
            match download(remote, store, digest, size).await {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(Refusal::Remote(error)) => remote.report(&error),
                Err(Refusal::Store(error)) => return Err(error.into()),
            }
        }
        Err(FetchError::Missing(*digest))
    }
}

async fn download(
    remote: &Remote,
    store: &Store,
    digest: &Digest,
    size: Option<u64>,
) -> Result<Option<(Temporary, Hashed)>, Refusal> {
    let wrong = |why: String| {
        remote.note_damage(digest);
        let (remote, what) = (remote.name.clone(), format!("the blob {digest}"));
        Refusal::Remote(RemoteError::WrongBytes { remote, what, why })
    };
    let Some((has, mut chunks)) = remote.blob(digest).await.map_err(Refusal::Remote)? else {
        return Ok(None);
    };
    let most = size.unwrap_or(MOST_TREE_BYTES);
    if has > most || size.is_some_and(|size| has != size) {
        return Err(wrong(format!("it has {has} bytes instead of {most}")));
    }
    let (disk, temporary) = (&**store.disk(), store.root.temporary()?);
    let file = disk.create(&temporary).during("write", &temporary)?;
    let (mut hasher, mut taken) = (Hasher::default(), 0);
    loop {
        let next = tokio::time::timeout(SILENCE, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| silent(remote))? else { break };
        let chunk = chunk.map_err(|error| Refusal::Remote(remote.failed("read a blob", &error)))?;
        taken += chunk.len() as u64;
        if taken > most {
            return Err(wrong(format!("it has more than {most} bytes")));
        }
        hasher.update(&chunk);
        disk.append(&file, &chunk).during("write", &temporary)?;
    }
    let found = hasher.finish();
    if found.0 != *digest {
        return Err(wrong(format!("their digest is {}", found.0)));
    }
    drop(file);
    disk.set_mode(&temporary, READ_ONLY).during("protect", &temporary)?;
    let stat =
        std::fs::symlink_metadata(&*temporary).map(|meta| Stat::of(&meta)).during("look at", &temporary)?;
    Ok(Some((temporary, Hashed { digest: *digest, stat, at: stat::now() })))
}

fn silent(remote: &Remote) -> Refusal {
    let why = format!("nothing came for {} s", SILENCE.as_secs());
    Refusal::Remote(RemoteError::Request { remote: remote.name.clone(), what: "read a blob".into(), why })
}
