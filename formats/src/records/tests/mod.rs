//! Tests of the reading of datasets. The files in `data/` are written by `formats/tests/records.py --fixtures`, with `datasets`,
//! pandas and pyarrow.

mod containers;
mod errors;
mod hostile;
mod malformed;
mod preferences;
mod round_trip;
mod shapes;
mod texts;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Example, Options, Reader, RecordError, open};

/// A file of the fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/records/tests/data").join(name)
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// A file of this name and content.
fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = folder(&[(name, content.as_ref())]);
    let path = folder.path().join(name);
    (folder, path)
}

fn reader(path: &Path) -> Reader {
    open(path, &Options::default()).unwrap()
}

/// The examples of a path, of which none may be an error.
fn examples(path: &Path) -> Vec<Example> {
    reader(path).map(|row| row.unwrap().1).collect()
}

/// The examples as JSON.
fn rows(path: &Path) -> Vec<Value> {
    examples(path).iter().map(|example| serde_json::to_value(example).unwrap()).collect()
}

/// The examples of a file with this content as JSON.
fn read(name: &str, content: impl AsRef<[u8]>) -> Vec<Value> {
    let (_folder, path) = file(name, content);
    rows(&path)
}

/// The message of the first error of a path.
fn message(path: &Path, options: &Options) -> String {
    let error: RecordError = match open(path, options) {
        Err(error) => error,
        Ok(reader) => {
            reader.map(|row| row.err()).find(Option::is_some).flatten().expect("there should be an error")
        }
    };
    let folder = format!("{}/", path.parent().unwrap().display());
    error.to_string().replace(&folder, "")
}

/// The message of the first error of a file with this content.
fn wrong(name: &str, content: impl AsRef<[u8]>) -> String {
    let (_folder, path) = file(name, content);
    message(&path, &Options::default())
}
