//! JSON by columns, as pandas writes it.
//!
//! Purpose: an object that holds each column as an array (`orient="list"`) or as an object of labels (`orient="columns"`)
//! becomes rows: each column is read by a stream of its own, side by side.
//! Invariants: one value of each column is in memory; every column has as many values, under the same labels.
//! Must not know: what the columns mean.

use std::path::Path;
use std::sync::Arc;

use super::super::RecordError;
use super::super::error::{At, Fault, Place};
use super::super::files::DataFile;
use super::super::row::{self, Row};
use super::array::of_file;
use super::kind::{Limits, Rows};
use super::scan::{ScanError, Scanner};

/// The most columns of a file.
pub(super) const MOST_COLUMNS: usize = 4096;

/// A column of the file.
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// Where its array or object begins in the text.
    pub(super) offset: u64,
    /// The line of that place.
    pub(super) line: u64,
    /// Whether it is an object of labels.
    pub(super) has_labels: bool,
}

/// A column that is read.
struct Cursor {
    column: Column,
    scanner: Scanner,
    /// Whether a value follows.
    goes_on: bool,
}

/// The rows of such a file.
pub(super) struct Columns {
    path: Arc<Path>,
    cursors: Vec<Cursor>,
    limit: u64,
    index: u64,
    ended: bool,
}

impl Columns {
    /// Opens each column at its place.
    pub(super) fn open(file: &DataFile, columns: Vec<Column>, limits: Limits) -> Result<Self, RecordError> {
        let mut cursors = Vec::with_capacity(columns.len());
        for column in columns {
            if cursors.iter().any(|cursor: &Cursor| cursor.column.name == column.name) {
                return Err(RecordError::file(&file.path, format!("duplicate field `{}`", column.name)));
            }
            let mut scanner = Scanner::new(file.input.text(file.compression, limits.file)?.0);
            let (begin, end) = if column.has_labels { (b'{', b'}') } else { (b'[', b']') };
            let goes_on =
                scanner.skip_to(column.offset, column.line).and_then(|()| scanner.begins(begin, end));
            let goes_on = goes_on.map_err(|error| of_file(&file.path, At::File, limits.row, error))?;
            cursors.push(Cursor { column, scanner, goes_on });
        }
        Ok(Self { path: Arc::clone(&file.path), cursors, limit: limits.row, index: 0, ended: false })
    }

    fn read(&mut self) -> Result<Option<Row>, RecordError> {
        let at = At::Index(self.index);
        let fault =
            |field: &str, message: String| RecordError::row(&self.path, at, Fault::new(field, message));
        let Some(first) = self.cursors.first() else { return Ok(None) };
        let (name, goes_on) = (first.column.name, first.goes_on);
        if let Some(other) = self.cursors.iter().find(|cursor| cursor.goes_on != goes_on) {
            let (short, long) = if goes_on { (other.column.name, name) } else { (name, other.column.name) };
            return Err(fault(
                short,
                format!("this column has no value here, and the column `{long}` has one"),
            ));
        }
        if !goes_on {
            return Ok(None);
        }
        let (mut row, mut label, mut left) = (Row::default(), None, self.limit);
        for cursor in &mut self.cursors {
            let (own, bytes) =
                cursor.take(left).map_err(|error| of_file(&self.path, at, self.limit, error))?;
            left = left.saturating_sub(bytes.len() as u64);
            let name = cursor.column.name;
            if own.is_some() && label.is_some() && own != label {
                let (own, label) = (own.unwrap_or_default(), label.unwrap_or_default());
                return Err(fault(
                    name,
                    format!("this value has the label {own:?} and that of the first column {label:?}"),
                ));
            }
            label = label.or(own);
            if let Err(error) = std::str::from_utf8(&bytes) {
                let (place, first) = (Place { file: Arc::clone(&self.path), at }, error.valid_up_to());
                let byte = bytes.get(first).copied().unwrap_or_default();
                return Err(RecordError::NotUtf8 { place, field: name.into(), at: first as u64, byte });
            }
            let value = row::parse_value(&bytes).map_err(|message| fault(name, message))?;
            row.push(name, value);
        }
        self.index += 1;
        Ok(Some(row))
    }
}

impl Cursor {
    /// The next value with its label, and steps to the one after it.
    fn take(&mut self, limit: u64) -> Result<(Option<String>, Vec<u8>), ScanError> {
        let label = if self.column.has_labels { Some(self.scanner.key()?) } else { None };
        let mut bytes = Vec::new();
        self.scanner.value(Some((&mut bytes, limit)))?;
        self.goes_on = self.scanner.goes_on(if self.column.has_labels { b'}' } else { b']' })?;
        Ok((label, bytes))
    }
}

impl Rows for Columns {
    fn next_row(&mut self, _names: bool) -> Option<Result<(At, Row), RecordError>> {
        if self.ended {
            return None;
        }
        let at = At::Index(self.index);
        let row = self.read();
        // After an error the columns are no longer side by side.
        self.ended = !matches!(row, Ok(Some(_)));
        row.map(|row| row.map(|row| (at, row))).transpose()
    }
}
