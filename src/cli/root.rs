//! The project root.
//!
//! Purpose: finds the folder that the paths of a pipeline file start from, and where its store is.
//! Invariant: a folder is a root because its store bears our mark; the name `artifacts` alone says nothing.
//! Must not know: what the pipeline file says.

use std::path::{Path, PathBuf};

use crate::cas;
use crate::cli::CliError;

/// The folder of the store in a project root.
pub const STORE: &str = "artifacts";

/// The nearest folder, at or above the pipeline file and else at or above the working folder, that has a
/// store; else the root of the pipeline file's repository; else the working folder.
///
/// # Errors
/// There is no working folder.
pub fn find_root(file: Option<&Path>) -> Result<PathBuf, CliError> {
    let here = std::env::current_dir().map_err(CliError::io("find the working folder"))?;
    let start =
        file.and_then(|file| Some(here.join(file).parent()?.to_owned())).unwrap_or_else(|| here.clone());
    let nearest = |start: &Path, is_root: fn(&Path) -> bool| {
        start.ancestors().find(|folder| is_root(folder)).map(Path::to_owned)
    };
    let has_store = |folder: &Path| is_store(&folder.join(STORE));
    let is_repository = |folder: &Path| folder.join(".git").exists();
    let root = nearest(&start, has_store).or_else(|| nearest(&here, has_store));
    Ok(root.or_else(|| nearest(&start, is_repository)).unwrap_or(here))
}

/// Whether a folder is a store: it bears our mark, or it is from before there was one.
pub fn is_store(folder: &Path) -> bool {
    cas::is_store(folder) || ["blobs", "actions"].iter().all(|part| folder.join(part).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_store_is_known_by_its_mark_or_by_the_folders_of_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join(STORE);
        assert!(!is_store(&store));
        fs::create_dir_all(store.join("blobs")).unwrap();
        fs::write(store.join(".gitignore"), "# somebody else's\n*\n").unwrap();
        assert!(!is_store(&store));
        fs::create_dir(store.join("actions")).unwrap();
        assert!(is_store(&store));
        fs::remove_dir(store.join("actions")).unwrap();
        fs::write(store.join(".gitignore"), "# Kiln's store: made by `kiln`\n*\n").unwrap();
        assert!(is_store(&store));
    }
}
