//! What a store knows of the jobs of its stages.
//!
//! Purpose: a file for each key whose stage was handed to a cluster, from before that happened until its result was taken
//! over, so that a runner that starts later finds the job again.
//! Invariant: the file is durable before a job is submitted, and names it: the name of a job is made from the key and the
//! number of the submission. Whoever writes here holds the lock of the job.
//! Must not know: how a job is submitted, what runs in it.
//!
//! ```text
//! jobs/KEY/intent.json         the file
//! jobs/KEY/SUBMISSION/..       what the runner and the job tell each other, where they share the store
//! ```

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cas::disk::{self, make_durable_folders, remove_tree};
use crate::cas::{During, Store, StoreError};
use crate::digest::Digest;
use crate::spec::executors::{Engine, ExecutorSpec};
use crate::spec::types::Span;

/// The format of an intent.
pub const FORMAT: &str = "kiln.job/1";
/// The most bytes of an intent.
const MOST_BYTES: u64 = 64 << 10;
/// How many digits of a key are in the name of a job.
const KEY_DIGITS: usize = 16;
/// What names of jobs begin with.
pub const PREFIX: &str = "kiln-";

/// A job that was, or is about to be, submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// [`FORMAT`].
    pub format: String,
    /// The action key.
    pub key: Digest,
    /// The stage.
    pub stage: String,
    /// The pipeline.
    pub pipeline: String,
    /// The executor.
    pub executor: String,
    /// Where its engine listens; none for Slurm.
    #[serde(default)]
    pub address: Option<String>,
    /// The number of the submission, in hexadecimal digits.
    pub submission: String,
    /// The id that the cluster gave; none until it has answered.
    pub job: Option<String>,
    /// When it was submitted, RFC 3339 in UTC.
    pub since: String,
    /// The bytes of memory that were asked for; 0 for what the cluster gives.
    #[serde(default)]
    pub memory: u64,
    /// Whether its stage was forced, so that an earlier result does not count.
    #[serde(default)]
    pub forced: bool,
    /// The run that submitted it.
    pub run: String,
    /// The remote by which it talks, where it shares no store with the runner.
    pub remote: Option<String>,
}

impl Intent {
    /// The name of its job.
    pub fn name(&self) -> String {
        let key = self.key.to_string();
        let digits = &key[..KEY_DIGITS.min(key.len())];
        format!("{PREFIX}{}-{digits}-{}", self.stage, self.submission)
    }

    /// Its executor, where its job was submitted, however `known` describes that now.
    pub fn spec(&self, known: &[ExecutorSpec]) -> ExecutorSpec {
        let spec = known.iter().find(|spec| spec.name == self.executor).cloned();
        let mut spec = spec.unwrap_or_else(|| ExecutorSpec::new(&self.executor, Span::default()));
        spec.engine = if self.address.is_some() { Engine::Ray } else { Engine::Slurm };
        spec.address.clone_from(&self.address);
        spec
    }
}

/// A number for a submission that no other one has.
pub fn submission(key: &Digest) -> String {
    let (pid, now) = (std::process::id(), jiff::Timestamp::now().as_nanosecond());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Digest::of_bytes(format!("{key} {host} {pid} {now}").as_bytes()).to_string()[..8].to_owned()
}

/// Whether a text is the number of a submission, and so can be a part of a path.
pub fn is_submission(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The folder of all that concerns the job of a key.
pub fn folder(store: &Store, key: &Digest) -> PathBuf {
    store.root().join("jobs").join(key.to_string())
}

/// The lock that whoever submits or watches the job of a key holds. The lock of the key itself is the job's.
pub fn lock(key: &Digest) -> Digest {
    Digest::of_bytes(format!("job {key}").as_bytes())
}

/// Writes an intent, in place of one that is there.
///
/// # Errors
/// The disk refuses.
pub fn write(store: &Store, intent: &Intent) -> Result<(), StoreError> {
    let folder = folder(store, &intent.key);
    store.prepare()?;
    make_durable_folders(&**store.disk(), &folder).during("make", &folder)?;
    let file = folder.join("intent.json");
    let json = serde_json::to_vec(intent).map_err(io::Error::from).during("write", &file)?;
    disk::replace(&file, &json).during("write", &file)
}

/// The intent of a key; none where there is none, or one that cannot be read.
pub fn read(store: &Store, key: &Digest) -> Option<Intent> {
    let file = folder(store, key).join("intent.json");
    let intent: Intent = serde_json::from_slice(&super::mail::bounded(&file, MOST_BYTES).ok()??).ok()?;
    (intent.format == FORMAT && intent.key == *key && is_submission(&intent.submission)).then_some(intent)
}

/// All intents of a store, by stage.
pub fn all(store: &Store) -> Vec<Intent> {
    let entries = fs::read_dir(store.root().join("jobs")).into_iter().flatten().flatten();
    let keys = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = keys.filter_map(|key| read(store, &key)).collect();
    found.sort_by(|a, b| (&a.stage, &a.key).cmp(&(&b.stage, &b.key)));
    found
}

/// Forgets the job of a key, and what it has written into this store.
///
/// # Errors
/// The disk refuses.
pub fn forget(store: &Store, key: &Digest) -> Result<(), StoreError> {
    let folder = folder(store, key);
    // The intent goes first: a folder without one is no job.
    for path in [folder.join("intent.json"), folder] {
        match if path.is_dir() { remove_tree(&path) } else { fs::remove_file(&path) } {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            removed => removed.during("remove", &path)?,
        }
    }
    Ok(())
}
