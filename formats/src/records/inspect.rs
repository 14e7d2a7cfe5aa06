//! What a dataset is, for people.
//!
//! Purpose: the files, containers and shape of a dataset, how many rows it has, and the first of them.
//! Invariant: it says what [`open`](super::open) would read.
//! Must not know: how it is shown.

use std::path::{Path, PathBuf};

use super::containers;
use super::error::{Place, RecordError};
use super::example::Example;
use super::files::DataFile;
use super::reader::{Options, open};
use super::shapes::Shape;

/// What a dataset is.
#[derive(Debug)]
pub struct Inspection {
    /// Its files in order, each with its container and compression.
    pub files: Vec<DataFile>,
    /// Files of the folder that are no part of it.
    pub skipped: Vec<PathBuf>,
    /// What its columns mean.
    pub shape: Shape,
    /// How many rows its files have, blank texts included.
    pub rows: u64,
    /// The first rows, each with its place.
    pub first: Vec<(Place, Example)>,
    /// How many rows were read; those after them may hold errors.
    pub checked: u64,
    /// The first row among those that cannot be read, and why.
    pub broken: Option<RecordError>,
}

/// The most rows that are read.
const MOST_CHECKED: u64 = 100_000;

/// Looks at a dataset: its files, its shape, the number of its rows and the first `rows` of them; and whether all rows can be
/// read, as far as the first 100,000.
///
/// # Errors
/// [`RecordError`] when it cannot be opened, or when a file cannot be counted.
pub fn inspect(path: &Path, options: &Options, rows: usize) -> Result<Inspection, RecordError> {
    let mut reader = open(path, options)?;
    let (mut first, mut checked, mut broken) = (Vec::new(), 0, None);
    while checked < MOST_CHECKED
        && let Some(row) = reader.next()
    {
        match row {
            Ok(row) if first.len() < rows => first.push(row),
            Ok(_) => {}
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
        checked += 1;
    }
    let mut total = 0_u64;
    for file in reader.files() {
        total = total.saturating_add(containers::open(file, options.limits())?.count()?);
    }
    let (files, skipped) = (reader.files().to_vec(), reader.skipped().to_vec());
    Ok(Inspection { files, skipped, shape: reader.shape(), rows: total, first, checked, broken })
}
