//! Who runs a stage at the moment.
//!
//! Purpose: two runners that share a remote do not run the same action at the same time: one has the lease, the other
//! one waits for its result.
//! Invariant: a lease only saves work. Nothing depends on it: a holder that was suspended may run an action a second
//! time, and the result is the same or is told to be another one. It is created where there is none, refreshed in place
//! of what its holder wrote last, and taken over only when it stood still on the clock of whoever watches it. In a folder
//! it is a lock of the file system, which ends with the process that holds it.
//! Must not know: how a stage runs.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::heartbeat::STANDSTILL;
use crate::cas::remote::error::RemoteError;
use crate::cas::remote::object::Remote;
use crate::digest::Digest;

/// The folder of leases.
pub(in crate::cas::remote) const LEASES: &str = "leases";
/// The most bytes of a lease.
const MOST_BYTES: u64 = 64 << 10;
/// How often its holder refreshes it.
const EVERY: Duration = Duration::from_secs(15);
/// How often the name of a holder is looked for in a file that it has just locked, and the time between.
const NAME_TRIES: usize = 20;
const NAME_EVERY: Duration = Duration::from_millis(5);

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    holder: String,
    /// It differs each time that it is written.
    beat: u64,
}

/// What came of asking for a lease.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Ours(Lease),
    /// This one has it.
    Theirs(String),
}

/// The lease of an action; it is given back when it is dropped.
#[derive(Debug)]
pub struct Lease(Kind);

#[derive(Debug)]
enum Kind {
    /// It is refreshed in the background, and removed when this ends.
    Object(Option<tokio::sync::oneshot::Sender<()>>),
    /// The file is locked.
    File { file: File, path: PathBuf },
}

/// The leases of others that were seen, and since when they stand still.
#[derive(Debug, Default)]
pub(in crate::cas::remote) struct Seen(HashMap<Digest, (UpdateVersion, Instant)>);

/// A version of a lease. `UpdateVersion` has no equality.
fn is_same(a: &UpdateVersion, b: &UpdateVersion) -> bool {
    a.e_tag == b.e_tag && a.version == b.version
}

impl Remote {
    /// Asks for the lease of an action. With one of ours comes the task that ends when it was given back.
    pub(in crate::cas::remote) async fn claim(
        self: &Arc<Self>,
        key: &Digest,
        holder: &str,
        seen: &std::sync::Mutex<Seen>,
    ) -> Result<(Claim, Option<JoinHandle<()>>), RemoteError> {
        self.check_alive()?;
        let theirs = |who: String| Ok((Claim::Theirs(who), None));
        let path = self.at(&[LEASES, &key.to_string()]);
        if let Some(file) = self.address.file(&path) {
            let claim = claim_file(&file, holder).map_err(|e| {
                let error = Error::Generic { store: "file", source: e.into() };
                self.refused("take a lease", &error)
            });
            return Ok((claim?, None));
        }
        let ours = Holder { holder: holder.to_owned(), beat: fastrand::u64(..) };
        match self.store.put_opts(&path, payload(&ours), PutMode::Create.into()).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(error) => return Err(self.refused("take a lease", &error)),
            Ok(put) => return Ok(self.hold(path, holder.to_owned(), put.into())),
        }
        let Some((version, known)) = self.holder_of(&path).await? else {
            return theirs("another runner".to_owned());
        };
        if known.as_ref() == Some(&ours) {
            // It was created, and the answer was lost.
            return Ok(self.hold(path, holder.to_owned(), version));
        }
        let who = known.map_or_else(|| "another runner".to_owned(), |known| known.holder);
        if !self.stands_still(key, &version, seen) {
            return theirs(who);
        }
        let put = self.store.put_opts(&path, payload(&ours), PutMode::Update(version).into()).await;
        match put {
            // Somebody was faster, or its holder is alive after all.
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => theirs(who),
            Err(error) => Err(self.refused("take a lease over", &error)),
            Ok(put) => Ok(self.hold(path, holder.to_owned(), put.into())),
        }
    }

    /// The version of a lease, and its holder if it can be read; none when there is none any more.
    async fn holder_of(
        &self,
        path: &ObjectPath,
    ) -> Result<Option<(UpdateVersion, Option<Holder>)>, RemoteError> {
        let got = match self.store.get(path).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|error| self.refused("read a lease", &error))?,
        };
        let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        if got.meta.size > MOST_BYTES {
            return Ok(Some((version, None)));
        }
        let mut body = got.into_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next(&mut body, "read a lease").await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some((version, serde_json::from_slice(&bytes).ok())))
    }

    fn stands_still(&self, key: &Digest, version: &UpdateVersion, seen: &std::sync::Mutex<Seen>) -> bool {
        let mut seen = crate::cas::unpoisoned(seen);
        let known = seen.0.entry(*key).or_insert_with(|| (version.clone(), Instant::now()));
        if !is_same(&known.0, version) {
            *known = (version.clone(), Instant::now());
        }
        known.1.elapsed() >= STANDSTILL
    }

    /// Refreshes a lease in the background until it is given back.
    fn hold(
        self: &Arc<Self>,
        path: ObjectPath,
        holder: String,
        mut version: UpdateVersion,
    ) -> (Claim, Option<JoinHandle<()>>) {
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let remote = Arc::clone(self);
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut ended => break,
                    () = sleep(EVERY) => {}
                }
                let content = payload(&Holder { holder: holder.clone(), beat: fastrand::u64(..) });
                match remote.store.put_opts(&path, content, PutMode::Update(version.clone()).into()).await {
                    Ok(put) => version = put.into(),
                    // It is somebody else's now: both run, and the results are compared.
                    Err(Error::Precondition { .. } | Error::NotFound { .. }) => return,
                    Err(error) => tracing::debug!("a lease was not refreshed: {error}"),
                }
            }
            if let Err(error) = remote.store.delete(&path).await {
                tracing::debug!("a lease was not removed: {error}");
            }
        });
        (Claim::Ours(Lease(Kind::Object(Some(end)))), Some(task))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.0 {
            Kind::Object(end) => {
                let _ = end.take().map(|end| end.send(()));
            }
            // Removed while it is held, and only if it is ours.
            Kind::File { file, path } if is_at(file, path) => {
                let _ = std::fs::remove_file(path);
            }
            Kind::File { .. } => {}
        }
    }
}

fn payload(holder: &Holder) -> PutPayload {
    PutPayload::from_bytes(serde_json::to_vec(holder).unwrap_or_default().into())
}

fn claim_file(path: &Path, holder: &str) -> std::io::Result<Claim> {
    let folder = path.parent().unwrap_or(path);
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        made => made?,
    }
    // Whoever can write the remote must not choose which file is written.
    if !std::fs::symlink_metadata(folder)?.is_dir() {
        return Err(std::io::Error::other(format!("{} is no folder", folder.display())));
    }
    loop {
        let opened = open_plain(path, File::options().read(true).write(true).create(true));
        let mut file = match opened {
            // Another user has left it, or holds it.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                let file = open_plain(path, File::options().read(true))?;
                match file.try_lock() {
                    Err(TryLockError::WouldBlock) => return Ok(Claim::Theirs(holder_in(&file))),
                    Err(TryLockError::Error(error)) => return Err(error),
                    Ok(()) => std::fs::remove_file(path)?,
                }
                continue;
            }
            opened => opened?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(Claim::Theirs(holder_in(&file))),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        // The one before us removed the file while we opened it: ours locks nothing.
        if !is_at(&file, path) {
            continue;
        }
        // The one before us may have left its own; what is none is not ours to write.
        let mut text = String::new();
        (&file).take(MOST_BYTES).read_to_string(&mut text)?;
        if !text.is_empty() && serde_json::from_str::<Holder>(&text).is_err() {
            return Err(std::io::Error::other(format!("{} is no lease", path.display())));
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&Holder { holder: holder.to_owned(), beat: 0 })?)?;
        return Ok(Claim::Ours(Lease(Kind::File { file, path: path.to_owned() })));
    }
}

/// Opens a plain file, and no link, whoever can write the folder; a FIFO is not waited for.
///
/// # Errors
/// It is something else, or the disk refuses.
pub(in crate::cas::remote) fn open_plain(path: &Path, how: &OpenOptions) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = how.clone().custom_flags(flags.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other(format!("{} is no plain file", path.display()))),
    }
}

/// Who is named in the lock file of a lease. Its holder writes the name after it has locked the file.
fn holder_in(mut file: &File) -> String {
    for _ in 0..NAME_TRIES {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.take(MOST_BYTES).read_to_string(&mut text));
        if let (Ok(_), Ok(Holder { holder, .. })) = (read, serde_json::from_str(&text)) {
            return holder;
        }
        std::thread::sleep(NAME_EVERY);
    }
    "another runner".to_owned()
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}
