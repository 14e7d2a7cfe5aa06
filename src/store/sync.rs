//! What must last.
//!
//! Purpose: put bytes and names on the disk for good, one by one or the whole disk at once, and know
//! which folders need no second look.
//! Invariant: what was asked for, as far as it is still there, is on the disk for good when a call here
//! returns well.
//! Must not know: what the files are, why they must last.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{During, StoreError};
use super::store::{Store, unpoisoned};

/// From this many things on the whole disk is synced at once. (A sync took .2 to .5 ms, one of the whole
/// disk .4 ms and little more for each file; but it waits for what others wrote, too.)
const MANY: usize = 5;

/// Something that must last.
pub(super) enum Lasting {
    /// The bytes of a file.
    Bytes(PathBuf),
    /// The names in a folder.
    Names(PathBuf),
}

impl Store {
    /// Puts all this on the disk for good.
    pub(super) fn make_last(&self, things: &[Lasting]) -> Result<(), StoreError> {
        if things.len() >= MANY {
            return self.disk.sync_everything(self.root()).during("sync", self.root());
        }
        things.iter().try_for_each(|thing| match thing {
            Lasting::Bytes(file) => match self.disk.sync(file) {
                // Somebody removed it; that is the error of whoever wants to name it, and of no other.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                synced => synced.during("sync", file),
            },
            Lasting::Names(folder) => self.disk.sync_folder(folder).during("sync", folder),
        })
    }

    /// Puts the names in these shards on the disk for good.
    pub(super) fn make_names_last(&self, shards: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
        // Another thread or process may have made a shard and not have synced its own name yet.
        let known = unpoisoned(&self.lasting_shards);
        let new = shards.iter().filter(|shard| !known.contains(*shard));
        let above: BTreeSet<&Path> = new.filter_map(|shard| shard.parent()).collect();
        drop(known);
        let folders = above.into_iter().chain(shards.iter().map(PathBuf::as_path));
        self.make_last(&folders.map(|folder| Lasting::Names(folder.to_owned())).collect::<Vec<_>>())?;
        unpoisoned(&self.lasting_shards).extend(shards.iter().cloned());
        Ok(())
    }

    /// Gives something its name `place`, in a shard that is made where it is missing and added to
    /// `shards`; its own name need not last yet.
    pub(super) fn in_shard(
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
        unpoisoned(&self.lasting_shards).remove(shard);
        match std::fs::create_dir(shard) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.disk.make_folder(shard),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && shard.is_dir() => Ok(()),
            made => made,
        }
        .during("make", shard)?;
        name().during("name", place)
    }
}
