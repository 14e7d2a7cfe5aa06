//! The store itself: where things lie, and which bytes can be believed.
//!
//! Purpose: open a store, find and verify blobs, read them, and keep the stat cache.
//! Invariant: a blob is believed only when its bytes were hashed, or when its stat is the one recorded
//! after they were. Opening and reading write nothing but the stat cache, and that only where a
//! store already is; a damaged blob is moved aside.
//! Must not know: how blobs come in (`ingest`) or go out (`export`), what actions mean.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::{Disk, Os};
use super::error::{During, StoreError};
use super::stat::{self, Stat};
use super::stat_cache::StatCache;
use super::tree::MOST_TREE_BYTES;
use super::types::{ArtifactRef, Tree};
use crate::digest::{Digest, Hasher};

/// From this size on it is quicker to wait until a fresh file's times can be trusted than to hash it
/// again later.
pub(super) const LARGE: u64 = 1 << 20;
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
/// Temporary files older than this belong to nobody.
const STALE: i64 = 24 * 3600 * 1_000_000_000;
/// How much of a file is read at once.
const BUFFER: usize = 256 * 1024;
/// How many young files are hashed again when saving.
const MOST_YOUNG: usize = 100_000;

/// A local store; shared by threads.
pub struct Store {
    root: PathBuf,
    pub(super) disk: Box<dyn Disk>,
    stats: Mutex<Option<StatCache>>,
    /// Small files that were hashed too soon after their last change to be recorded.
    young: Mutex<HashSet<Young>>,
    temporaries: AtomicU64,
    /// Shards whose own names last.
    pub(super) lasting_shards: Mutex<HashSet<PathBuf>>,
}

#[derive(PartialEq, Eq, Hash)]
enum Young {
    File(PathBuf),
    Blob(Digest),
}

/// A file's digest and the stat it had all the while it was read.
pub(super) struct Hashed {
    pub digest: Digest,
    pub stat: Stat,
    /// When reading began.
    pub at: i64,
}

/// The path of a temporary file, which is removed with it unless it was given a name.
pub(super) struct Temporary {
    path: PathBuf,
    named: bool,
}

impl Temporary {
    /// A file that belongs to the store from now on.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, named: false }
    }

    /// Gives it its name by `name`.
    pub(super) fn name(
        &mut self,
        name: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        name(&self.path)?;
        self.named = true;
        Ok(())
    }
}

impl Deref for Temporary {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Store {
    /// The store in folder `root`, which is made when there is something to keep.
    ///
    /// # Errors
    /// When `root` is empty or the working folder is gone.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::on_disk(root, Box::new(Os::default()))
    }

    pub(super) fn on_disk(root: &Path, disk: Box<dyn Disk>) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).during("open the store", root)?;
        let (stats, young, temporaries, lasting_shards) = Default::default();
        Ok(Self { root, disk, stats, young, temporaries, lasting_shards })
    }

    /// Its folder, an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The scratch folder of an action: `work/<first letter of the key>/<key>`. It may not be there yet,
    /// and others whose names begin with `<key>.` may stand beside it.
    /// (In one folder they would all wait for its lock: to remove one takes as long as a sync.)
    pub fn work(&self, key: &Digest) -> PathBuf {
        let key = key.to_string();
        self.root.join("work").join(&key[..1]).join(&key)
    }

    /// The actions that have a lock file, or something beside or in their scratch folder.
    pub fn works(&self) -> BTreeSet<Digest> {
        let within = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let shards = within(self.root.join("work"))
            .filter(|shard| shard.file_name().len() == 1 || shard.file_name() == "locks");
        let entries = shards.flat_map(|shard| within(shard.path()));
        entries.filter_map(|entry| entry.file_name().to_str()?.split('.').next()?.parse().ok()).collect()
    }

    /// Where a name of the kind `blobs` or `actions` lies: `kind/ab/cd..`.
    pub(super) fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(kind).join(&hex[..2]).join(&hex[2..])
    }

    /// The path of a blob, which may be missing or damaged: for people and their tools to find.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.place("blobs", digest)
    }

    /// The folder of a blob's name.
    pub(super) fn shard(&self, digest: &Digest) -> Option<PathBuf> {
        self.blob(digest).parent().map(Path::to_owned)
    }

    /// A path for a temporary file on the disk of the store; its folder is there.
    pub(super) fn temporary(&self) -> Result<Temporary, StoreError> {
        let folder = self.root.join("work/tmp");
        let n = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.disk.make_folder(&folder).during("make", &folder)?;
        if n == 0 {
            sweep(&folder);
        }
        // The time keeps apart two processes of one number on two machines.
        Ok(Temporary::at(folder.join(format!("{}-{:x}-{n}", std::process::id(), stat::now()))))
    }

    /// Says that stages will write below the store's folder, which must be there: from now on a `commit` that
    /// syncs the whole disk fails if the disk could not do one of these writes.
    ///
    /// # Errors
    /// The folder cannot be opened.
    pub fn watch(&self) -> Result<(), StoreError> {
        self.disk.watch(&self.root).during("open", &self.root)
    }

    /// Whether a file or folder is all there, byte for byte. What is damaged is moved aside.
    ///
    /// # Errors
    /// When the disk cannot be read; damage is no error.
    pub fn is_whole(&self, artifact: &ArtifactRef) -> Result<bool, StoreError> {
        if !artifact.tree {
            return Ok(self.verify(&artifact.digest)? == Some(artifact.size));
        }
        let tree = match self.tree(&artifact.digest) {
            Ok(tree) => tree,
            Err(StoreError::NotWhole(_)) => return Ok(false),
            Err(e @ (StoreError::BadTree { .. } | StoreError::TooBig { .. })) => {
                tracing::warn!(digest = %artifact.digest, "{e}");
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        for file in &tree.files {
            if self.verify(&file.digest)? != Some(file.size) {
                return Ok(false);
            }
        }
        Ok(tree.artifact(artifact.digest) == *artifact)
    }

    /// A tree by its digest, checked against the rules of trees.
    ///
    /// # Errors
    /// `NotWhole` when its blob is missing or damaged, `BadTree` when it breaks a rule.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, StoreError> {
        let bytes = self.read(digest, MOST_TREE_BYTES)?;
        Tree::parse(&bytes).map_err(|why| StoreError::BadTree { digest: *digest, why })
    }

    /// The bytes of a blob, verified; no more than `limit` of them.
    ///
    /// # Errors
    /// `NotWhole` when it is missing or damaged, `TooBig` above the limit.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::NotWhole(*digest)),
            file => file.during("read", &path)?,
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).during("read", &path)?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooBig {
                what: format!("blob {digest}"),
                limit: format!("{limit} bytes"),
            });
        }
        if Digest::of_bytes(&bytes) == *digest {
            return Ok(bytes);
        }
        self.verify(digest)?;
        Err(StoreError::NotWhole(*digest))
    }

    /// The size of a blob if it is there and its bytes are those of its name; what is not is moved
    /// aside.
    pub(super) fn verify(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.blob(digest);
        let meta = match fs::symlink_metadata(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            meta => meta.during("look at", &path)?,
        };
        let stat = Stat::of(&meta);
        if meta.is_file() {
            if self.stats(|cache| cache.blob(digest, &stat)) {
                return Ok(Some(stat.size));
            }
            let hashed = hash(&path, Stat::last_change)?;
            if hashed.digest == *digest {
                self.believe(digest, hashed.stat, hashed.stat.last_change(), hashed.at);
                return Ok(Some(hashed.stat.size));
            }
        }
        self.set_aside(digest, &path, &stat);
        Ok(None)
    }

    /// Records that the blob's bytes were hashed `at` that time, when its last change was long enough ago.
    pub(super) fn believe(&self, digest: &Digest, stat: Stat, last_change: i64, at: i64) {
        if stat.young_for(last_change, at).is_none() {
            self.stats(|cache| cache.put_blob(*digest, stat));
        } else {
            self.look_again(stat.size, || Young::Blob(*digest));
        }
    }

    /// The digest of a plain file outside, whose stat is `stat`, by the cache where it can be.
    pub(super) fn identify_file(&self, path: &Path, stat: &Stat) -> Result<(Digest, u64), StoreError> {
        let path = std::path::absolute(path).during("find", path)?;
        if let Some(digest) = self.stats(|cache| cache.file(&path, stat)) {
            return Ok((digest, stat.size));
        }
        let hashed = hash(&path, Stat::last_change)?;
        if hashed.stat.young_for(hashed.stat.last_change(), hashed.at).is_none() {
            self.stats(|cache| cache.put_file(&path, hashed.stat, hashed.digest));
        } else {
            self.look_again(hashed.stat.size, || Young::File(path));
        }
        Ok((hashed.digest, hashed.stat.size))
    }

    /// Saves what is known of files by their stat, if that changed and the store's folder exists.
    ///
    /// # Errors
    /// When the disk refuses; nothing but time is lost then.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.settle();
        let file = self.root.join("cache/stat");
        let bytes = self.stats(|cache| cache.prepare_save(&file));
        let Some(bytes) = bytes.filter(|_| self.root.is_dir()) else { return Ok(()) };
        let mut temporary = self.temporary()?;
        self.disk.make_folder(&self.root.join("cache")).during("make a folder for", &file)?;
        // Not synced: a torn cache fails its checksum and is an empty one.
        self.disk.write(&temporary, &bytes).during("write", &temporary)?;
        temporary.name(|path| self.disk.rename(path, &file).during("write", &file))?;
        self.stats(|cache| cache.saved(&file));
        Ok(())
    }

    /// Hashes again the small files that were too young to be recorded and no longer are, so that the
    /// next process need not.
    pub fn settle(&self) {
        let young = std::mem::take(&mut *unpoisoned(&self.young));
        for one in young {
            let path = match &one {
                Young::File(path) => path.clone(),
                Young::Blob(digest) => self.blob(digest),
            };
            let now = stat::now();
            let Ok(before) = fs::metadata(&path).map(|meta| Stat::of(&meta)) else { continue };
            // What has grown is not hashed while others wait; what is from the future is young for ever.
            if before.size >= LARGE || before.last_change() > now {
                continue;
            }
            let young = before.young_for(before.last_change(), now).is_some();
            let hashed = if young { None } else { hash(&path, Stat::last_change).ok() };
            let Some(hashed) = hashed.filter(|hashed| hashed.stat == before) else {
                self.look_again(before.size, || one);
                continue;
            };
            match one {
                Young::File(path) => self.stats(|cache| cache.put_file(&path, hashed.stat, hashed.digest)),
                Young::Blob(digest) if hashed.digest == digest => {
                    self.stats(|cache| cache.put_blob(digest, hashed.stat));
                }
                Young::Blob(_) => {}
            }
        }
    }

    fn look_again(&self, size: u64, one: impl FnOnce() -> Young) {
        let mut young = unpoisoned(&self.young);
        if size < LARGE && young.len() < MOST_YOUNG {
            young.insert(one());
        }
    }

    /// Moves a damaged blob out of the way, unless it was replaced meanwhile.
    fn set_aside(&self, digest: &Digest, path: &Path, seen: &Stat) {
        self.stats(|cache| cache.drop_blob(digest));
        let now = fs::symlink_metadata(path).map(|meta| Stat::of(&meta));
        if !now.is_ok_and(|now| (now.dev, now.ino) == (seen.dev, seen.ino)) {
            return;
        }
        let folder = self.root.join("work/damaged");
        let aside = folder.join(format!("{digest}-{:x}", stat::now()));
        match self.disk.make_folder(&folder).and_then(|()| self.disk.rename(path, &aside)) {
            Ok(()) => tracing::warn!(%digest, aside = %aside.display(), "a damaged blob was moved aside"),
            Err(e) => tracing::warn!(%digest, "a blob is damaged and cannot be moved aside: {e}"),
        }
    }

    /// Works on the stat cache, which is read at its first use.
    pub(super) fn stats<T>(&self, work: impl FnOnce(&mut StatCache) -> T) -> T {
        let mut stats = unpoisoned(&self.stats);
        work(stats.get_or_insert_with(|| StatCache::load(&self.root.join("cache/stat"))))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.flush() {
            tracing::debug!("the stat cache was not saved: {e}");
        }
    }
}

/// Hashes a file that nobody writes to meanwhile. `last_change` says which of its times count.
pub(super) fn hash(path: &Path, last_change: fn(&Stat) -> i64) -> Result<Hashed, StoreError> {
    for _ in 0..3 {
        let file = File::open(path).during("read", path)?;
        let stat_now = || file.metadata().map(|meta| Stat::of(&meta)).during("look at", path);
        let stat = stat_now()?;
        let wait = stat.young_for(last_change(&stat), stat::now());
        if let Some(wait) = wait.filter(|wait| stat.size >= LARGE && *wait <= LONGEST_WAIT) {
            std::thread::sleep(wait);
        }
        let at = stat::now();
        let (digest, length) = digest_of(&file, stat.size).during("read", path)?;
        if stat_now()? == stat && length == stat.size {
            return Ok(Hashed { digest, stat, at });
        }
    }
    Err(StoreError::Moving(path.to_owned()))
}

/// The digest and length of a file of about `size` bytes, with no larger buffer than it needs.
fn digest_of(mut file: &File, size: u64) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::default();
    // One byte more than a small file has, so that a second read sees its end at once.
    let mut buffer = vec![0; usize::try_from(size + 1).unwrap_or(BUFFER).min(BUFFER)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Removes what crashed processes left long ago.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let now = stat::now();
    for entry in entries.flatten() {
        if entry.metadata().is_ok_and(|meta| Stat::of(&meta).last_change() < now - STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A thread that panicked leaves these maps whole: each change to them is a single insertion.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
