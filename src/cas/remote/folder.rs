//! A folder as an object store.
//!
//! Purpose: the `LocalFileSystem` of object_store, held within its folder: others may write there, too.
//! Invariant: what is no plain file is no object (reading a FIFO would never end). Links are not followed where objects
//! are listed or removed, so that nothing outside is ever removed. A folder that is gone is not made again: it may be the
//! place where a disk is not mounted.
//! Must not know: what is kept in it.

use std::fmt;
use std::fs::{self, Metadata};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Times of files beyond these, in seconds from 1970 either way, are no times of objects: the library cannot hold them.
const FARTHEST: u64 = 250_000_000_000;

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    inner: LocalFileSystem,
    root: Arc<Path>,
}

impl Folder {
    /// The folder at this path, which is there.
    ///
    /// # Errors
    /// It is no folder.
    pub fn open(root: &Path) -> Result<Self> {
        let inner = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
        Ok(Self { inner, root: root.into() })
    }

    /// Fails for what is no object, whether something is there or not.
    async fn check(&self, location: &ObjectPath) -> Result<()> {
        let file = self.root.join(location.as_ref());
        let is_object = blocking(move || match fs::metadata(file) {
            Ok(meta) => meta.is_file() && time_of(&meta).is_some(),
            // The library says what is wrong.
            Err(_) => true,
        });
        if is_object.await? { Ok(()) } else { Err(missing(location)) }
    }

    /// Fails when the folder itself is gone.
    fn check_root(&self) -> Result<()> {
        match self.root.is_dir() {
            true => Ok(()),
            false => Err(generic(format!("there is no folder {} any more", self.root.display()))),
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root.display())
    }
}

#[async_trait::async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &ObjectPath, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.check_root()?;
        self.inner.put_opts(location, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.check_root()?;
        self.inner.put_multipart_opts(location, how).await
    }

    async fn get_opts(&self, location: &ObjectPath, how: GetOptions) -> Result<GetResult> {
        self.check(location).await?;
        self.inner.get_opts(location, how).await
    }

    async fn get_ranges(&self, location: &ObjectPath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check(location).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let (root, inner) = (Arc::clone(&self.root), self.inner.clone());
        let removed = locations.then(move |location| {
            let (root, inner) = (Arc::clone(&root), inner.clone());
            async move {
                let location = location?;
                let (folder, path) = (Arc::clone(&root), location.clone());
                if !blocking(move || is_object_within(&folder, &path)).await? {
                    return Err(missing(&location));
                }
                inner.delete(&location).await.map(|()| location)
            }
        });
        removed.boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.cloned().unwrap_or_default());
        let listed = stream::once(async move {
            match blocking(move || objects(&root, &prefix)).await {
                Ok(Ok(objects)) => stream::iter(objects.into_iter().map(Ok)).boxed(),
                Ok(Err(error)) | Err(error) => stream::iter([Err(error)]).boxed(),
            }
        });
        listed.flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, how: CopyOptions) -> Result<()> {
        self.check_root()?;
        self.check(from).await?;
        self.inner.copy_opts(from, to, how).await
    }
}

/// What is known of a file as an object; none for what is no plain file.
pub(super) fn object_of(location: ObjectPath, meta: &Metadata) -> Option<ObjectMeta> {
    let time = time_of(meta).filter(|_| meta.is_file())?;
    Some(ObjectMeta { location, last_modified: time.into(), size: meta.len(), e_tag: None, version: None })
}

/// Whether this is the name of an object that is being written, or was: the library never lists it.
pub(super) fn is_half(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// When a file was changed, if an object can have been changed then.
fn time_of(meta: &Metadata) -> Option<SystemTime> {
    let time = meta.modified().ok()?;
    let (one, other) =
        (time.duration_since(SystemTime::UNIX_EPOCH), SystemTime::UNIX_EPOCH.duration_since(time));
    let apart = one.or(other).unwrap_or_default();
    (apart < Duration::from_secs(FARTHEST)).then_some(time)
}

/// All objects below a prefix.
fn objects(root: &Path, prefix: &ObjectPath) -> Result<Vec<ObjectMeta>> {
    let (mut found, mut folders) = (Vec::new(), Vec::new());
    if is_real_folder(root, prefix) {
        folders.push(prefix.clone());
    }
    while let Some(folder) = folders.pop() {
        let path = root.join(folder.as_ref());
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => {
                entries.map_err(|error| generic(format!("cannot list {}: {error}", path.display())))?
            }
        };
        for entry in entries {
            let entry = entry.map_err(|error| generic(format!("cannot list {}: {error}", path.display())))?;
            // A name that is none of an object's is somebody else's.
            let Some(name) = entry.file_name().to_str().filter(|name| !is_half(name)).map(str::to_owned)
            else {
                continue;
            };
            let below = if folder.as_ref().is_empty() { name } else { format!("{folder}/{name}") };
            let (Ok(location), Ok(meta)) = (ObjectPath::parse(below), entry.metadata()) else { continue };
            if meta.is_dir() {
                folders.push(location);
            } else {
                found.extend(object_of(location, &meta));
            }
        }
    }
    Ok(found)
}

/// Whether a path leads to a folder without a link.
fn is_real_folder(root: &Path, prefix: &ObjectPath) -> bool {
    let mut path = PathBuf::from(root);
    prefix.parts().all(|part| {
        path.push(part.as_ref());
        fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir())
    })
}

/// Whether a plain file lies there, and no link leads to it.
fn is_object_within(root: &Path, location: &ObjectPath) -> bool {
    let parent: ObjectPath = location.parts().take(location.parts_count().saturating_sub(1)).collect();
    let file = fs::symlink_metadata(root.join(location.as_ref()));
    is_real_folder(root, &parent) && file.is_ok_and(|meta| meta.is_file())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| generic(error.to_string()))
}

fn missing(location: &ObjectPath) -> Error {
    Error::NotFound { path: location.to_string(), source: "there is no plain file".into() }
}

fn generic(text: String) -> Error {
    Error::Generic { store: "folder", source: text.into() }
}
