//! A piece of work and where its inputs are.
//!
//! Purpose: what an executor needs to run one stage, its inputs as paths, and a second look at them
//! when it is done.
//! Invariant: an input that was made by Kiln is lent as links into the store; a source is used where
//! it is, the files of a glob as a folder of links.
//! Must not know: when it runs, what becomes of the result.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::resources::Grant;
use crate::digest::Digest;
use crate::graph::{Graph, Producer};
use crate::plan::ingredients::spell;
use crate::plan::{PlanError, SourceFiles, StageIx, source_files};
use crate::spec::types::{Stage, Work};
use crate::cas::{How, Ignore, Store};
use crate::cas::types::ArtifactRef;

/// One stage to run.
#[derive(Debug)]
pub struct Job {
    /// Its index.
    pub stage: StageIx,
    /// Its action key.
    pub key: Digest,
    /// Its ingredients.
    pub ingredients: Value,
    /// Its inputs by name.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// Whether it runs even though somebody may have done it.
    pub forced: bool,
    /// What of the machine it has.
    pub grant: Grant,
}

/// What a second look at the inputs found.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// An artifact of the store was written to; it was moved aside.
    Artifact(String),
    /// A source, or a file under `uses`, is not what it was.
    Outside(String),
}

/// Makes the inputs of a job readable, below `folder` where they need a place.
///
/// # Errors
/// An input is not whole, or not there any more.
pub fn lay_out(
    job: &Job,
    graph: &Graph,
    store: &Store,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, PlanError> {
    let mut paths = BTreeMap::new();
    for input in graph.inputs(job.stage) {
        let Some(artifact) = job.inputs.get(input.name) else { continue };
        let dest = folder.join(input.name);
        let path = match input.from {
            Producer::Stage { .. } => {
                store.materialize(artifact, &dest, How::Links)?;
                dest
            }
            Producer::Source(name) => match files(graph, name)? {
                SourceFiles::Path(path) => std::path::absolute(&path).unwrap_or(path),
                SourceFiles::Glob { base, files } => {
                    store.ingest_glob(&base, &files, &dest)?;
                    dest
                }
            },
        };
        paths.insert(input.name.to_owned(), path);
    }
    Ok(paths)
}

/// Looks at the inputs again: what is not as it was when the key was made.
///
/// # Errors
/// The store fails. A source that is gone is a change, not an error.
pub fn look_again(job: &Job, graph: &Graph, store: &Store) -> Result<Vec<Change>, PlanError> {
    let mut changes = Vec::new();
    for input in graph.inputs(job.stage) {
        let Some(artifact) = job.inputs.get(input.name) else { continue };
        match input.from {
            Producer::Stage { .. } => {
                if !store.is_intact(artifact)? {
                    changes.push(Change::Artifact(input.name.to_owned()));
                }
            }
            Producer::Source(name) => {
                if identify(graph, store, name).ok().as_ref() != Some(artifact) {
                    changes.push(Change::Outside(format!("source `{name}`")));
                }
            }
        }
    }
    for path in changed_uses(job, graph.stage(job.stage), &graph.pipeline().root, store) {
        changes.push(Change::Outside(format!("`{path}` under `uses`")));
    }
    Ok(changes)
}

fn changed_uses(job: &Job, stage: &Stage, root: &Path, store: &Store) -> Vec<String> {
    let Work::Command { uses, .. } = &stage.work else { return Vec::new() };
    let then = |path: &str| job.ingredients.get("uses").and_then(|uses| uses.get(path)?.as_str());
    let same = |path: &str| {
        store.identify(&root.join(path), &Ignore::none()).is_ok_and(|now| Some(spell(&now).as_str()) == then(path))
    };
    uses.iter().map(|used| used.value.clone()).filter(|path| !same(path)).collect()
}

fn identify(graph: &Graph, store: &Store, name: &str) -> Result<ArtifactRef, PlanError> {
    Ok(match files(graph, name)? {
        SourceFiles::Path(path) => store.identify(&path, &Ignore::none())?,
        SourceFiles::Glob { base, files } => store.identify_glob(&base, &files)?,
    })
}

fn files(graph: &Graph, name: &str) -> Result<SourceFiles, PlanError> {
    let pipeline = graph.pipeline();
    let source = pipeline.sources.get(name).ok_or_else(|| PlanError::UnknownSource(name.to_owned()))?;
    source_files(&pipeline.root, name, source)
}

/// The last lines of a log, for people who will not open it.
///
/// # Errors
/// It cannot be read.
pub fn tail(log: &Path, lines: usize) -> io::Result<Vec<String>> {
    use std::io::{Read, Seek, SeekFrom};
    const MOST_BYTES: u64 = 16 * 1024;
    let mut file = std::fs::File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(MOST_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // Terminals must not obey what a stage printed.
    let clean = |line: &str| line.chars().filter(|c| !c.is_control() || *c == '\t').take(400).collect();
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| clean(line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_has_its_last_lines_without_control_characters() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..5000).map(|i| format!("\x1b[31mline {i}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(tail(file.path(), 2).unwrap(), ["[31mline 4998", "[31mline 4999"]);
    }
}
