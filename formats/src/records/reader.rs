//! The examples of a dataset.
//!
//! Purpose: opens the files one after another, finds the shape in the first rows, and holds every row to it.
//! Invariants: the order is that of the files and of their rows; a row that does not fit is an error and not left out.
//! Must not know: how containers and shapes are read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::containers::{self, Container, Cut, Limits, Rows};
use super::error::{Fault, Place, RecordError};
use super::example::Example;
use super::files::{self, DataFile, Listing};
use super::row::Row;
use super::shapes::{self, Shape};

/// The most rows in which the shape is looked for, and about how many bytes of them.
const LOOKED_AT: (usize, usize) = (64, 4 << 20);

/// How a dataset is read.
#[derive(Debug, Clone)]
pub struct Options {
    /// The shape, when it shall not be found in the first rows.
    pub shape: Option<Shape>,
    /// The shapes that the caller can use: where several fit, one of these is taken, and a row that fits none is held to
    /// that of the first row.
    pub wanted: &'static [Shape],
    /// The container, when it shall not be told by the names of the files.
    pub container: Option<Container>,
    /// Where a plain text may be cut: it comes in parts then, else each file is one text of at most 2 GiB.
    pub cut: Option<Cut>,
    /// The largest row in bytes; plain text has no rows in this sense.
    pub largest_row: u64,
    /// The most bytes of a file after decompression.
    pub largest_file: u64,
    /// Whether a dataset without rows is none of the errors; the shape must be given then.
    pub may_be_empty: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shape: None,
            wanted: &[],
            container: None,
            cut: None,
            largest_row: 16 << 20,
            largest_file: u64::MAX,
            may_be_empty: false,
        }
    }
}

impl Options {
    /// What bounds the reading of each file.
    pub(super) fn limits(&self) -> Limits {
        Limits { row: self.largest_row, file: self.largest_file, cut: self.cut, shape: self.shape }
    }
}

/// Opens a dataset: a file, a folder (all files in it that are not hidden, sorted by the bytes of their names), or a pattern.
///
/// # Errors
/// [`RecordError`] when nothing can be read, when the first row cannot, or when no shape fits the first rows.
pub fn open(path: &Path, options: &Options) -> Result<Reader, RecordError> {
    let listing = files::list(path, options.container)?;
    Reader::of(path, listing, options)
}

/// The examples of a dataset, each with its place.
///
/// After an error of one row the next one may be asked for; after one of a file there is none.
pub struct Reader {
    path: PathBuf,
    files: Vec<DataFile>,
    skipped: Vec<PathBuf>,
    limits: Limits,
    /// The next file.
    next: usize,
    rows: Option<(Arc<Path>, Box<dyn Rows>)>,
    /// The rows in which the shape was looked for.
    seen: VecDeque<Result<(Place, Row), RecordError>>,
    shape: Shape,
    wanted: &'static [Shape],
    /// Whether the last text goes on.
    is_open: bool,
    /// Whether there was an example, or need not be one.
    has_some: bool,
    ended: bool,
}

impl Reader {
    /// Opens the files of a listing.
    pub(super) fn of(path: &Path, listing: Listing, options: &Options) -> Result<Self, RecordError> {
        let mut reader = Self {
            path: path.to_path_buf(),
            files: listing.files,
            skipped: listing.skipped,
            limits: options.limits(),
            next: 0,
            rows: None,
            seen: VecDeque::new(),
            shape: options.shape.unwrap_or(Shape::Text),
            wanted: options.wanted,
            is_open: false,
            has_some: options.may_be_empty,
            ended: false,
        };
        reader.look()?;
        if reader.seen.is_empty() && !(options.may_be_empty && options.shape.is_some()) {
            return Err(reader.empty());
        }
        if options.shape.is_none() {
            reader.shape = reader.found()?;
        }
        Ok(reader)
    }

    /// What the columns mean.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How the rows of the first file are written.
    pub fn container(&self) -> Container {
        self.files.first().map_or(Container::Text, |file| file.container)
    }

    /// The files, in the order in which they are read.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Files of a folder that were taken for no part of the dataset, such as a README beside files of rows.
    pub fn skipped(&self) -> &[PathBuf] {
        &self.skipped
    }

    fn empty(&self) -> RecordError {
        let is_text = self.files.iter().all(|file| file.container == Container::Text);
        let what = if is_text { "some text" } else { "at least one row" };
        RecordError::Empty { path: self.path.clone(), what }
    }

    /// Reads the first rows.
    fn look(&mut self) -> Result<(), RecordError> {
        let mut size = 0;
        while self.seen.len() < LOOKED_AT.0 && size < LOOKED_AT.1 {
            let begins = self.seen.is_empty();
            // One text tells enough, and may be large.
            if !begins && self.is_text_next() {
                break;
            }
            match self.advance(begins) {
                None => break,
                Some(Err(error)) if begins => return Err(error),
                Some(Err(error)) => {
                    self.seen.push_back(Err(error));
                    break;
                }
                Some(Ok((place, row))) => {
                    size += row.size();
                    self.seen.push_back(Ok((place, row)));
                }
            }
        }
        Ok(())
    }

    fn is_text_next(&self) -> bool {
        let current = self.next.checked_sub(1).and_then(|at| self.files.get(at));
        current.is_some_and(|file| file.container == Container::Text)
    }

    /// The shape that fits the rows which were looked at.
    fn found(&self) -> Result<Shape, RecordError> {
        let rows: Vec<&Row> = self.seen.iter().flatten().map(|(_, row)| row).collect();
        let files = || self.seen.iter().flatten().map(|(place, _)| &place.file);
        let alike = files().take_while(|file| Some(*file) == files().next()).count();
        if let Some(shape) = shapes::wanted(&rows, alike, self.wanted).or_else(|| shapes::detect(&rows)) {
            return match self
                .seen
                .iter()
                .flatten()
                .find_map(|(place, row)| Some((place, shapes::refused(row, shape)?)))
            {
                Some((place, fault)) => Err(RecordError::row(&place.file, place.at, fault)),
                None => Ok(shape),
            };
        }
        let Some(Ok((place, row))) = self.seen.front() else { return Err(self.empty()) };
        let of_first = shapes::detect(&[row]).and_then(|shape| {
            let mut rest = self.seen.iter().flatten();
            rest.find(|(_, row)| shapes::detect(&[row]) != Some(shape)).map(|other| (shape, other))
        });
        if let Some((shape, (other, row))) = of_first {
            let what = format!(
                "this row has {}, and does not fit {shape} as {place} does; a row of {shape} is {}",
                listed(row),
                shape.example()
            );
            return Err(RecordError::row(&other.file, other.at, Fault::new("", what)));
        }
        let examples: Vec<&str> = SHOWN.iter().map(|shape| shape.example()).collect();
        let what =
            format!("no shape fits this row, which has {}; a row is {}", listed(row), examples.join(" or "));
        Err(RecordError::row(&place.file, place.at, Fault::new("", what)))
    }

    /// The next row of the files.
    fn advance(&mut self, names: bool) -> Option<Result<(Place, Row), RecordError>> {
        loop {
            if self.ended {
                return None;
            }
            if let Some((file, rows)) = &mut self.rows {
                match rows.next_row(names) {
                    Some(Ok((at, row))) => return Some(Ok((Place { file: Arc::clone(file), at }, row))),
                    Some(Err(error)) => {
                        self.ended = !matches!(error, RecordError::Row { .. } | RecordError::NotUtf8 { .. });
                        return Some(Err(error));
                    }
                    None => self.rows = None,
                }
            }
            let Some(file) = self.files.get(self.next) else {
                self.ended = true;
                return None;
            };
            self.next += 1;
            match containers::open(file, self.limits) {
                Ok(rows) => self.rows = Some((Arc::clone(&file.path), rows)),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The example that a row is; none for a blank text.
    fn example(&mut self, place: &Place, row: Row) -> Result<Option<Example>, RecordError> {
        let hint = if self.shape.fits(&row) { None } else { Some(misfit(&row, self.shape)) };
        let example = shapes::parse(self.shape, row).map_err(|mut fault| {
            fault.message.push_str(&hint.unwrap_or_default());
            RecordError::row(&place.file, place.at, fault)
        })?;
        if let Example::Text(text) = &example {
            let is_blank = !self.is_open && text.ends && text.text.trim().is_empty();
            self.is_open = !text.ends;
            if is_blank {
                return Ok(None);
            }
        }
        self.has_some = true;
        Ok(Some(example))
    }
}

/// The shapes of which a message shows a row when none fits.
const SHOWN: [Shape; 5] =
    [Shape::Text, Shape::Messages, Shape::PromptCompletion, Shape::Instruction, Shape::Preference];

/// The columns of a row, for messages.
fn listed(row: &Row) -> String {
    let names: Vec<String> = row.names().iter().take(12).map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no columns".into() } else { names.join(", ") }
}

/// What is added to an error of a row that lacks the columns of its shape.
fn misfit(row: &Row, shape: Shape) -> String {
    let other = shapes::detect(&[row]).filter(|other| *other != shape);
    let other = other.map(|other| format!(", and this one looks like {other}")).unwrap_or_default();
    format!("; a row of {shape} is {}{other}", shape.example())
}

impl Iterator for Reader {
    type Item = Result<(Place, Example), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = match self.seen.pop_front() {
                Some(row) => row,
                None => match self.advance(false) {
                    Some(row) => row,
                    None if self.has_some => return None,
                    None => {
                        self.has_some = true;
                        return Some(Err(self.empty()));
                    }
                },
            };
            let (place, row) = match row {
                Ok(row) => row,
                Err(error) => {
                    self.has_some = true;
                    return Some(Err(error));
                }
            };
            match self.example(&place, row) {
                Ok(Some(example)) => return Some(Ok((place, example))),
                Ok(None) => {}
                Err(error) => {
                    self.has_some = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("shape", &self.shape).finish_non_exhaustive()
    }
}
