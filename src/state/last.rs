//! The last good key of every stage of a pipeline.
//!
//! Purpose: answer in one read what each stage of a pipeline was when it was last fresh, and which run
//! was the last, without looking through all runs.
//! Invariant: the file is a journal, `runs/last/<pipeline>.jsonl`, a line a change, the last one
//! counts; each line has a checksum, and a torn, damaged or foreign one is skipped. Writers take turns by a lock.
//! Must not know: what a key means.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{bounded, file_name};
use crate::cas::disk::{Disk, Os, make_durable_folders, replace_on};
use crate::cas::{During, StoreError};
use crate::digest::{Digest, sealed};

/// What is remembered of a pipeline.
pub(super) struct Last {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    journal: Journal,
    torn: bool,
}

/// What the lines of a journal say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Journal {
    run: Option<String>,
    keys: BTreeMap<String, Digest>,
    lines: usize,
}

impl Journal {
    /// Reads the lines; those that are damaged or mean nothing here are skipped.
    pub fn parse(text: &str) -> Self {
        let mut journal = Self::default();
        for line in text.lines() {
            journal.lines += 1;
            // A line of an earlier version has no checksum.
            match serde_json::from_str(sealed::open(line.as_bytes()).unwrap_or(line)) {
                Ok(Line { run: Some(run), .. }) => journal.run = Some(run),
                Ok(Line { stage: Some(stage), key: Some(key), .. }) => drop(journal.keys.insert(stage, key)),
                _ => tracing::debug!("a line of a journal was skipped"),
            }
        }
        journal
    }

    /// The fewest lines that say the same.
    pub fn to_text(&self) -> Result<String, StoreError> {
        let run = self.run.iter().map(|run| Line::run(run));
        let keys = self.keys.iter().map(|(stage, key)| Line::stage(stage, *key));
        run.chain(keys).map(|one| line(&one)).collect()
    }
}

/// A line of the journal: a run, or a stage and its key.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Digest>,
}

impl Line {
    fn run(id: &str) -> Self {
        Self { run: Some(id.to_owned()), ..Self::default() }
    }

    fn stage(stage: &str, key: Digest) -> Self {
        Self { stage: Some(stage.to_owned()), key: Some(key), run: None }
    }
}

impl Last {
    /// Reads what is remembered of `pipeline`; a journal that is not there is an empty one.
    pub fn read(runs: &Path, pipeline: &str) -> Result<Self, StoreError> {
        Self::read_on(&(Arc::new(Os::default()) as Arc<dyn Disk>), runs, pipeline)
    }

    /// The keys that are remembered of all pipelines.
    pub fn all_keys(runs: &Path) -> Result<BTreeSet<Digest>, StoreError> {
        let disk = Arc::new(Os::default()) as Arc<dyn Disk>;
        let entries = std::fs::read_dir(runs.join("last")).into_iter().flatten().flatten();
        let files =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "jsonl"));
        let mut keys = BTreeSet::new();
        for file in files {
            keys.extend(Self::read_file(&disk, file)?.journal.keys.into_values());
        }
        Ok(keys)
    }

    fn read_on(disk: &Arc<dyn Disk>, runs: &Path, pipeline: &str) -> Result<Self, StoreError> {
        Self::read_file(disk, runs.join("last").join(file_name(pipeline, "jsonl")))
    }

    fn read_file(disk: &Arc<dyn Disk>, file: PathBuf) -> Result<Self, StoreError> {
        let text = match bounded(&file) {
            // A journal that is no text holds nothing.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                String::new()
            }
            text => text.during("read", &file)?,
        };
        let torn = !text.is_empty() && !text.ends_with('\n');
        Ok(Self { disk: Arc::clone(disk), file, journal: Journal::parse(&text), torn })
    }

    /// Reads what is remembered of `pipeline` to add to it, and tidies the journal where it has grown or is torn.
    pub fn open(disk: &Arc<dyn Disk>, runs: &Path, pipeline: &str) -> Result<Self, StoreError> {
        let folder = runs.join("last");
        make_durable_folders(&**disk, &folder).during("make", &folder)?;
        let _turn = turn(&**disk, &folder)?;
        let last = Self::read_on(disk, runs, pipeline)?;
        if last.torn || last.journal.lines > 64 + 4 * last.journal.keys.len() {
            let text = last.journal.to_text()?;
            replace_on(&**disk, &last.file, text.as_bytes()).during("write", &last.file)?;
        }
        Ok(last)
    }

    /// As [`Self::open`]; notes that run `id` of `pipeline` begins.
    pub fn begin(disk: &Arc<dyn Disk>, runs: &Path, pipeline: &str, id: &str) -> Result<Self, StoreError> {
        let mut last = Self::open(disk, runs, pipeline)?;
        last.journal.run = Some(id.to_owned());
        let _turn = turn(&**disk, &runs.join("last"))?;
        last.append(&[Line::run(id)])?;
        Ok(last)
    }

    /// Notes the keys of stages, those that are others than before.
    pub fn remember(&mut self, stages: &[(String, Digest)]) -> Result<(), StoreError> {
        let new = stages.iter().filter(|(stage, key)| self.journal.keys.get(stage) != Some(key));
        let new: Vec<Line> = new.map(|(stage, key)| Line::stage(stage, *key)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let _turn = turn(&*self.disk, self.file.parent().unwrap_or(&self.file))?;
        self.append(&new)?;
        self.journal.keys.extend(stages.iter().cloned());
        Ok(())
    }

    /// The last run's id.
    pub fn run(&self) -> Option<&str> {
        self.journal.run.as_deref()
    }

    /// The last good key of each stage.
    pub fn into_keys(self) -> BTreeMap<String, Digest> {
        self.journal.keys
    }

    fn append(&self, changes: &[Line]) -> Result<(), StoreError> {
        let text = changes.iter().map(line).collect::<Result<String, _>>()?;
        let file = self.disk.open_append(&self.file).during("open", &self.file)?;
        self.disk.append(&file, text.as_bytes()).during("write", &self.file)
    }
}

fn line(line: &Line) -> Result<String, StoreError> {
    let json = serde_json::to_string(line).map_err(io::Error::from);
    json.map(|json| sealed::seal(&json) + "\n").during("write", Path::new("runs/last"))
}

/// Waits for the journals' lock.
fn turn(disk: &dyn Disk, folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    disk.open_append(&path).and_then(|file| file.lock().map(|()| file)).during("lock", &path)
}
