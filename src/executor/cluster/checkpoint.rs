//! Checkpoints that outlive the node of a job.
//!
//! Purpose: where a job has a store of its own, what its stage leaves for the next attempt goes to the remote, at intervals
//! and when the job is stopped; a job of the same key on another node begins with it.
//! Invariant: a checkpoint is taken over whole or not at all: its files are complete before the list that names them, and
//! each is compared with its digest. One that cannot be had costs time and nothing else.
//! Must not know: what is in a checkpoint; whoever reads it judges whether it fits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mail::{Mail, MailError};
use crate::cas::disk::remove_tree;
use crate::digest::{Digest, Hasher};
use crate::executor::scratch::Scratch;

/// The folder of all checkpoints of a key.
const FOLDER: &str = "checkpoint";
/// The name of the list.
const LIST: &str = "list.json";
/// The most bytes of a list.
const MOST_LIST: u64 = 4 << 20;
/// The most files of a checkpoint, and the deepest folder in it.
const MOST_FILES: usize = 10_000;
const MOST_DEPTH: usize = 32;

/// Why a checkpoint could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The remote refuses.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The disk refuses.
    #[error("cannot read or write a checkpoint: {0}")]
    Disk(#[from] io::Error),
    /// It is not what its list says.
    #[error("a checkpoint is not what it should be: {0}")]
    Wrong(String),
}

/// The files of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct List {
    /// The part of the names of its objects that no other checkpoint has.
    number: String,
    files: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Listed {
    path: String,
    size: u64,
    digest: Digest,
}

/// What was sent last.
#[derive(Default)]
pub struct Sent {
    seen: Vec<(String, u64, i64)>,
    number: Option<String>,
}

impl Sent {
    /// Sends the checkpoint of a stage, if it changed since it was sent last; false when it did not, or is being written.
    ///
    /// # Errors
    /// The disk or the remote refuses.
    pub fn send(&mut self, mail: &Mail, scratch: &Scratch) -> Result<bool, CheckpointError> {
        let folder = scratch.checkpoint();
        let seen = look(&folder)?;
        if seen.is_empty() || seen == self.seen {
            return Ok(false);
        }
        let number = super::intent::submission(&Digest::of_bytes(format!("{seen:?}").as_bytes()));
        let mut files = Vec::new();
        for (at, (path, ..)) in seen.iter().enumerate() {
            let file = folder.join(path);
            let (digest, size) = digest_of(&file)?;
            mail.put_file(&[FOLDER, &number, &at.to_string()], &file)?;
            files.push(Listed { path: path.clone(), size, digest });
        }
        // It was written to meanwhile: what was sent may be of two checkpoints.
        if look(&folder)? != seen {
            mail.remove(&[FOLDER, &number])?;
            return Ok(false);
        }
        let list = serde_json::to_vec(&List { number: number.clone(), files }).map_err(io::Error::from)?;
        mail.put(&[FOLDER, LIST], list)?;
        if let Some(before) = self.number.replace(number) {
            mail.remove(&[FOLDER, &before])?;
        }
        self.seen = seen;
        Ok(true)
    }
}

/// Makes the checkpoint that an earlier job of the key has sent that of this scratch folder; false when there is none.
///
/// # Errors
/// The disk or the remote refuses, or it is not what its list says; nothing is left of it then.
pub fn receive(mail: &Mail, scratch: &Scratch) -> Result<bool, CheckpointError> {
    let Some(bytes) = mail.get(&[FOLDER, LIST], MOST_LIST)? else { return Ok(false) };
    let list: List = serde_json::from_slice(&bytes).map_err(|e| CheckpointError::Wrong(e.to_string()))?;
    let fits = list.files.len() <= MOST_FILES && super::intent::is_submission(&list.number);
    if !fits || !list.files.iter().all(|file| is_plain(&file.path)) {
        return Err(CheckpointError::Wrong("its list names what cannot be".to_owned()));
    }
    let coming = scratch.root().join("checkpoint-coming");
    remove_tree(&coming)?;
    fs::create_dir_all(&coming)?;
    let (bytes, free) = (list.bytes(), free_bytes(&coming)?);
    if bytes.is_none_or(|bytes| bytes > free) {
        remove_tree(&coming)?;
        return Err(CheckpointError::Wrong(format!("it needs more than the {free} bytes that are free")));
    }
    let received = receive_files(mail, &list, &coming);
    if received.is_err() {
        let _ = remove_tree(&coming);
    }
    received?;
    remove_tree(&scratch.checkpoint())?;
    fs::rename(&coming, scratch.checkpoint())?;
    Ok(true)
}

impl List {
    /// The bytes of all files.
    fn bytes(&self) -> Option<u64> {
        self.files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size))
    }
}

/// How many bytes a disk has left.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn receive_files(mail: &Mail, list: &List, folder: &Path) -> Result<(), CheckpointError> {
    for (at, file) in list.files.iter().enumerate() {
        let to = folder.join(&file.path);
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut sink = Hashing { file: File::create(&to)?, hasher: Hasher::default() };
        let there = mail.get_file(&[FOLDER, &list.number, &at.to_string()], file.size, &mut sink)?;
        if !there || sink.hasher.finish().0 != file.digest {
            return Err(CheckpointError::Wrong(format!("`{}` is missing or has other bytes", file.path)));
        }
    }
    Ok(())
}

/// The plain files of a checkpoint with their sizes and times, by path.
fn look(folder: &Path) -> io::Result<Vec<(String, u64, i64)>> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = folders.pop() {
        let entries = match fs::read_dir(folder.join(&below)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = below.join(entry.file_name());
            // What is gone again, is being written.
            let Ok(meta) = entry.metadata() else { continue };
            let other = || io::Error::other(format!("`{}` cannot be sent", path.display()));
            if meta.is_dir() && depth < MOST_DEPTH {
                folders.push((path, depth + 1));
            } else if meta.is_file() && found.len() < MOST_FILES {
                let text = path.to_str().ok_or_else(other)?;
                found.push((text.to_owned(), meta.len(), crate::cas::Stat::of(&meta).mtime));
            } else {
                // A part of a checkpoint is none.
                return Err(other());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn digest_of(file: &Path) -> io::Result<(Digest, u64)> {
    let mut hashing = Hashing { file: io::sink(), hasher: Hasher::default() };
    io::copy(&mut File::open(file)?, &mut hashing)?;
    Ok(hashing.hasher.finish())
}

/// Whether a path is relative and stays below.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

struct Hashing<W> {
    file: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cas::tests::{Place, place};

    fn scratch(p: &Place, name: &str) -> Scratch {
        let scratch = Scratch::at(p.path(name));
        fs::create_dir_all(scratch.checkpoint()).unwrap();
        scratch
    }

    #[test]
    fn a_checkpoint_goes_to_another_node_whole_or_not_at_all() {
        let p = place();
        let mail = Mail::in_store(&p.store, &Digest::of_bytes(b"key"));
        let (here, there) = (scratch(&p, "here"), scratch(&p, "there"));
        assert!(!receive(&mail, &there).unwrap(), "there is none yet");
        p.file("here/checkpoint/deep/state", "step 7");
        p.file("here/checkpoint/count", "7");
        let mut sent = Sent::default();
        assert!(sent.send(&mail, &here).unwrap() && !sent.send(&mail, &here).unwrap(), "it is sent once");
        assert!(receive(&mail, &there).unwrap());
        assert_eq!(fs::read_to_string(there.checkpoint().join("deep/state")).unwrap(), "step 7");
        p.file("here/checkpoint/deep/state", "step 8, longer");
        assert!(sent.send(&mail, &here).unwrap());
        // Somebody else has written to the files that the list names.
        let folder = super::super::intent::folder(&p.store, &Digest::of_bytes(b"key")).join(FOLDER);
        let number = fs::read_dir(&folder).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
        fs::write(number.path().join("1"), "step 9, longer").unwrap();
        assert!(matches!(receive(&mail, &there), Err(CheckpointError::Wrong(_))));
        assert_eq!(
            fs::read_to_string(there.checkpoint().join("deep/state")).unwrap(),
            "step 7",
            "it keeps what it had"
        );
    }

    #[test]
    fn a_list_of_more_bytes_than_the_disk_has_is_refused_before_anything_is_received() {
        let p = place();
        let mail = Mail::in_store(&p.store, &Digest::of_bytes(b"key"));
        let there = scratch(&p, "there");
        for sizes in [vec![1 << 60], vec![u64::MAX, u64::MAX]] {
            let file = |size| Listed { path: format!("{size}"), size, digest: Digest::of_bytes(b"x") };
            let list = List { number: "0123abcd".to_owned(), files: sizes.into_iter().map(file).collect() };
            mail.put(&[FOLDER, LIST], serde_json::to_vec(&list).unwrap()).unwrap();
            let refused = receive(&mail, &there).unwrap_err().to_string();
            assert!(refused.contains("bytes that are free"), "{refused}");
        }
    }

    #[test]
    fn a_list_that_leads_out_is_refused() {
        let p = place();
        let mail = Mail::in_store(&p.store, &Digest::of_bytes(b"key"));
        let there = scratch(&p, "there");
        for path in ["../../x", "/etc/x", "a/../../x", ""] {
            let file = Listed { path: path.to_owned(), size: 1, digest: Digest::of_bytes(b"x") };
            let list = List { number: "0123abcd".to_owned(), files: vec![file] };
            mail.put(&[FOLDER, LIST], serde_json::to_vec(&list).unwrap()).unwrap();
            assert!(matches!(receive(&mail, &there), Err(CheckpointError::Wrong(_))), "{path}");
        }
    }
}
