//! From the remotes into the local store.
//!
//! Purpose: bring the bytes of artifacts here that are not here yet.
//! Invariant: nothing gets a name before all its bytes were compared with its digest; no more bytes are taken than
//! the action says; a remote that gives other bytes is passed over.
//! Must not know: which stage wants an artifact.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::error::{FetchError, RemoteError};
use super::list::{Remotes, readable};
use super::object::Remote;
use super::pieces::{Broken, Here, LARGE, MOST_DEPTH, Recipe, large_files, most_base_bytes, receive};
use crate::cas::disk::Disk;
use crate::cas::error::{During, StoreError};
use crate::cas::local::{Hashed, READ_ONLY};
use crate::cas::outputs::StagedOutput;
use crate::cas::stat::{self, Stat};
use crate::cas::store::Store;
use crate::cas::tree::MOST_TREE_BYTES;
use crate::cas::types::{ArtifactRef, Tree};
use crate::cas::{PendingCommit, local::Temporary, unpoisoned};
use crate::digest::{Digest, Hasher};

/// How many blobs are fetched at a time.
const FETCHES: usize = 16;

/// Files that are here and may have pieces of what is fetched. They are cut once, and only for a large blob.
struct Near {
    files: Vec<PathBuf>,
    pieces: OnceCell<Here>,
}

impl Near {
    fn of(store: &Store, artifacts: &[ArtifactRef]) -> Self {
        let files = large_files(store, artifacts).iter().map(|digest| store.blob(digest)).collect();
        Self { files, pieces: OnceCell::new() }
    }

    async fn pieces(&self) -> &Here {
        let cut = || async {
            let files = self.files.clone();
            tokio::task::spawn_blocking(move || Here::in_files(&files)).await.unwrap_or_default()
        };
        self.pieces.get_or_init(cut).await
    }
}

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
    /// Brings artifacts here; what is here already costs no request, and large files take the pieces that `near`
    /// artifacts have from these. Gives the bytes of what was brought.
    ///
    /// # Errors
    /// `Missing` when no remote gives the bytes of one; `Stopped` after [`Remotes::stop`]; the local store fails.
    pub fn fetch(
        &self,
        store: &Store,
        artifacts: &[ArtifactRef],
        near: &[ArtifactRef],
    ) -> Result<u64, FetchError> {
        let mut transferred = 0;
        let near = Near::of(store, near);
        for artifact in artifacts {
            if store.is_intact(artifact)? {
                continue;
            }
            let brought = self.stopped.run_until_cancelled(self.bring(store, artifact, &near));
            let brought = self.runtime.block_on(brought);
            let (staged, bytes) = brought.unwrap_or(Err(FetchError::Stopped))?;
            let pending = PendingCommit { outputs: vec![staged], ..PendingCommit::default() };
            store.commit(vec![pending]).into_iter().try_for_each(|kept| kept.map(drop))?;
            transferred += bytes;
        }
        Ok(transferred)
    }

    async fn bring(
        &self,
        store: &Store,
        artifact: &ArtifactRef,
        near: &Near,
    ) -> Result<(StagedOutput, u64), FetchError> {
        if !artifact.tree {
            let file = self.sized_blob(store, &artifact.digest, Some(artifact.size), near).await?;
            return Ok((StagedOutput::fetched(*artifact, vec![file], None), artifact.size));
        }
        let (tree, listing) = self.tree(store, artifact, near).await?;
        let mut wanted = BTreeMap::new();
        for file in &tree.files {
            if store.blobs.verify(&file.digest)? != Some(file.size) {
                wanted.insert(file.digest, file.size);
            }
        }
        let bytes = wanted.values().sum();
        let files = wanted.iter().map(|(digest, size)| self.sized_blob(store, digest, Some(*size), near));
        let files = stream::iter(files).buffer_unordered(FETCHES).try_collect().await?;
        Ok((StagedOutput::fetched(*artifact, files, listing), bytes))
    }

    /// The listing of a folder, and its bytes if they were not here.
    async fn tree(
        &self,
        store: &Store,
        artifact: &ArtifactRef,
        near: &Near,
    ) -> Result<(Tree, Option<(Temporary, Hashed)>), FetchError> {
        let digest = &artifact.digest;
        let fetched = match store.blobs.verify(digest)? {
            Some(_) => None,
            None => Some(self.sized_blob(store, digest, None, near).await?),
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

    /// A blob from the first remote that has its bytes. The size of a listing is not known before.
    async fn sized_blob(
        &self,
        store: &Store,
        digest: &Digest,
        size: Option<u64>,
        near: &Near,
    ) -> Result<(Temporary, Hashed), FetchError> {
        for remote in readable(&self.list) {
            let got = match size {
                Some(size) if size >= LARGE => {
                    // It is never closed.
                    let _permit = self.fetching.acquire().await;
                    self.large(remote, store, (digest, size), near).await
                }
                _ => download(remote, store, digest, size).await,
            };
            match got {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(Refusal::Remote(error)) => remote.report(&error),
                Err(Refusal::Store(error)) => return Err(error.into()),
            }
        }
        Err(FetchError::Missing(*digest))
    }
}

impl Remotes {
    /// A large blob from its pieces. Where pieces are differences from a blob that is not here, that one is fetched
    /// first; it has the size that its own recipe says, and no more than a few such blobs depend on each other.
    async fn large(
        &self,
        remote: &Remote,
        store: &Store,
        (digest, size): (&Digest, u64),
        near: &Near,
    ) -> Result<Option<(Temporary, Hashed)>, Refusal> {
        let recipe = remote.recipe_of_at_most(digest, size).await.map_err(Refusal::Remote)?;
        let Some(recipe) = recipe else { return Ok(None) };
        let wrong = |why: String| {
            remote.note_damage(digest);
            let (remote, what) = (remote.name.clone(), format!("the blob {digest}"));
            Refusal::Remote(RemoteError::WrongBytes { remote, what, why })
        };
        if recipe.size != size {
            return Err(wrong(format!("it has {} bytes instead of {size}", recipe.size)));
        }
        // From the blob itself to the one that needs no other: that one is put together first.
        let mut chain = vec![recipe];
        while let Some(base) = chain.last().and_then(|recipe| recipe.base)
            && chain.len() <= usize::from(MOST_DEPTH)
        {
            let most = most_base_bytes(size);
            let next = remote.recipe_of_at_most(&base, most).await.map_err(Refusal::Remote)?;
            if let Some(huge) = next.iter().find(|base| base.size > most) {
                return Err(wrong(format!("it is the difference from a blob of {} bytes", huge.size)));
            }
            chain.extend(next);
            if chain.last().is_none_or(|recipe| recipe.digest != base) {
                break;
            }
        }
        let near = near.pieces().await;
        let (mut above, mut made) = (Here::default(), Vec::new());
        for from in 0..chain.len() {
            // As few as possible: what is here may be enough.
            let (mut done, mut broken) = (None, None);
            for recipe in chain[..=from].iter().rev() {
                match put_together(remote, store, (digest, recipe), &[near, &above]).await? {
                    Ok(file) => {
                        above.add(recipe, &file.0);
                        done = Some(file);
                    }
                    Err(why) => {
                        (done, broken) = (None, Some(why));
                        break;
                    }
                }
                made.extend(done.take_if(|_| recipe.digest != *digest));
            }
            match (done, broken) {
                (Some(file), _) => return Ok(Some(file)),
                (None, Some(Broken::NoBase)) => {}
                (None, Some(Broken::Request(why) | Broken::Wrong(why))) => return Err(wrong(why)),
                (None, _) => break,
            }
        }
        Err(wrong("the blob that it is the difference from is missing".into()))
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
    let mut writing = Writing::begin(store, store.root.temporary()?)?;
    while let Some(chunk) = remote.next(&mut chunks, "read a blob").await.map_err(Refusal::Remote)? {
        if writing.length + chunk.len() as u64 > most {
            return Err(wrong(format!("it has more than {most} bytes")));
        }
        writing.write(&chunk).during("write", &writing.temporary)?;
    }
    match writing.finish(store, digest)? {
        Ok(file) => Ok(Some(file)),
        Err(found) => Err(wrong(format!("their digest is {found}"))),
    }
}

/// A blob from its pieces, some of which are here, on the way to the blob `digest`.
async fn put_together(
    remote: &Remote,
    store: &Store,
    (digest, recipe): (&Digest, &Recipe),
    here: &[&Here],
) -> Result<Result<(Temporary, Hashed), Broken>, Refusal> {
    let refused = Mutex::new(None);
    let get = |pack, range| {
        let refused = &refused;
        async move {
            let noted = |error: RemoteError| {
                let text = error.to_string();
                unpoisoned(refused).get_or_insert(error);
                text
            };
            remote.range(&pack, range).await.map_err(noted)
        }
    };
    let partials = store.root.partials(&recipe.digest);
    let mut front = Here::default();
    partials.first().into_iter().for_each(|partial| front.add_front(recipe, partial));
    let here: Vec<_> = [&[&front], here].concat();
    let mut writing = Writing::begin(store, store.root.partial(&recipe.digest)?)?;
    match receive(recipe, &here, get, &mut |bytes| writing.write(bytes)).await {
        Ok(()) => remove_finished(store, &partials),
        Err(Broken::Write(source)) => {
            return Err(
                StoreError::Io { what: "write", path: writing.temporary.to_path_buf(), source }.into()
            );
        }
        Err(broken) => {
            // What came so far is of use when only a request failed.
            if !matches!(broken, Broken::Request(_)) {
                writing.temporary.set_useless();
                return Ok(Err(broken));
            }
            let refused = unpoisoned(&refused).take();
            // A pack that is missing, say, is sent again; what was not answered says nothing of the blob.
            if let Some(RemoteError::WrongBytes { .. }) = refused {
                remote.note_damage(digest);
            }
            return refused.map_or(Ok(Err(broken)), |error| Err(Refusal::Remote(error)));
        }
    }
    Ok(writing
        .finish(store, &recipe.digest)?
        .map_err(|found| Broken::Wrong(format!("their digest is {found}"))))
}

/// Removes what was not finished of a blob that is finished now, but for what somebody still writes.
fn remove_finished(store: &Store, partials: &[PathBuf]) {
    for partial in partials {
        if std::fs::File::open(partial).is_ok_and(|file| file.try_lock().is_ok())
            && let Err(error) = store.disk().remove_file(partial)
        {
            tracing::debug!("a temporary file was not removed: {error}");
        }
    }
}

/// A temporary file that is being written and hashed.
struct Writing {
    temporary: Temporary,
    file: std::fs::File,
    disk: Arc<dyn Disk>,
    hasher: Hasher,
    length: u64,
}

impl Writing {
    fn begin(store: &Store, temporary: Temporary) -> Result<Self, StoreError> {
        let disk = Arc::clone(store.disk());
        let file = disk.create(&temporary).during("write", &temporary)?;
        // It says that somebody writes; a file system without locks has nobody that would ask.
        let _ = file.try_lock();
        Ok(Self { temporary, file, disk, hasher: Hasher::default(), length: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.disk.append(&self.file, bytes)
    }

    /// The file, if it has this digest; else the digest that it has.
    fn finish(
        self,
        store: &Store,
        digest: &Digest,
    ) -> Result<Result<(Temporary, Hashed), Digest>, StoreError> {
        let Self { mut temporary, file, hasher, .. } = self;
        let (found, _) = hasher.finish();
        if found != *digest {
            temporary.set_useless();
            return Ok(Err(found));
        }
        drop(file);
        store.disk().set_mode(&temporary, READ_ONLY).during("protect", &temporary)?;
        let meta = std::fs::symlink_metadata(&*temporary).during("look at", &temporary)?;
        Ok(Ok((temporary, Hashed { digest: found, stat: Stat::of(&meta), at: stat::now() })))
    }
}
