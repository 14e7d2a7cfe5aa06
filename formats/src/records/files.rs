//! The files of a dataset.
//!
//! Purpose: a path, a folder or a glob pattern becomes a list of files, each with its container.
//! Invariants: files come in the order of the bytes of their names, whatever the file system says; links to folders are not
//! followed; hidden files are left out.
//! Must not know: what stands in the files, beyond their first bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::RecordError;
use super::containers::{Container, sniff};
use super::input::{Compression, Input};

/// The most files of one dataset.
const MOST_FILES: usize = 1 << 20;
/// Endings of data that is not read, with what to do about it.
const REFUSED: [(&str, &str); 17] = [
    ("arrow", "Arrow files are not read; write Parquet (with datasets: load_from_disk(..).to_parquet(..))"),
    ("feather", "Arrow files are not read; write Parquet"),
    ("orc", "ORC files are not read; write Parquet"),
    ("avro", "Avro files are not read; write Parquet"),
    ("xlsx", "spreadsheets are not read; export it as CSV UTF-8"),
    ("xls", "spreadsheets are not read; export it as CSV UTF-8"),
    ("ods", "spreadsheets are not read; export it as CSV UTF-8"),
    ("zip", "zip archives are not read; unpack it"),
    ("tar", "tar archives are not read; unpack it"),
    ("tgz", "tar archives are not read; unpack it"),
    ("7z", "7z archives are not read; unpack it"),
    ("bz2", "bzip2 is not read; compress it with gzip or zstd, or not at all"),
    ("xz", "xz is not read; compress it with gzip or zstd, or not at all"),
    ("pkl", "pickles are not read, for they may hold code; write JSON lines or Parquet"),
    ("pickle", "pickles are not read, for they may hold code; write JSON lines or Parquet"),
    ("npy", "arrays of numpy are not read; write JSON lines or Parquet"),
    ("safetensors", "this is a model and no dataset"),
];
/// Files beside a dataset of `datasets` that hold none of its rows.
const BESIDES: [&str; 4] = ["dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"];

/// A file of a dataset.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Its path, as the caller named it or its folder.
    pub path: Arc<Path>,
    /// How its rows are written.
    pub container: Container,
    /// How it is compressed.
    pub compression: Compression,
    /// Where its bytes are.
    pub(super) input: Input,
}

/// The files of a dataset, and those beside it that are no part of it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<DataFile>,
    pub(super) skipped: Vec<PathBuf>,
}

/// The files of a dataset, as [`super::open`] would read them.
///
/// # Errors
/// [`RecordError`] when there are none, or one of them is of a kind that is not read.
pub fn files(path: &Path) -> Result<Vec<DataFile>, RecordError> {
    Ok(list(path, None)?.files)
}

/// Lists the files of a dataset: one file, the files of a folder and of those below it, or those that a pattern matches.
pub(super) fn list(path: &Path, container: Option<Container>) -> Result<Listing, RecordError> {
    let mut listing = Listing::default();
    if path.is_dir() {
        for inside in collect(path)? {
            listing.add_from_folder(path.join(&inside), container)?;
        }
        listing.drop_what_is_beside(container);
    } else if !path.exists() && is_pattern(path) {
        for file in matches(path)? {
            listing.files.push(file_of(file, container)?);
        }
    } else {
        listing.files.push(file_of(path.to_path_buf(), container)?);
    }
    Ok(listing)
}

impl Listing {
    fn add_from_folder(&mut self, path: PathBuf, container: Option<Container>) -> Result<(), RecordError> {
        let is_beside = path.file_name().is_some_and(|name| BESIDES.iter().any(|beside| name == *beside));
        if is_beside && container.is_none() {
            self.skipped.push(path);
            return Ok(());
        }
        let known = container.or_else(|| Container::of_ending(&path));
        // A file of another name in a folder is text, as it always was in a corpus.
        self.files.push(file_of(path, Some(known.unwrap_or(Container::Other)))?);
        Ok(())
    }

    /// Beside files of rows, a file of another ending is something else, such as a README.
    fn drop_what_is_beside(&mut self, container: Option<Container>) {
        let has_rows =
            self.files.iter().any(|file| !matches!(file.container, Container::Text | Container::Other));
        for file in std::mem::take(&mut self.files) {
            match file.container {
                Container::Other if has_rows && container.is_none() => {
                    self.skipped.push(file.path.to_path_buf());
                }
                Container::Other => self.files.push(DataFile { container: Container::Text, ..file }),
                _ => self.files.push(file),
            }
        }
    }
}

/// The file with its container: as the caller says, by its ending, or by its first bytes.
fn file_of(path: PathBuf, container: Option<Container>) -> Result<DataFile, RecordError> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if let Some((_, advice)) = REFUSED.iter().find(|(refused, _)| *refused == ending && container.is_none()) {
        return Err(RecordError::file(&path, *advice));
    }
    let path: Arc<Path> = path.into();
    let input = Input::File(Arc::clone(&path));
    let compression = input.compression()?;
    let container = match container.or_else(|| Container::of_ending(&path)) {
        Some(container) => container,
        None => sniff(&input, compression)?,
    };
    Ok(DataFile { path, container, compression, input })
}

fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

fn matches(pattern: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let text = pattern.to_str().ok_or_else(|| RecordError::file(pattern, "this pattern is not UTF-8"))?;
    let found = glob::glob(text)
        .map_err(|error| RecordError::file(pattern, format!("this is no glob pattern: {error}")))?;
    let mut files = Vec::new();
    for path in found {
        let path = path.map_err(|error| {
            let path = error.path().to_path_buf();
            RecordError::Io { doing: "list", path, source: error.into() }
        })?;
        let is_hidden = path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."));
        if path.is_file() && !is_hidden {
            files.push(path);
        }
        bounded(pattern, files.len())?;
    }
    files.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    if files.is_empty() {
        return Err(RecordError::file(
            pattern,
            "there is no file of this name, and none matches it as a pattern",
        ));
    }
    Ok(files)
}

/// The files of a folder and of those below it, as paths inside it, sorted by their bytes; hidden ones are left out.
fn collect(root: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let whole = root.join(&folder);
        let io = |source| RecordError::Io { doing: "list", path: whole.clone(), source };
        for entry in std::fs::read_dir(&whole).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name().as_bytes().starts_with(b".") {
                continue;
            }
            let (kind, inside) = (entry.file_type().map_err(io)?, folder.join(entry.file_name()));
            if kind.is_dir() {
                folders.push(inside);
            } else if kind.is_file() || (kind.is_symlink() && entry.path().is_file()) {
                // The runner hands artifacts over as folders of links into its store; a link to a folder is not
                // followed, for it could lead in a circle.
                files.push(inside);
            }
            bounded(root, files.len() + folders.len())?;
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(files)
}

fn bounded(path: &Path, files: usize) -> Result<(), RecordError> {
    if files > MOST_FILES {
        return Err(RecordError::file(path, format!("it has more than {MOST_FILES} files; join some")));
    }
    Ok(())
}
