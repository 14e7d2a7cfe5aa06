//! What killed runners leave in a remote that is a folder.
//!
//! Purpose: find and remove the halves of objects, `NAME#1`, which `object_store` writes before it gives an object its
//! name and never lists, and the lock files of leases.
//! Invariant: a lease that somebody holds stays. Nothing else in the folder is looked at.
//! Must not know: what is garbage.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use object_store::ObjectMeta;
use object_store::path::Path as ObjectPath;

use crate::cas::remote::claims::{COLLECTORS, INTENTS, LEASES, open_plain};
use crate::cas::remote::folder::{is_half, object_of};
use crate::cas::remote::gc::pins::PINS;
use crate::cas::remote::object::Remote;
use crate::digest::Digest;

/// Where objects are written.
const KINDS: [&str; 9] =
    ["actions", "blobs", "recipes", "packs", "renewed", "probes", PINS, INTENTS, COLLECTORS];

/// What was left in the folder, if the remote is one: what may still be written is among it, and so are leases.
pub(super) async fn unfinished(remote: &Remote) -> Vec<ObjectMeta> {
    look(remote, KINDS.into_iter().chain([LEASES]).collect()).await
}

/// The objects that are being written to the folder, if the remote is one, or that killed runners left halfway.
pub(in crate::cas::remote) async fn halves(remote: &Remote) -> Vec<ObjectMeta> {
    look(remote, KINDS.to_vec()).await
}

async fn look(remote: &Remote, kinds: Vec<&str>) -> Vec<ObjectMeta> {
    let folders = kinds.into_iter().filter_map(|kind| {
        let place = remote.at(&[kind]);
        Some((remote.address.file(&place)?, place, kind == LEASES))
    });
    let folders: Vec<_> = folders.collect();
    let found = tokio::task::spawn_blocking(move || {
        folders.into_iter().flat_map(|(folder, place, leases)| in_folder(&folder, &place, leases)).collect()
    });
    // It never panics, and is not ended.
    found.await.unwrap_or_default()
}

/// What was left in a folder of objects. One that is not there, or gives no names, has nothing.
fn in_folder(folder: &Path, place: &ObjectPath, leases: bool) -> Vec<ObjectMeta> {
    if !fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir()) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_half(name) || leases && is_digest(name)) else {
            continue;
        };
        let (Ok(location), Ok(meta)) = (ObjectPath::parse(format!("{place}/{name}")), entry.metadata())
        else {
            continue;
        };
        found.extend(object_of(location, &meta));
    }
    found
}

/// The file of such a thing; none for an object.
pub(super) fn unfinished_file(remote: &Remote, location: &ObjectPath) -> Option<PathBuf> {
    let name = location.filename()?;
    let is_lease = location.prefix_matches(&remote.at(&[LEASES]));
    remote.address.file(location).filter(|_| is_half(name) || is_lease)
}

/// Removes a file unless somebody has locked it; says whether it did.
///
/// # Errors
/// The disk refuses.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(false),
        _ => Err(error),
    };
    let file = match open_plain(path, File::options().read(true)) {
        Ok(file) => file,
        Err(error) => return gone(error),
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    fs::remove_file(path).map(|()| true).or_else(gone)
}

fn is_digest(name: &str) -> bool {
    name.parse::<Digest>().is_ok()
}
