//! CSV and TSV.
//!
//! Purpose: a line of names and then a record for each row, as RFC 4180 has it: quotes around fields, doubled inside them,
//! line ends inside them.
//! Invariants: a record is bounded and has as many fields as there are names; a quote that is opened is closed.
//! Must not know: what the columns mean.
//!
//! The crate `csv` would swallow the rest of the file after a quote that nobody closes (its issues 252 and 289), holds a
//! record of any size, and counts a blank line to the record after it; so this is read here.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use super::super::RecordError;
use super::super::error::{At, Fault, Place};
use super::super::files::DataFile;
use super::super::input::Stream;
use super::super::json::Json;
use super::super::row::{self, Row};
use super::columns::MOST_COLUMNS;
use super::kind::{Limits, Rows};

/// The rows of a file of CSV.
pub(super) struct Csv {
    path: Arc<Path>,
    stream: Stream,
    limit: u64,
    /// The name of each field, and the column it is where a shape knows it.
    header: Vec<(String, Option<&'static str>)>,
    record: Record,
    ended: bool,
}

/// A record that is read byte by byte.
struct Record {
    separator: u8,
    /// The line of the next byte, from 1.
    line: u64,
    /// The line on which the record begins.
    begins: u64,
    state: State,
    /// The fields, joined.
    bytes: Vec<u8>,
    /// Where each field ends.
    ends: Vec<usize>,
}

/// Where in a field the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before its first byte.
    Start,
    /// In a field without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote that closes the field, or is the first of two.
    Closed,
}

impl Record {
    /// Begins the next record.
    fn begin(&mut self) {
        (self.begins, self.state) = (self.line, State::Start);
        self.bytes.clear();
        self.ends.clear();
    }

    /// Takes a byte: true when the record ends with it. Blank lines before it are skipped.
    fn take(&mut self, byte: u8) -> Result<bool, String> {
        self.line += u64::from(byte == b'\n');
        let is_end = matches!(byte, b'\n' | b'\r');
        match (self.state, byte) {
            (State::Start, _) if is_end && self.ends.is_empty() => self.begins = self.line,
            (State::Quoted, b'"') => self.state = State::Closed,
            (State::Quoted, _) => self.bytes.push(byte),
            (_, _) if is_end => {
                self.ends.push(self.bytes.len());
                return Ok(true);
            }
            (_, _) if byte == self.separator => {
                self.ends.push(self.bytes.len());
                self.state = State::Start;
            }
            (State::Start, b'"') => self.state = State::Quoted,
            (State::Closed, b'"') => {
                self.bytes.push(byte);
                self.state = State::Quoted;
            }
            (State::Closed, _) => {
                let field = self.ends.len() + 1;
                return Err(format!(
                    "field {field} goes on after its closing quote; a quote inside a field is doubled"
                ));
            }
            (State::Start | State::Plain, _) => {
                self.bytes.push(byte);
                self.state = State::Plain;
            }
        }
        if self.ends.len() > MOST_COLUMNS {
            Err(format!("it has more than {MOST_COLUMNS} fields"))
        } else {
            Ok(false)
        }
    }

    /// The end of the file: true when a record ends with it.
    fn end(&mut self) -> Result<bool, String> {
        if self.state == State::Quoted {
            return Err("a quote in this record is never closed".into());
        }
        if self.state == State::Start && self.ends.is_empty() {
            return Ok(false);
        }
        self.ends.push(self.bytes.len());
        Ok(true)
    }
}

impl Csv {
    pub(super) fn open(file: &DataFile, separator: u8, limits: Limits) -> Result<Self, RecordError> {
        let (stream, _) = file.input.text(file.compression, limits.file)?;
        let (path, limit) = (Arc::clone(&file.path), limits.row);
        let state = State::Start;
        let record = Record { separator, line: 1, begins: 1, state, bytes: Vec::new(), ends: Vec::new() };
        let mut csv = Self { path, stream, limit, header: Vec::new(), record, ended: false };
        if let Some(at) = csv.advance()? {
            for place in 0..csv.record.ends.len() {
                let name = csv.text(at, place)?.trim().to_owned();
                let column = row::column(&name);
                if column.is_some() && csv.header.iter().any(|(known, _)| *known == name) {
                    return Err(csv.wrong(at, &name, "this column stands twice in the line of names"));
                }
                csv.header.push((name, column));
            }
        }
        Ok(csv)
    }

    fn wrong(&self, at: At, field: &str, message: impl Into<String>) -> RecordError {
        RecordError::row(&self.path, at, Fault::new(field, message))
    }

    /// Reads a record; none at the end. After an error there is none either.
    fn advance(&mut self) -> Result<Option<At>, RecordError> {
        let record = self.read();
        self.ended = !matches!(record, Ok(Some(_)));
        record
    }

    fn read(&mut self) -> Result<Option<At>, RecordError> {
        self.record.begin();
        loop {
            let buffer = self.stream.fill_buf().map_err(|error| RecordError::read(&self.path, error))?;
            if buffer.is_empty() {
                let at = At::Line(self.record.begins);
                let is_record = self.record.end().map_err(|what| self.wrong(at, "", what))?;
                return Ok(is_record.then_some(at));
            }
            let (mut taken, mut is_whole) = (0, Ok(false));
            for &byte in buffer {
                taken += 1;
                is_whole = self.record.take(byte);
                if is_whole != Ok(false) {
                    break;
                }
            }
            self.stream.consume(taken);
            let at = At::Line(self.record.begins);
            let is_whole = is_whole.map_err(|what| self.wrong(at, "", what))?;
            if self.record.bytes.len() as u64 > self.limit {
                return Err(RecordError::large(&self.path, at, self.limit));
            }
            if is_whole {
                return Ok(Some(at));
            }
        }
    }

    /// A field of the record as text.
    fn text(&self, at: At, place: usize) -> Result<&str, RecordError> {
        let begin =
            place.checked_sub(1).and_then(|before| self.record.ends.get(before)).copied().unwrap_or(0);
        let end = self.record.ends.get(place).copied().unwrap_or(begin);
        let bytes = self.record.bytes.get(begin..end).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| {
            let field = self.header.get(place).map(|(name, _)| name.clone()).unwrap_or_default();
            let first = error.valid_up_to();
            let byte = bytes.get(first).copied().unwrap_or_default();
            let place = Place { file: Arc::clone(&self.path), at };
            RecordError::NotUtf8 { place, field, at: first as u64, byte }
        })
    }

    /// The record as a row.
    fn row(&self, at: At, names: bool) -> Result<Row, RecordError> {
        let (fields, wanted) = (self.record.ends.len(), self.header.len());
        if fields != wanted {
            let what = format!(
                "{fields} fields, and the first line names {wanted}; put quotes around a field with separators or line ends"
            );
            return Err(self.wrong(at, "", what));
        }
        let mut row = Row::default();
        for (place, (name, column)) in self.header.iter().enumerate() {
            let Some(column) = column else {
                if names {
                    row.others.push(name.clone());
                }
                continue;
            };
            let text = self.text(at, place)?;
            let value = match text.trim() {
                "" if row::is_list(column) => Json::Null,
                list if row::is_list(column) => row::parse_value(list.as_bytes()).map_err(|message| {
                    self.wrong(
                        at,
                        name,
                        format!("{message}; in a CSV this column is a list, written as JSON"),
                    )
                })?,
                _ => Json::String(text.to_owned()),
            };
            row.push(column, value);
        }
        Ok(row)
    }
}

impl Rows for Csv {
    fn next_row(&mut self, names: bool) -> Option<Result<(At, Row), RecordError>> {
        if self.ended {
            return None;
        }
        let at = self.advance().transpose()?;
        Some(at.and_then(|at| self.row(at, names).map(|row| (at, row))))
    }

    fn count(&mut self) -> Result<u64, RecordError> {
        let mut rows = 0;
        while !self.ended && self.advance()?.is_some() {
            rows += 1;
        }
        Ok(rows)
    }
}
