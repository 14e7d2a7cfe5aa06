//! What a runner and a job tell each other.
//!
//! Purpose: small files by name below the folder of a key: the request, what happened so far, how it ended. They lie in
//! the store that both share, or in a remote.
//! Invariant: a file is whole or not there; what is read is bounded. Nothing here makes a result: results are actions.
//! Must not know: what the files say.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::cas::Store;
use crate::cas::disk::{self, Os, make_durable_folders, remove_tree};
use crate::cas::remote::RemoteError;
use crate::digest::Digest;

/// Where the files of a key are.
#[derive(Clone)]
pub struct Mail {
    key: Digest,
    place: Place,
}

#[derive(Clone)]
enum Place {
    /// A folder of the store that both share.
    Folder(PathBuf),
    /// A remote of this store.
    Remote { store: Arc<Store>, name: String },
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The disk refuses.
    #[error("cannot exchange {what} with the job: {source}")]
    Disk {
        /// The file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The remote refuses.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl Mail {
    /// In the store itself, which both share.
    pub fn in_store(store: &Store, key: &Digest) -> Self {
        Self { key: *key, place: Place::Folder(super::intent::folder(store, key)) }
    }

    /// In a remote of the store.
    pub fn in_remote(store: Arc<Store>, name: &str, key: &Digest) -> Self {
        Self { key: *key, place: Place::Remote { store, name: name.to_owned() } }
    }

    /// Whether to ask costs a request.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Remote { .. })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The disk or the remote refuses.
    pub fn put(&self, parts: &[&str], bytes: Vec<u8>) -> Result<(), MailError> {
        match &self.place {
            Place::Folder(folder) => {
                let path = parts.iter().fold(folder.clone(), |path, part| path.join(part));
                let made = path.parent().map_or(Ok(()), |above| make_durable_folders(&Os::default(), above));
                made.and_then(|()| disk::replace(&path, &bytes)).map_err(|e| failed(parts, e))
            }
            Place::Remote { store, name } => {
                remotes(store, name)?.put_job(name, &self.parts(parts), bytes)?;
                Ok(())
            }
        }
    }

    /// A file of no more than `most` bytes; none when it is not there.
    ///
    /// # Errors
    /// It is larger, or the disk or the remote refuses.
    pub fn get(&self, parts: &[&str], most: u64) -> Result<Option<Vec<u8>>, MailError> {
        match &self.place {
            Place::Folder(folder) => {
                let path = parts.iter().fold(folder.clone(), |path, part| path.join(part));
                bounded(&path, most).map_err(|e| failed(parts, e))
            }
            Place::Remote { store, name } => {
                Ok(remotes(store, name)?.get_job(name, &self.parts(parts), most)?)
            }
        }
    }

    /// Writes a large file.
    ///
    /// # Errors
    /// The file cannot be read, or the disk or the remote refuses.
    pub fn put_file(&self, parts: &[&str], file: &Path) -> Result<(), MailError> {
        match &self.place {
            Place::Folder(_) => self.put(parts, fs::read(file).map_err(|e| failed(parts, e))?),
            Place::Remote { store, name } => {
                remotes(store, name)?.put_job_file(name, &self.parts(parts), file)?;
                Ok(())
            }
        }
    }

    /// Reads a large file into `sink`; false when it is not there.
    ///
    /// # Errors
    /// It has more than `most` bytes, the sink refuses, or the disk or the remote does.
    pub fn get_file(&self, parts: &[&str], most: u64, sink: &mut dyn Write) -> Result<bool, MailError> {
        match &self.place {
            Place::Folder(_) => match self.get(parts, most)? {
                Some(bytes) => sink.write_all(&bytes).map(|()| true).map_err(|e| failed(parts, e)),
                None => Ok(false),
            },
            Place::Remote { store, name } => {
                let got = remotes(store, name)?.get_job_file(name, &self.parts(parts), most, sink)?;
                Ok(got.is_some())
            }
        }
    }

    /// Removes everything below these parts.
    ///
    /// # Errors
    /// The disk or the remote refuses.
    pub fn remove(&self, parts: &[&str]) -> Result<(), MailError> {
        match &self.place {
            Place::Folder(folder) => {
                let path = parts.iter().fold(folder.clone(), |path, part| path.join(part));
                remove_tree(&path).map_err(|e| failed(parts, e))
            }
            Place::Remote { store, name } => {
                remotes(store, name)?.remove_job(name, &self.parts(parts))?;
                Ok(())
            }
        }
    }

    fn parts<'a>(&'a self, parts: &[&'a str]) -> Vec<String> {
        [self.key.to_string()].into_iter().chain(parts.iter().map(|part| (*part).to_owned())).collect()
    }
}

fn remotes<'a>(store: &'a Store, name: &str) -> Result<&'a crate::cas::remote::Remotes, RemoteError> {
    store.remotes().ok_or_else(|| RemoteError::Open {
        remote: name.to_owned(),
        why: "remotes are not used in this call (`--offline`)".to_owned(),
    })
}

fn failed(parts: &[&str], source: io::Error) -> MailError {
    MailError::Disk { what: parts.join("/"), source }
}

/// The bytes of a plain file, if it is there.
///
/// # Errors
/// It has more than `most` bytes, is no plain file, or the disk refuses.
pub(super) fn bounded(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    // Whoever may write here may put something else in the place of a file.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it has more than {most} bytes"))),
        false => Ok(Some(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::tests::place;

    #[test]
    fn what_is_no_plain_file_is_no_word_of_a_job_and_holds_up_nobody() {
        let p = place();
        let mail = Mail::in_store(&p.store, &Digest::of_bytes(b"key"));
        mail.put(&["0123abcd", "end.json"], b"{}".to_vec()).unwrap();
        assert_eq!(mail.get(&["0123abcd", "end.json"], 2).unwrap(), Some(b"{}".to_vec()));
        assert!(mail.get(&["0123abcd", "end.json"], 1).is_err(), "it is too long");
        assert_eq!(mail.get(&["0123abcd", "said"], 9).unwrap(), None);
        let folder = super::super::intent::folder(&p.store, &Digest::of_bytes(b"key")).join("0123abcd");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), mode).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join("link")).unwrap();
        for name in ["pipe", "link"] {
            assert!(mail.get(&["0123abcd", name], 9).is_err(), "{name}");
        }
    }
}
