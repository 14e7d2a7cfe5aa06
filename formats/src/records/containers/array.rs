//! Objects of JSON, one after another.
//!
//! Purpose: the rows of an array, or of a file of objects with white space between them.
//! Invariant: one object is in memory at a time; after the end of an array there is nothing else.
//! Must not know: what the columns mean.

use std::path::Path;
use std::sync::Arc;

use super::super::RecordError;
use super::super::error::{At, Fault};
use super::super::row::Row;
use super::kind::{Limits, Rows};
use super::lines::row_of;
use super::scan::{ScanError, Scanner};

/// What stands around the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// Nothing: objects follow each other. A row is named by its line.
    Nothing,
    /// An array that is the whole file.
    Array,
    /// An array that is a field of an object, whose other fields follow.
    Field,
}

/// The rows of such a file.
pub(super) struct Objects {
    path: Arc<Path>,
    scanner: Scanner,
    limit: u64,
    around: Around,
    index: u64,
    /// Whether the scanner stands before a row; if not, a comma or the end comes first.
    is_before_row: bool,
    bytes: Vec<u8>,
    ended: bool,
}

impl Objects {
    /// Reads on where the scanner stands: before the first row, or before the array of rows.
    pub(super) fn new(
        path: &Arc<Path>,
        mut scanner: Scanner,
        around: Around,
        limits: Limits,
    ) -> Result<Self, RecordError> {
        let has_rows = match around {
            Around::Nothing => Ok(true),
            Around::Array | Around::Field => scanner.begins(b'[', b']'),
        };
        let has_rows = has_rows.map_err(|error| of_file(path, At::File, limits.row, error))?;
        let mut rows = Self {
            path: Arc::clone(path),
            scanner,
            limit: limits.row,
            around,
            index: 0,
            is_before_row: true,
            bytes: Vec::new(),
            ended: false,
        };
        if !has_rows {
            rows.finish().map_err(|error| of_file(path, At::File, limits.row, error))?;
        }
        Ok(rows)
    }

    /// Reads the next object into the bytes; false at the end.
    fn advance(&mut self) -> Result<bool, ScanError> {
        if self.around == Around::Nothing {
            if self.scanner.peek()?.is_none() {
                self.ended = true;
                return Ok(false);
            }
        } else if !self.is_before_row && !self.scanner.goes_on(b']')? {
            self.finish()?;
            return Ok(false);
        }
        self.scanner.peek()?;
        self.is_before_row = false;
        self.bytes.clear();
        Ok(true)
    }

    /// After the array: the rest of the file.
    fn finish(&mut self) -> Result<(), ScanError> {
        self.ended = true;
        if self.around == Around::Field {
            while self.scanner.goes_on(b'}')? {
                self.scanner.key()?;
                self.scanner.value(None)?;
            }
        }
        match self.scanner.peek()? {
            None => Ok(()),
            Some(_) => Err(self.scanner.wrong("there is more after the end of the rows")),
        }
    }

    fn at(&self) -> At {
        match self.around {
            Around::Nothing => At::Line(self.scanner.line),
            Around::Array | Around::Field => At::Index(self.index),
        }
    }

    /// The next object: where it is; none at the end.
    fn object(&mut self) -> Result<Option<At>, (At, ScanError)> {
        if self.ended {
            return Ok(None);
        }
        let at = self.at();
        if !self.advance().map_err(|error| (at, error))? {
            return Ok(None);
        }
        let at = self.at();
        self.scanner.value(Some((&mut self.bytes, self.limit))).map_err(|error| (at, error))?;
        self.index += 1;
        Ok(Some(at))
    }
}

impl Rows for Objects {
    fn next_row(&mut self, names: bool) -> Option<Result<(At, Row), RecordError>> {
        match self.object() {
            Ok(None) => None,
            Ok(Some(at)) => Some(row_of(&self.path, at, &self.bytes, names).map(|row| (at, row))),
            Err((at, error)) => {
                self.ended = true;
                Some(Err(of_file(&self.path, at, self.limit, error)))
            }
        }
    }

    fn count(&mut self) -> Result<u64, RecordError> {
        loop {
            match self.object() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(self.index),
                Err((at, error)) => return Err(of_file(&self.path, at, self.limit, error)),
            }
        }
    }
}

/// An error of the text as one of the file.
pub(super) fn of_file(path: &Arc<Path>, at: At, limit: u64, error: ScanError) -> RecordError {
    match error {
        ScanError::Io(error) => RecordError::read(path, error),
        ScanError::TooLarge => RecordError::large(path, at, limit),
        ScanError::Syntax(what) if at == At::File => RecordError::file(path, what),
        ScanError::Syntax(what) => RecordError::row(path, at, Fault::new("", what)),
    }
}
