//! The folder of a local store, and what must be durable in it.
//!
//! Purpose: say where things lie, give temporary files, and put bytes and names on the disk for good, one by one
//! or the whole disk at once.
//! Invariant: what was asked to be durable, as far as it is still there, is on the disk for good when a call
//! here returns well; nothing is written before the format of the store was checked.
//! Must not know: what the files are, why they must be durable.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::temporary::{Temporary, sweep};
use crate::cas::disk::{Disk, make_durable_folders};
use crate::cas::error::{During, SYNC, StoreError};
use crate::cas::{format, stat};
use crate::digest::Digest;

/// From this many things on the whole disk is synced at once. (A sync took .2 to .5 ms, one of the whole
/// disk .4 ms and little more for each file; but it waits for what others wrote, too.)
const MANY: usize = 5;

/// The folder of a store.
pub(in crate::cas) struct Root {
    path: PathBuf,
    pub disk: Arc<dyn Disk>,
    prepared: OnceLock<()>,
    temporaries: AtomicU64,
    /// Shards whose own names are durable.
    durable_shards: Mutex<HashSet<PathBuf>>,
}

/// Something that must be durable.
pub(in crate::cas) enum MustLast {
    /// The bytes of a file.
    Bytes(PathBuf),
    /// The names in a folder.
    Names(PathBuf),
}

impl Root {
    pub fn new(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        let (prepared, temporaries, durable_shards) = Default::default();
        Self { path, disk, prepared, temporaries, durable_shards }
    }

    /// The folder, an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder and its marks, at the first call.
    pub fn prepare(&self) -> Result<(), StoreError> {
        if self.prepared.get().is_none() {
            format::prepare(&*self.disk, &self.path)?;
            let _ = self.prepared.set(());
        }
        Ok(())
    }

    /// Where a name of the kind `blobs` or `actions` lies: `kind/ab/cd..`.
    pub fn place(&self, kind: &str, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.path.join(kind).join(&hex[..2]).join(&hex[2..])
    }

    /// Gives the digest of each name of the kind `blobs` or `actions`, in no order.
    pub fn list(
        &self,
        kind: &str,
        each: &mut dyn FnMut(Digest) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let folder = self.path.join(kind);
        for shard in entries(&folder)? {
            for name in entries(&folder.join(&shard))? {
                if let Ok(digest) = format!("{shard}{name}").parse() {
                    each(digest)?;
                }
            }
        }
        Ok(())
    }

    /// A path for a temporary file on the disk of the store; its folder is there.
    pub fn temporary(&self) -> Result<Temporary, StoreError> {
        self.temporary_named("")
    }

    /// A path for a file that becomes this blob and takes long to come. It stays when it is not finished.
    pub fn partial(&self, blob: &Digest) -> Result<Temporary, StoreError> {
        Ok(self.temporary_named(&format!("{blob}-"))?.that_stays())
    }

    /// The files that were to become this blob and were not finished, the largest first.
    pub fn partials(&self, blob: &Digest) -> Vec<PathBuf> {
        let prefix = format!("{blob}-");
        let entries = std::fs::read_dir(self.path.join("work/tmp")).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        let mut found: Vec<_> =
            named.filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path()))).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, path)| path).collect()
    }

    fn temporary_named(&self, prefix: &str) -> Result<Temporary, StoreError> {
        self.prepare()?;
        let folder = self.path.join("work/tmp");
        let n = self.temporaries.fetch_add(1, Ordering::Relaxed);
        make_durable_folders(&*self.disk, &folder).during("make", &folder)?;
        if n == 0 {
            sweep(&*self.disk, &folder);
        }
        // The time keeps apart two processes of one number on two machines.
        let path = folder.join(format!("{prefix}{}-{:x}-{n}", std::process::id(), stat::now()));
        Ok(Temporary::at(path, Arc::clone(&self.disk)))
    }

    /// Puts all this on the disk for good.
    pub fn sync(&self, things: &[MustLast]) -> Result<(), StoreError> {
        if things.len() >= MANY {
            return self.disk.sync_everything(&self.path).during(SYNC, &self.path);
        }
        things.iter().try_for_each(|thing| match thing {
            MustLast::Bytes(file) => match self.disk.sync(file) {
                // Somebody removed it; that is the error of whoever wants to name it, and of no other.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                synced => synced.during(SYNC, file),
            },
            MustLast::Names(folder) => self.disk.sync_folder(folder).during(SYNC, folder),
        })
    }

    /// Puts the names in these shards on the disk for good.
    pub fn sync_names(&self, shards: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
        // Another thread or process may have made a shard and not have synced its own name yet.
        let known = unpoisoned(&self.durable_shards);
        let new = shards.iter().filter(|shard| !known.contains(*shard));
        let above: BTreeSet<&Path> = new.filter_map(|shard| shard.parent()).collect();
        drop(known);
        let folders = above.into_iter().chain(shards.iter().map(PathBuf::as_path));
        self.sync(&folders.map(|folder| MustLast::Names(folder.to_owned())).collect::<Vec<_>>())?;
        unpoisoned(&self.durable_shards).extend(shards.iter().cloned());
        Ok(())
    }

    /// Gives something its name `place`, in a shard that is made where it is missing and added to `shards`; its
    /// own name need not be durable yet.
    pub fn name_in_shard(
        &self,
        place: &Path,
        shards: &mut BTreeSet<PathBuf>,
        name: impl Fn() -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let Some(shard) = place.parent() else { return name().during("name", place) };
        shards.insert(shard.to_owned());
        match name() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            named => return named.during("name", place),
        }
        // It was never there, or somebody has removed it.
        unpoisoned(&self.durable_shards).remove(shard);
        match self.disk.create_folder(shard) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_durable_folders(&*self.disk, shard),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && shard.is_dir() => Ok(()),
            made => made,
        }
        .during("make", shard)?;
        name().during("name", place)
    }
}

/// The names in a folder that are text; none when it is not there.
fn entries(folder: &Path) -> Result<Vec<String>, StoreError> {
    match fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        entries => {
            let names = entries.during("list", folder)?.flatten().map(|entry| entry.file_name());
            Ok(names.filter_map(|name| name.into_string().ok()).collect())
        }
    }
}

/// A thread that panicked leaves what is locked here whole: each change is a single insertion.
pub(crate) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
