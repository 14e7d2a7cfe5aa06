//! The history of runs.
//!
//! Purpose: give each run a folder of its own, keep what it said and how it ended, and remember the
//! last good key of every stage of a pipeline, so that `why` has something to compare with.
//! Invariant: two runners never get one id; a record is read whole or not at all; what is remembered
//! is a hint, and losing it loses no artifact.
//! Must not know: how events are shown, or what a pipeline file says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::files::{bounded, file_name};
use super::last::Last;
use super::records::{RECORD_FORMAT, RunOutcome, RunRecord};
use crate::cas::disk::{Disk, make_durable_folders, replace_on};
use crate::cas::{During, Store, StoreError, unpoisoned};
use crate::digest::Digest;

/// The runs of a store.
#[derive(Clone)]
pub struct History<'a> {
    store: &'a Store,
    folder: PathBuf,
}

/// The folder of a run that is going on; shared by threads.
pub struct RunDir {
    disk: Arc<dyn Disk>,
    id: String,
    folder: PathBuf,
    started: String,
    pipeline: String,
    file: String,
    set: Vec<String>,
    unset: Vec<String>,
    events: Mutex<File>,
    last: Mutex<Last>,
}

impl<'a> History<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store, folder: store.root().join("runs") }
    }

    /// Begins a run of the pipeline named `pipeline`, from `file`: takes the next id and writes a first
    /// record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(&self, pipeline: &str, file: &str) -> Result<RunDir, StoreError> {
        self.store.prepare()?;
        let disk = self.store.disk();
        make_durable_folders(&**disk, &self.folder).during("make", &self.folder)?;
        let mut number = self.numbers()?.last().map_or(1, |last| last + 1);
        let (id, folder) = loop {
            let id = format!("r-{number:04}");
            let folder = self.folder.join(&id);
            match disk.create_folder(&folder) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => break made.during("make", &folder).map(|()| (id, folder))?,
            }
        };
        for sub in ["logs", "metrics"] {
            disk.create_folder(&folder.join(sub)).during("make", &folder.join(sub))?;
        }
        let events = folder.join("events.jsonl");
        let run = RunDir {
            started: format!("{:.3}", jiff::Timestamp::now()),
            pipeline: pipeline.to_owned(),
            file: file.to_owned(),
            set: Vec::new(),
            unset: Vec::new(),
            events: Mutex::new(disk.open_append(&events).during("open", &events)?),
            last: Mutex::new(Last::begin(disk, &self.folder, pipeline, &id)?),
            id,
            folder,
            disk: Arc::clone(disk),
        };
        run.write(run.record())?;
        Ok(run)
    }

    /// Begins a run in a folder beside the history: it is a part of a run that another runner keeps, and nothing of it is
    /// remembered here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin_in(&self, folder: &Path, pipeline: &str) -> Result<RunDir, StoreError> {
        Self { store: self.store, folder: folder.join("runs") }.begin(pipeline, "")
    }

    /// The record of a run; none when it has none or it cannot be read.
    ///
    /// # Errors
    /// When `id` is not the id of a run.
    pub fn read(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        if number(id).is_none() {
            return Err(StoreError::NoRun(id.chars().take(80).collect()));
        }
        let file = self.folder.join(id).join("run.json");
        let record = bounded(&file).and_then(|text| Ok(serde_json::from_str::<RunRecord>(&text)?));
        if let Err(e) = &record
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), "the record of a run cannot be read: {e}");
        }
        Ok(record.ok().filter(|record| record.format == RECORD_FORMAT && record.id == id))
    }

    /// The folder of a run: `run.json`, `events.jsonl`, `logs`, `metrics`.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// The ids of all runs, oldest first.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn list(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.numbers()?.into_iter().map(|n| format!("r-{n:04}")).collect())
    }

    /// The last run of a pipeline.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn latest(&self, pipeline: &str) -> Result<Option<RunRecord>, StoreError> {
        match Last::read(&self.folder, pipeline)?.run() {
            Some(id) if number(id).is_some() => self.read(id),
            _ => Ok(None),
        }
    }

    /// The last good action key of each stage of a pipeline.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn last_keys(&self, pipeline: &str) -> Result<BTreeMap<String, Digest>, StoreError> {
        Last::read(&self.folder, pipeline).map(Last::into_keys)
    }

    /// Remembers the keys of stages of a pipeline whose results came here without a run.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remember(&self, pipeline: &str, stages: &[(String, Digest)]) -> Result<(), StoreError> {
        self.store.prepare()?;
        Last::open(self.store.disk(), &self.folder, pipeline)?.remember(stages)
    }

    /// The keys that the history names: the last good ones of every stage of every pipeline, and those of the newest
    /// `runs` runs.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn keys(&self, runs: usize) -> Result<BTreeSet<Digest>, StoreError> {
        let mut keys = Last::all_keys(&self.folder)?;
        for id in self.list()?.into_iter().rev().take(runs) {
            let stages = self.read(&id)?.map(|record| record.stages).unwrap_or_default();
            keys.extend(stages.values().filter_map(|stage| stage.key));
        }
        Ok(keys)
    }

    /// The names of stages by the keys of their records, as all runs have them; the newest run decides.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn stages(&self) -> Result<HashMap<Digest, String>, StoreError> {
        let mut names = HashMap::new();
        for id in self.list()? {
            let stages = self.read(&id)?.map(|record| record.stages).unwrap_or_default();
            names.extend(stages.into_iter().filter_map(|(name, stage)| Some((stage.key?, name))));
        }
        Ok(names)
    }

    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.during("list", &self.folder)?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut numbers: Vec<_> = names.filter_map(|name| number(name.to_str()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl RunDir {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same folder for a part of another run, with the id of that one.
    #[must_use]
    pub fn on_behalf_of(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    /// Records what this run changed of the pipeline's file, as it was typed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn overridden(&mut self, set: &[String], unset: &[String]) -> Result<(), StoreError> {
        if set.is_empty() && unset.is_empty() {
            return Ok(());
        }
        (self.set, self.unset) = (set.to_owned(), unset.to_owned());
        self.write(self.record())
    }

    /// A record of it with no stages yet, to be filled in.
    pub fn record(&self) -> RunRecord {
        RunRecord {
            format: RECORD_FORMAT.to_owned(),
            id: self.id.clone(),
            pipeline: self.pipeline.clone(),
            file: self.file.clone(),
            set: self.set.clone(),
            unset: self.unset.clone(),
            started: self.started.clone(),
            seconds: 0.0,
            outcome: RunOutcome::Running,
            stages: BTreeMap::new(),
        }
    }

    /// Writes its record, replacing the one before. Numbers that are not finite are left out.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, mut record: RunRecord) -> Result<(), StoreError> {
        for stage in record.stages.values_mut() {
            stage.summary.retain(|(_, value)| value.is_finite());
        }
        let file = self.folder.join("run.json");
        let json = serde_json::to_string_pretty(&record).map_err(io::Error::from).during("write", &file)?;
        replace_on(&*self.disk, &file, json.as_bytes()).during("write", &file)
    }

    /// Appends lines to `events.jsonl`, one JSON object each.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn append_events(&self, lines: &[u8]) -> Result<(), StoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.disk.append(&unpoisoned(&self.events), lines).during("write", &self.folder.join("events.jsonl"))
    }

    /// Where the log of a stage goes.
    pub fn log_path(&self, stage: &str) -> PathBuf {
        self.folder.join("logs").join(file_name(stage, "log"))
    }

    /// Where the metrics of a stage go.
    pub fn metrics_path(&self, stage: &str) -> PathBuf {
        self.folder.join("metrics").join(file_name(stage, "jsonl"))
    }

    /// The folder of a stage's metrics for TensorBoard.
    pub fn tensorboard_path(&self, stage: &str) -> PathBuf {
        self.folder.join("tensorboard").join(file_name(stage, "stage"))
    }

    /// Remembers the keys of stages that are fresh now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remember(&self, stages: &[(String, Digest)]) -> Result<(), StoreError> {
        unpoisoned(&self.last).remember(stages)
    }
}

fn number(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("r-")?;
    let number = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    (id == format!("r-{number:04}")).then_some(number)
}
