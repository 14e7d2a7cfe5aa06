//! What the lock files of a project name.
//!
//! Purpose: find the lock files of all pipelines, and the keys in them.
//! Invariant: a lock file of ours that cannot be read as a whole is an error: nobody can say what it keeps. Files of other
//! programs are left alone.
//! Must not know: what is done with the keys.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cas::Store;
use crate::cli::CliError;
use crate::digest::Digest;
use crate::report::lockfile::LockFile;

/// The keys that the lock files of a project name.
///
/// # Errors
/// One of them cannot be read, or is damaged; the store cannot be read.
pub fn keys(store: &Store, root: &Path) -> Result<BTreeSet<Digest>, CliError> {
    let mut keys = BTreeSet::new();
    for file in lock_files(store, root)? {
        keys.extend(keys_in(&file)?);
    }
    Ok(keys)
}

/// The files named `*.lock` that git would not ignore, and those beside the pipeline files of all runs.
fn lock_files(store: &Store, root: &Path) -> Result<BTreeSet<PathBuf>, CliError> {
    let is_lock = |path: &Path| path.extension().is_some_and(|extension| extension == "lock");
    let own = fs::canonicalize(store.root()).unwrap_or_else(|_| store.root().to_owned());
    let walk = ignore::WalkBuilder::new(root)
        .filter_entry(move |entry| fs::canonicalize(entry.path()).map_or(true, |path| path != own))
        .build();
    // A folder that cannot be listed holds no pipeline that we could run.
    let found = walk.flatten().map(ignore::DirEntry::into_path).filter(|path| is_lock(path));
    let mut files: BTreeSet<PathBuf> = found.collect();
    let history = store.history();
    for id in history.list()? {
        if let Some(run) = history.read(&id)? {
            let file = root.join(&run.file);
            files.extend([file.with_extension("lock"), file.with_extension("kiln.lock")]);
        }
    }
    Ok(files)
}

fn keys_in(file: &Path) -> Result<Vec<Digest>, CliError> {
    let wrong = |why: String| {
        CliError::Failed(format!(
            "nothing was removed, for what {} keeps is not known: {why}; `kiln run` writes a lock file anew where it is gone",
            file.display()
        ))
    };
    let text = match fs::read_to_string(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // It is no text, and so none of ours.
        Err(e) if e.kind() == io::ErrorKind::InvalidData || file.is_dir() => return Ok(Vec::new()),
        text => text.map_err(|e| wrong(e.to_string()))?,
    };
    if !text.lines().any(LockFile::is_ours) {
        return Ok(Vec::new());
    }
    if text.lines().any(|line| line.starts_with("<<<<<<<") || line.starts_with(">>>>>>>")) {
        return Err(wrong("it has the marks of a merge conflict".to_owned()));
    }
    let lock = LockFile::read(file.to_owned(), text.clone());
    let keys: Vec<_> = lock.keys().collect();
    if !LockFile::is_ours(&text) || !text.ends_with('\n') || keys.len() < lock.stanzas.len() {
        return Err(wrong("it is damaged".to_owned()));
    }
    Ok(keys)
}
