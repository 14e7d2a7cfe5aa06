//! The rows of a file of Parquet.
//!
//! Purpose: reads the columns that some shape knows, row group by row group, and puts their rows together.
//! Invariants: the other columns are never read; a fault of the decoder is an error of the file.
//! Must not know: what the columns mean.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;

use super::super::RecordError;
use super::super::containers::{Limits, Rows};
use super::super::error::{At, Fault, Place};
use super::super::files::DataFile;
use super::super::row::{self, Row};
use super::footer;
use super::leaf::{Leaf, NoText};
use super::pages::Held;
use super::source::Source;
use super::tree::{self, Broken, Node, Reason};

/// What is said of a file on which the decoder panicked.
pub(in super::super) const PANICKED: &str =
    "the decoder of Parquet failed on it; the file is damaged, write it again";

/// The rows of a file.
pub(in super::super) struct Parquet {
    path: Arc<Path>,
    source: Source,
    metadata: Arc<ParquetMetaData>,
    /// The known columns of the row group that is read.
    fields: Vec<(&'static str, Option<Node>)>,
    /// The names of the others.
    others: Vec<String>,
    leaves: Vec<Option<Leaf>>,
    held: Arc<Held>,
    /// The largest row in bytes.
    limit: u64,
    /// The next row group.
    group: usize,
    /// How many rows of this group are left.
    left: u64,
    /// The row that was read last, from 1.
    row: u64,
    ended: bool,
}

impl Parquet {
    pub(in super::super) fn open(file: &DataFile, limits: Limits) -> std::result::Result<Self, RecordError> {
        let source = Source::open(file)?;
        let metadata = guarded(|| Ok(footer::read(&source)));
        let metadata = metadata.and_then(|read| read).map_err(|what| RecordError::file(&file.path, what))?;
        let mut others = Vec::new();
        for field in metadata.file_metadata().schema().get_fields() {
            let name = field.name();
            if row::column(name).is_none() {
                others.push(name.to_owned());
            }
        }
        Ok(Self {
            path: Arc::clone(&file.path),
            source,
            metadata: Arc::new(metadata),
            fields: Vec::new(),
            others,
            leaves: Vec::new(),
            held: Arc::new(Held::default()),
            limit: limits.row,
            group: 0,
            left: 0,
            row: 0,
            ended: false,
        })
    }

    /// Opens the columns of the next row group; false when there is none.
    fn next_group(&mut self) -> Result<bool> {
        self.leaves.clear();
        self.fields.clear();
        let metadata = Arc::clone(&self.metadata);
        let Some(group) = metadata.row_groups().get(self.group) else { return Ok(false) };
        self.group += 1;
        self.left = u64::try_from(group.num_rows()).unwrap_or(0);
        let mut first = 0;
        for field in metadata.file_metadata().schema().get_fields() {
            let columns = first..first + tree::columns(field);
            first = columns.end;
            // Columns of one name are two; the first is taken.
            let name =
                row::column(field.name()).filter(|name| self.fields.iter().all(|(known, _)| known != name));
            let Some(name) = name else { continue };
            let mut place = self.leaves.len();
            let node = tree::build(field, &mut place, 0, 0);
            for column in columns {
                self.leaves.push(Leaf::open(&self.source, group.column(column), &self.held)?);
            }
            self.fields.push((name, node.pruned(&self.leaves)));
        }
        Ok(true)
    }

    /// Reads the next row; none at the end.
    fn read(&mut self) -> Result<Option<std::result::Result<Row, Broken>>> {
        while self.left == 0 {
            // A group ends where it says, or it is damaged.
            for leaf in self.leaves.iter_mut().flatten() {
                if leaf.read()? {
                    return Err(parquet::errors::ParquetError::General(
                        "a row group has more rows than it says".into(),
                    ));
                }
            }
            if !self.next_group()? {
                return Ok(None);
            }
        }
        self.left -= 1;
        self.row += 1;
        for leaf in self.leaves.iter_mut().flatten() {
            if !leaf.read()? {
                return Err(parquet::errors::ParquetError::EOF(
                    "a row group has fewer rows than it says".into(),
                ));
            }
        }
        Ok(Some(self.assemble()))
    }

    fn assemble(&mut self) -> std::result::Result<Row, Broken> {
        let (mut row, mut left) = (Row::default(), self.limit);
        for (name, node) in &self.fields {
            if let Some(node) = node {
                row.push(name, node.take(&mut self.leaves, &mut left).map_err(|error| error.inside(name))?);
            }
        }
        if self.leaves.iter().flatten().any(|leaf| leaf.peek().is_some()) {
            return Err(Broken { field: String::new(), reason: Reason::Columns });
        }
        Ok(row)
    }

    fn error(&self, broken: Broken) -> RecordError {
        let at = At::Row(self.row);
        match broken.reason {
            Reason::Text(NoText::NotUtf8(first, byte)) => {
                let place = Place { file: Arc::clone(&self.path), at };
                RecordError::NotUtf8 { place, field: broken.field, at: first, byte }
            }
            Reason::Text(NoText::NotJson(message)) => {
                RecordError::row(&self.path, at, Fault::new(broken.field, message))
            }
            Reason::TooLarge => RecordError::large(&self.path, at, self.limit),
            Reason::Columns => {
                let what = "the columns under this field do not belong together; the file is damaged";
                RecordError::row(&self.path, at, Fault::new(broken.field, what))
            }
        }
    }
}

impl Rows for Parquet {
    fn next_row(&mut self, names: bool) -> Option<std::result::Result<(At, Row), RecordError>> {
        if self.ended {
            return None;
        }
        let read = guarded(|| self.read());
        self.ended = !matches!(read, Ok(Some(_)));
        match read {
            Ok(None) => None,
            Ok(Some(Ok(mut row))) => {
                if names {
                    row.others.clone_from(&self.others);
                }
                Some(Ok((At::Row(self.row), row)))
            }
            Ok(Some(Err(broken))) => Some(Err(self.error(broken))),
            Err(what) => {
                let row = self.row.max(1);
                Some(Err(RecordError::file(&self.path, format!("row {row}: {what}"))))
            }
        }
    }

    fn count(&mut self) -> std::result::Result<u64, RecordError> {
        self.ended = true;
        let rows = self.metadata.row_groups().iter().skip(self.group);
        let rows = rows.map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
        Ok(rows.fold(self.left, u64::saturating_add))
    }
}

/// Runs the decoder of the crate `parquet`. What it is given was checked, and it is known to panic on none of it; should it
/// do so all the same, the file is at fault and not the program.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let text = error.to_string();
            let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
            Err(format!("{text}; the file is damaged, write it again"))
        }
        Err(_) => Err(PANICKED.into()),
    }
}
