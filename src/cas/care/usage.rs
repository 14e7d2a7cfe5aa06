//! What a local store takes.
//!
//! Purpose: count the files of a store and their bytes by what they are, and the bytes that one record alone has.
//! Invariant: nothing is changed, no link is followed, and a file of several names counts once. What goes away meanwhile
//! is left out.
//! Must not know: pipelines, what can be removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cas::error::StoreError;
use crate::cas::store::Store;
use crate::cas::traits::ActionCache;
use crate::cas::types::ArtifactRef;
use crate::digest::Digest;

/// The size of the blocks in which file systems count, in bytes.
const BLOCK: u64 = 512;

/// Files and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// How many files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that the disk has set aside for them.
    pub on_disk: u64,
}

/// What a part of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Blobs that a record names.
    Blobs,
    /// Blobs that no record names.
    OtherBlobs,
    /// Records, and lists of those that stay.
    Records,
    /// Records of runs, with their logs and metrics.
    Runs,
    /// Scratch folders, checkpoints, locks and temporary files.
    Work,
    /// What was found damaged.
    Quarantine,
    /// Links for people.
    Views,
    /// What need not be read or asked again.
    Cache,
    /// Anything else.
    Other,
}

/// What a local store takes.
#[derive(Debug, Default)]
pub struct StoreUsage {
    /// By what it is.
    pub parts: BTreeMap<Part, Size>,
    /// The bytes of the blobs that are outputs of one record alone, by its key.
    pub alone: HashMap<Digest, u64>,
    /// Links in the place of a folder of the store: what is behind them is not counted.
    pub links: Vec<PathBuf>,
    /// Files and folders that could not be looked at.
    pub unreadable: Vec<PathBuf>,
}

/// The records that have a blob among their outputs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owners {
    One(Digest),
    Several,
}

/// What is known of the blobs of a store by its records.
#[derive(Default)]
struct Named {
    outputs: HashMap<Digest, Owners>,
    /// What records have read, beside outputs.
    inputs: HashSet<Digest>,
}

/// Goes through the files of a store.
struct Walk<'a> {
    named: &'a Named,
    /// The folder of what was found damaged.
    quarantine: PathBuf,
    usage: StoreUsage,
    /// The files of several names that were counted.
    seen: HashSet<(u64, u64)>,
}

impl Size {
    fn add(&mut self, meta: &Metadata) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(meta.len());
        self.on_disk = self.on_disk.saturating_add(meta.blocks().saturating_mul(BLOCK));
    }
}

impl StoreUsage {
    /// All of it.
    pub fn total(&self) -> Size {
        self.parts.values().fold(Size::default(), |sum, part| Size {
            files: sum.files + part.files,
            bytes: sum.bytes.saturating_add(part.bytes),
            on_disk: sum.on_disk.saturating_add(part.on_disk),
        })
    }
}

impl Store {
    /// Counts what the store takes.
    ///
    /// # Errors
    /// The records cannot be listed.
    pub fn usage(&self) -> Result<StoreUsage, StoreError> {
        let named = self.blobs_of_records()?;
        let quarantine = self.root().join("work/quarantine");
        let mut walk = Walk { named: &named, quarantine, usage: StoreUsage::default(), seen: HashSet::new() };
        let mut top = walk.entries(self.root());
        // A file that has a name among the blobs is a blob, whatever other names it has.
        top.sort_by_key(|path| !path.ends_with("blobs"));
        top.iter().for_each(|path| walk.top(path));
        let Walk { mut usage, .. } = walk;
        usage.links.sort();
        usage.unreadable.sort();
        Ok(usage)
    }

    /// The blobs that records name.
    fn blobs_of_records(&self) -> Result<Named, StoreError> {
        let (mut keys, mut named, mut inputs) = (Vec::new(), Named::default(), BTreeSet::new());
        self.actions.list(&mut |key| {
            keys.push(key);
            Ok(())
        })?;
        for key in keys {
            let Some(action) = self.actions.read(&key) else { continue };
            for output in action.outputs.values() {
                for blob in self.blobs_of(output)? {
                    let owners = named.outputs.entry(blob).or_insert(Owners::One(key));
                    if *owners != Owners::One(key) {
                        *owners = Owners::Several;
                    }
                }
            }
            inputs.extend(action.inputs());
        }
        // What a stage made was looked at above.
        for input in inputs.iter().filter(|input| !named.outputs.contains_key(&input.digest)) {
            named.inputs.extend(self.blobs_of(input)?);
        }
        Ok(named)
    }

    /// The blobs of an artifact: its own and, of a folder whose listing is here, those of its files.
    fn blobs_of(&self, artifact: &ArtifactRef) -> Result<BTreeSet<Digest>, StoreError> {
        let mut blobs = BTreeSet::from([artifact.digest]);
        if artifact.tree {
            match self.tree(&artifact.digest) {
                Ok(tree) => blobs.extend(tree.files.iter().map(|file| file.digest)),
                Err(StoreError::NotIntact(_) | StoreError::BadTree { .. } | StoreError::TooBig { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(blobs)
    }
}

impl Walk<'_> {
    /// Counts an entry of the folder of the store.
    fn top(&mut self, path: &Path) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let part = match name {
            "blobs" => Part::Blobs,
            "actions" | "pins" => Part::Records,
            "runs" => Part::Runs,
            "work" => Part::Work,
            "view" | "out" => Part::Views,
            "cache" => Part::Cache,
            _ => Part::Other,
        };
        if part != Part::Other && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
            self.usage.links.push(path.to_owned());
        }
        self.walk(path, part);
    }

    /// Counts what is at a path and below it.
    fn walk(&mut self, path: &Path, part: Part) {
        // No recursion: a stage may leave folders of any depth.
        let mut paths = vec![(path.to_owned(), part)];
        while let Some((path, part)) = paths.pop() {
            let part = if path == self.quarantine { Part::Quarantine } else { part };
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {
                    paths.extend(self.entries(&path).into_iter().map(|path| (path, part)));
                }
                Ok(meta) => self.count(&path, part, &meta),
                Err(error) => self.cannot_read(&path, &error),
            }
        }
    }

    fn count(&mut self, path: &Path, part: Part, meta: &Metadata) {
        if meta.nlink() > 1 && !self.seen.insert((meta.dev(), meta.ino())) {
            return;
        }
        let part = match part {
            Part::Blobs => self.blob(path, meta),
            part => part,
        };
        self.usage.parts.entry(part).or_default().add(meta);
    }

    /// Whether a file among the blobs is named by records, and by which one alone.
    fn blob(&mut self, path: &Path, meta: &Metadata) -> Part {
        let Some(digest) = digest_of(path) else { return Part::OtherBlobs };
        match self.named.outputs.get(&digest) {
            Some(Owners::One(key)) => *self.usage.alone.entry(*key).or_default() += meta.len(),
            Some(Owners::Several) => {}
            None if self.named.inputs.contains(&digest) => {}
            None => return Part::OtherBlobs,
        }
        Part::Blobs
    }

    /// What is in a folder.
    fn entries(&mut self, folder: &Path) -> Vec<PathBuf> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.cannot_read(folder, &error);
                return Vec::new();
            }
        };
        let known = |entry: io::Result<fs::DirEntry>| match entry {
            Ok(entry) => Some(entry.path()),
            Err(error) => {
                self.cannot_read(folder, &error);
                None
            }
        };
        entries.filter_map(known).collect()
    }

    /// Remembers what could not be read; what is gone is no loss.
    fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            self.usage.unreadable.push(path.to_owned());
        }
    }
}

/// The digest that is the name of a blob, `blobs/ab/cd..`.
fn digest_of(path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    let shard = path.parent()?.file_name()?.to_str()?;
    format!("{shard}{name}").parse().ok()
}
