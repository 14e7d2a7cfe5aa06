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
use crate::plan::{PlanError, SourceFiles, Sources, StageIx};
use crate::store::Store;
use crate::store::types::ArtifactRef;

/// One stage to run.
#[derive(Debug)]
pub struct Job {
    /// Its index.
    pub stage: StageIx,
    /// Its action key.
    pub key: Digest,
    /// Its key inputs.
    pub key_inputs: Value,
    /// Its inputs by name.
    pub inputs: BTreeMap<String, ArtifactRef>,
    /// Whether it runs even though somebody may have done it.
    pub forced: bool,
    /// What of the machine it has.
    pub grant: Grant,
}

/// Makes the inputs of a job readable, below `folder` where they need a place.
///
/// # Errors
/// An input is not whole, or not there any more.
pub fn lay_out(
    job: &Job,
    graph: &Graph,
    (store, sources): (&Store, &Sources),
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, PlanError> {
    let mut paths = BTreeMap::new();
    for input in graph.inputs(job.stage) {
        let Some(artifact) = job.inputs.get(input.name) else { continue };
        let dest = folder.join(input.name);
        let path = match input.from {
            Producer::Stage { .. } => store.input_path(artifact, &dest)?,
            Producer::Source(name) => match sources.files(name)? {
                SourceFiles::Path(path) => std::path::absolute(&path).unwrap_or(path),
                SourceFiles::Glob { base, files } => store.link_glob(&base, &files, &dest)?,
            },
        };
        paths.insert(input.name.to_owned(), path);
    }
    Ok(paths)
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
