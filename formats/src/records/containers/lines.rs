//! JSON lines.
//!
//! Purpose: an object of JSON on each line becomes a row.
//! Invariants: blank lines are skipped but counted; a line has at most the bytes of the limit.
//! Must not know: what the columns mean.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use super::super::RecordError;
use super::super::error::{At, Fault, Place};
use super::super::files::DataFile;
use super::super::input::Stream;
use super::super::row::{self, Row};
use super::kind::{Limits, Rows};

/// The rows of a file of JSON lines.
pub(super) struct Lines {
    path: Arc<Path>,
    stream: Stream,
    limit: u64,
    /// The line that was read last, from 1.
    line: u64,
    bytes: Vec<u8>,
    ended: bool,
}

impl Lines {
    pub(super) fn open(file: &DataFile, limits: Limits) -> Result<Self, RecordError> {
        let (stream, _) = file.input.text(file.compression, limits.file)?;
        let (path, limit) = (Arc::clone(&file.path), limits.row);
        Ok(Self { path, stream, limit, line: 0, bytes: Vec::new(), ended: false })
    }

    /// Reads the next line that is not blank; false at the end.
    fn advance(&mut self) -> Result<bool, RecordError> {
        loop {
            self.bytes.clear();
            let mut line = (&mut self.stream).take(self.limit + 1);
            let size = line.read_until(b'\n', &mut self.bytes);
            let size = size.map_err(|error| RecordError::read(&self.path, error))? as u64;
            if size == 0 {
                return Ok(false);
            }
            self.line += 1;
            if size > self.limit {
                return Err(RecordError::large(&self.path, At::Line(self.line), self.limit));
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

impl Rows for Lines {
    fn next_row(&mut self, names: bool) -> Option<Result<(At, Row), RecordError>> {
        if self.ended {
            return None;
        }
        match self.advance() {
            Ok(true) => {}
            Ok(false) => {
                self.ended = true;
                return None;
            }
            Err(error) => {
                self.ended = true;
                return Some(Err(error));
            }
        }
        let at = At::Line(self.line);
        Some(row_of(&self.path, at, &self.bytes, names).map(|row| (at, row)))
    }

    fn count(&mut self) -> Result<u64, RecordError> {
        let mut rows = 0;
        while !self.ended && self.advance()? {
            rows += 1;
        }
        self.ended = true;
        Ok(rows)
    }
}

/// The row that these bytes of JSON are.
pub(super) fn row_of(path: &Arc<Path>, at: At, json: &[u8], names: bool) -> Result<Row, RecordError> {
    if let Err(error) = std::str::from_utf8(json) {
        let place = Place { file: Arc::clone(path), at };
        let first = error.valid_up_to();
        let byte = json.get(first).copied().unwrap_or_default();
        return Err(RecordError::NotUtf8 { place, field: String::new(), at: first as u64, byte });
    }
    row::parse(json.trim_ascii_end(), names)
        .map_err(|message| RecordError::row(path, at, Fault::new("", message)))
}
