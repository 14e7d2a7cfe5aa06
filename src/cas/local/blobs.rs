//! The blobs of the local store, and which bytes can be trusted.
//!
//! Purpose: find, verify and read blobs, and keep the records of stats by which a file need not be read again.
//! Invariant: a blob is trusted only when its bytes were hashed, or when its stat is the one recorded after they
//! were. Reading writes nothing but the records; a damaged blob is quarantined.
//! Must not know: trees, actions, how blobs come in or go out.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::hash::{Checked, Hashed, LARGE, check, hash};
use super::root::{MustLast, Root, unpoisoned};
use crate::cas::disk::make_durable_folders;
use crate::cas::error::{During, StoreError};
use crate::cas::stat::{self, Stat, Trust};
use crate::cas::traits::BlobStore;
use crate::digest::Digest;

/// How many racily clean files are hashed again when saving.
const MOST_RECHECKED: usize = 100_000;
/// The permission bits of a blob.
pub(in crate::cas) const READ_ONLY: u32 = 0o444;

/// The blobs of a local store; shared by threads.
pub(in crate::cas) struct LocalBlobs {
    pub root: Arc<Root>,
    pub trust: Box<dyn Trust>,
    /// Small files that were hashed too soon after their last change to be recorded.
    racily_clean: Mutex<HashSet<Recheck>>,
    /// Held while a name is added to or taken from a blob, which changes its ctime, until its new stat is recorded.
    pub relinking: Mutex<()>,
}

#[derive(PartialEq, Eq, Hash)]
enum Recheck {
    File(PathBuf),
    Blob(Digest),
}

impl LocalBlobs {
    pub fn new(root: Arc<Root>, trust: Box<dyn Trust>) -> Self {
        Self { root, trust, racily_clean: Mutex::default(), relinking: Mutex::default() }
    }

    /// The path of a blob, which may be missing or damaged.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.place("blobs", digest)
    }

    /// The folder of a blob's name.
    pub fn shard(&self, digest: &Digest) -> Option<PathBuf> {
        self.path(digest).parent().map(Path::to_owned)
    }

    /// The bytes of a blob, verified; no more than `limit` of them.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::NotIntact(*digest)),
            file => file.during("read", &path)?,
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).during("read", &path)?;
        if bytes.len() as u64 > limit {
            let (what, limit) = (format!("blob {digest}"), format!("{limit} bytes"));
            return Err(StoreError::TooBig { what, limit });
        }
        if Digest::of_bytes(&bytes) == *digest {
            return Ok(bytes);
        }
        self.verify(digest)?;
        Err(StoreError::NotIntact(*digest))
    }

    /// The size of a blob if it is there and its bytes are those of its name; what is not is quarantined.
    pub fn verify(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        let meta = match fs::symlink_metadata(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            meta => meta.during("look at", &path)?,
        };
        let stat = Stat::of(&meta);
        if meta.is_file() {
            if self.trust.blob(digest, &stat) {
                return Ok(Some(stat.size));
            }
            if meta.permissions().mode() & 0o7777 != READ_ONLY {
                // Somebody changed it through a hard link; what fails here costs nothing but the protection.
                let _ = self.root.disk.set_mode(&path, READ_ONLY);
            }
            match check(&path, digest) {
                // Somebody else has found it damaged meanwhile, and quarantined it.
                Err(_) if !path.exists() => return Ok(None),
                checked => match checked? {
                    Checked::Still(hashed) => {
                        self.record(digest, hashed.stat, hashed.stat.last_change(), hashed.at);
                        return Ok(Some(hashed.stat.size));
                    }
                    Checked::Relinked(size) => return Ok(Some(size)),
                    Checked::Other => {}
                },
            }
        }
        self.quarantine(digest, &path, &stat);
        Ok(None)
    }

    /// As [`Self::verify`], but reads the bytes whatever the records say, and quarantines what the disk has lost.
    pub fn verify_bytes(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.trust.forget_blob(digest);
        let verified = self.verify(digest);
        if let Err(error) = &verified
            && error.is_lost()
            && let Ok(meta) = fs::symlink_metadata(self.path(digest))
        {
            // To be read again would fail again. Somebody else may make it, or have it.
            self.quarantine(digest, &self.path(digest), &Stat::of(&meta));
        }
        verified
    }

    /// The path of a blob that is intact.
    ///
    /// # Errors
    /// `NotIntact`, or the disk cannot be read.
    pub fn intact(&self, digest: &Digest) -> Result<PathBuf, StoreError> {
        self.verify(digest)?.map(|_| self.path(digest)).ok_or(StoreError::NotIntact(*digest))
    }

    /// Records that the blob's bytes were hashed `at` that time, when its last change was long enough ago.
    pub fn record(&self, digest: &Digest, stat: Stat, last_change: i64, at: i64) {
        if stat.racily_clean_for(last_change, at).is_none() {
            self.trust.record_blob(*digest, stat);
        } else {
            self.recheck(stat.size, || Recheck::Blob(*digest));
        }
    }

    /// Records the stat of a blob that was hashed under another name. To name it changed its ctime and
    /// nothing else, so the bytes are known by their mtime; else another has named the same bytes at the same time,
    /// or somebody has written to these.
    pub fn record_named(&self, digest: &Digest, hashed: &Hashed) -> Result<(), StoreError> {
        let stat = fs::symlink_metadata(self.path(digest)).map(|meta| Stat::of(&meta));
        match stat {
            Ok(stat) if stat.same_but_ctime(&hashed.stat) => {
                self.record(digest, stat, stat.mtime, hashed.at);
                Ok(())
            }
            _ => self.verify(digest)?.map(drop).ok_or(StoreError::NotIntact(*digest)),
        }
    }

    /// The digest of a plain file outside, whose stat is `stat`, by the records where that can be.
    pub fn identify_file(&self, path: &Path, stat: &Stat) -> Result<(Digest, u64), StoreError> {
        let path = std::path::absolute(path).during("find", path)?;
        if let Some(digest) = self.trust.file(&path, stat) {
            return Ok((digest, stat.size));
        }
        let hashed = hash(&path, Stat::last_change)?;
        self.record_file(&path, &hashed);
        Ok((hashed.digest, hashed.stat.size))
    }

    /// Records the digest of a file outside, by its absolute path.
    pub fn record_file(&self, path: &Path, hashed: &Hashed) {
        if hashed.stat.racily_clean_for(hashed.stat.last_change(), hashed.at).is_none() {
            self.trust.record_file(path, hashed.stat, hashed.digest);
        } else {
            self.recheck(hashed.stat.size, || Recheck::File(path.to_owned()));
        }
    }

    /// Hashes again the small files that were racily clean and no longer are, so that the next process need
    /// not.
    pub fn settle(&self) {
        let racily_clean = std::mem::take(&mut *unpoisoned(&self.racily_clean));
        for one in racily_clean {
            let path = match &one {
                Recheck::File(path) => path.clone(),
                Recheck::Blob(digest) => self.path(digest),
            };
            let now = stat::now();
            let Ok(before) = fs::metadata(&path).map(|meta| Stat::of(&meta)) else { continue };
            // What has grown is not hashed while others wait; a time in the future never settles.
            if before.size >= LARGE || before.last_change() > now {
                continue;
            }
            let too_soon = before.racily_clean_for(before.last_change(), now).is_some();
            let hashed = if too_soon { None } else { hash(&path, Stat::last_change).ok() };
            let Some(hashed) = hashed.filter(|hashed| hashed.stat == before) else {
                self.recheck(before.size, || one);
                continue;
            };
            match one {
                Recheck::File(path) => self.trust.record_file(&path, hashed.stat, hashed.digest),
                Recheck::Blob(digest) if hashed.digest == digest => {
                    self.trust.record_blob(digest, hashed.stat);
                }
                Recheck::Blob(_) => {}
            }
        }
    }

    fn recheck(&self, size: u64, one: impl FnOnce() -> Recheck) {
        let mut racily_clean = unpoisoned(&self.racily_clean);
        if size < LARGE && racily_clean.len() < MOST_RECHECKED {
            racily_clean.insert(one());
        }
    }

    /// Moves a damaged blob out of the way, unless it was replaced meanwhile.
    fn quarantine(&self, digest: &Digest, path: &Path, seen: &Stat) {
        self.trust.forget_blob(digest);
        let now = fs::symlink_metadata(path).map(|meta| Stat::of(&meta));
        if !now.is_ok_and(|now| (now.dev, now.ino) == (seen.dev, seen.ino)) {
            return;
        }
        let folder = self.root.path().join("work/quarantine");
        let aside = folder.join(format!("{digest}-{:x}", stat::now()));
        let disk = &*self.root.disk;
        match make_durable_folders(disk, &folder).and_then(|()| disk.rename(path, &aside)) {
            Ok(()) => {
                tracing::warn!("the blob {} was damaged and is now {}", digest.short(), aside.display());
            }
            Err(e) => tracing::warn!("the blob {digest} is damaged and cannot be put aside: {e}"),
        }
    }

    /// Keeps the bytes of a file as a blob, for good; gives what they are. The file stays as it is.
    pub fn keep_copy(&self, file: &Path) -> Result<Hashed, StoreError> {
        let disk = &*self.root.disk;
        let mut temporary = self.root.temporary()?;
        if disk.reflink(file, &temporary).is_err() {
            disk.copy(file, &temporary).during("copy", file)?;
        }
        disk.set_mode(&temporary, READ_ONLY).during("protect", &temporary)?;
        let hashed = hash(&temporary, |stat| stat.mtime)?;
        let (blob, mut shards) = (self.path(&hashed.digest), BTreeSet::new());
        shards.extend(self.shard(&hashed.digest));
        if self.verify(&hashed.digest)?.is_none() {
            self.root.sync(&[MustLast::Bytes(temporary.to_owned())])?;
            temporary
                .name(|path| self.root.name_in_shard(&blob, &mut shards, || disk.rename(path, &blob)))?;
            self.record_named(&hashed.digest, &hashed)?;
        }
        self.root.sync_names(&shards)?;
        Ok(hashed)
    }
}

impl BlobStore for LocalBlobs {
    fn exists(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.verify(digest)
    }

    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let path = self.path(digest);
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(Box::new(file.during("read", &path)?))),
        }
    }

    fn put(&self, digest: &Digest, file: &Path) -> Result<(), StoreError> {
        if self.verify(digest)?.is_some() {
            return self.root.sync_names(&self.shard(digest).into_iter().collect());
        }
        let kept = self.keep_copy(file)?.digest;
        if kept == *digest { Ok(()) } else { Err(StoreError::NotIntact(*digest)) }
    }

    fn list(&self, each: &mut dyn FnMut(Digest) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.root.list("blobs", each)
    }
}
