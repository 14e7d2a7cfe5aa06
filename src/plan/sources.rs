//! What the files outside of the store are: sources and `uses`.
//!
//! Purpose: the one place that identifies them, and looks at them again when a stage has ended.
//! Invariant: each is looked at once until [`Sources::forget`] is called for a stage that reads it, so that
//! all stages of a plan see the same bytes.
//! Must not know: keys, what is cached, how files get to a stage.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::cas::types::ArtifactRef;
use crate::cas::{Ignore, Store};
use crate::graph::{Graph, Producer};
use crate::plan::PlanError;
use crate::plan::files::{FilesError, SourceFiles, source_files, used_files};
use crate::plan::key_inputs::artifacts;
use crate::plan::types::StageIx;
use crate::spec::types::{Source, Spanned, Stage, Work};

/// A single file under `uses`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its digest and executable bit.
    pub artifact: ArtifactRef,
}

/// Used files by their path relative to the project root.
pub type UsedFiles = BTreeMap<String, UsedFile>;

/// What changed while a stage ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The bytes of an input that a stage made: the store moved them aside.
    Input(String),
    /// A source.
    Source(String),
    /// A file under `uses`.
    Uses(String),
}

/// Identifies sources and used files; shared by threads.
pub struct Sources {
    graph: Arc<Graph>,
    store: Arc<Store>,
    ignore: Ignore,
    sources: Mutex<HashMap<String, ArtifactRef>>,
    /// By the entry of `uses`.
    uses: Mutex<HashMap<String, Arc<UsedFiles>>>,
}

impl Sources {
    /// Has looked at none yet.
    ///
    /// # Errors
    /// An ignore rule is wrong, or `.kilnignore` cannot be read.
    pub fn new(graph: Arc<Graph>, store: Arc<Store>) -> Result<Self, PlanError> {
        let pipeline = graph.pipeline();
        let ignore = Ignore::new(&pipeline.root, &pipeline.ignore, store.root())?;
        Ok(Self { graph, store, ignore, sources: Mutex::default(), uses: Mutex::default() })
    }

    /// The rules by which files of sources and `uses` do not count.
    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// The files of a source as they are now.
    ///
    /// # Errors
    /// There is none.
    pub fn files(&self, name: &str) -> Result<SourceFiles, PlanError> {
        let pipeline = self.graph.pipeline();
        let source = pipeline.sources.get(name).ok_or_else(|| PlanError::UnknownSource(name.into()))?;
        source_files(&pipeline.root, &source.path, &self.ignore).map_err(|e| source_error(name, source, e))
    }

    /// Copies a source to `dest`, and names the bytes that were copied.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or the disk refuses.
    pub fn copy(&self, name: &str, dest: &Path) -> Result<ArtifactRef, PlanError> {
        Ok(match self.files(name)? {
            SourceFiles::Path(path) => self.store.ingest_source(&path, dest, &self.ignore)?,
            SourceFiles::Glob { base, files } => self.store.ingest_glob(&base, &files, dest)?,
        })
    }

    /// Copies a used file to `dest`, and names the bytes that were copied.
    ///
    /// # Errors
    /// It cannot be read, or the disk refuses.
    pub fn copy_file(&self, file: &UsedFile, dest: &Path) -> Result<ArtifactRef, PlanError> {
        Ok(self.store.ingest_source(&file.path, dest, &self.ignore)?)
    }

    /// The artifact of a source.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn source(&self, name: &str) -> Result<ArtifactRef, PlanError> {
        if let Some(known) = unpoisoned(&self.sources).get(name) {
            return Ok(*known);
        }
        // Without the lock: hashing a large file must not hold up others. The first one counts.
        let artifact = self.identify(name)?;
        Ok(*unpoisoned(&self.sources).entry(name.to_owned()).or_insert(artifact))
    }

    /// The single files that a command uses.
    ///
    /// # Errors
    /// One is missing or cannot be read.
    pub fn uses(&self, stage: &Stage) -> Result<UsedFiles, PlanError> {
        let Work::Command { uses, .. } = &stage.work else { return Ok(BTreeMap::new()) };
        let mut all = BTreeMap::new();
        for entry in uses {
            let known = unpoisoned(&self.uses).get(&entry.value).cloned();
            let found = match known {
                Some(known) => known,
                None => {
                    let found = Arc::new(self.identify_uses(stage, entry)?);
                    Arc::clone(unpoisoned(&self.uses).entry(entry.value.clone()).or_insert(found))
                }
            };
            all.extend(found.iter().map(|(name, file)| (name.clone(), file.clone())));
        }
        Ok(all)
    }

    /// Looks at the inputs of a stage that has ended again: what is not as it was when its key was made.
    ///
    /// # Errors
    /// The store fails. A source or used file that is gone has changed, which is no error.
    pub fn revalidate(
        &self,
        stage: StageIx,
        inputs: &BTreeMap<String, ArtifactRef>,
        key_inputs: &Value,
    ) -> Result<Vec<Changed>, PlanError> {
        let mut changed = Vec::new();
        for input in self.graph.inputs(stage) {
            let Some(artifact) = inputs.get(input.name) else { continue };
            match input.from {
                Producer::Stage { .. } => {
                    if !self.store.is_intact(artifact)? {
                        changed.push(Changed::Input(input.name.to_owned()));
                    }
                }
                Producer::Source(name) => {
                    if self.identify(name).ok().as_ref() != Some(artifact) {
                        changed.push(Changed::Source(name.to_owned()));
                    }
                }
            }
        }
        changed.extend(self.changed_uses(self.graph.stage(stage), key_inputs).map(Changed::Uses));
        Ok(changed)
    }

    /// Has the sources and used files of a stage looked at again when they are next asked for.
    pub fn forget(&self, stage: StageIx) {
        for input in self.graph.inputs(stage) {
            if let Producer::Source(name) = input.from {
                unpoisoned(&self.sources).remove(name);
            }
        }
        if let Work::Command { uses, .. } = &self.graph.stage(stage).work {
            let mut known = unpoisoned(&self.uses);
            uses.iter().for_each(|entry| _ = known.remove(&entry.value));
        }
    }

    fn changed_uses(&self, stage: &Stage, key_inputs: &Value) -> Option<String> {
        let Work::Command { uses, .. } = &stage.work else { return None };
        let mut now = BTreeMap::new();
        for entry in uses {
            let Ok(found) = self.identify_uses(stage, entry) else { return Some(entry.value.clone()) };
            now.extend(found.into_iter().map(|(name, file)| (name, file.artifact)));
        }
        let (then, now) = (key_inputs.get("uses")?, artifacts(&now));
        let (then, now) = (then.as_object()?, now.as_object()?.clone());
        let other = now.iter().find(|(name, digest)| then.get(*name) != Some(digest));
        let gone = || then.keys().find(|name| !now.contains_key(*name)).cloned();
        other.map(|(name, _)| name.clone()).or_else(gone)
    }

    fn identify(&self, name: &str) -> Result<ArtifactRef, PlanError> {
        Ok(match self.files(name)? {
            SourceFiles::Path(path) => self.store.identify(&path, &self.ignore)?,
            SourceFiles::Glob { base, files } => self.store.identify_glob(&base, &files)?,
        })
    }

    fn identify_uses(&self, stage: &Stage, entry: &Spanned<String>) -> Result<UsedFiles, PlanError> {
        let files = used_files(&self.graph.pipeline().root, &entry.value, &self.ignore);
        let files = files.map_err(|e| uses_error(stage, entry, e))?;
        files
            .into_iter()
            .map(|(name, path)| {
                let artifact = self.store.identify(&path, &self.ignore)?;
                Ok((name, UsedFile { path, artifact }))
            })
            .collect()
    }
}

fn source_error(name: &str, source: &Source, error: FilesError) -> PlanError {
    let (name, path, span) = (name.to_owned(), source.path.clone(), source.span);
    match error {
        FilesError::Missing => PlanError::NoSource { name, path, span },
        FilesError::BadGlob(why) => PlanError::BadGlob { whose: format!("source `{name}`"), path, why, span },
        FilesError::Unreadable(why) => PlanError::Unreadable { whose: format!("source `{name}`"), why, span },
    }
}

fn uses_error(stage: &Stage, entry: &Spanned<String>, error: FilesError) -> PlanError {
    let (stage, path, span) = (stage.name.value.clone(), entry.value.clone(), entry.span);
    let whose = || format!("`uses` of stage `{stage}`");
    match error {
        FilesError::Missing => PlanError::NoUses { stage, path, span },
        FilesError::BadGlob(why) => PlanError::BadGlob { whose: whose(), path, why, span },
        FilesError::Unreadable(why) => PlanError::Unreadable { whose: whose(), why, span },
    }
}

/// A thread that panicked leaves these maps sound: each change to them is a single insertion or removal.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
