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
    separator: u8,
    limit: u64,
    /// The line of the next byte, from 1.
    line: u64,
    /// The name of each field, and the column it is where a shape knows it.
    header: Vec<(String, Option<&'static str>)>,
    /// The fields of the record, joined.
    bytes: Vec<u8>,
    /// Where each field of the record ends.
    ends: Vec<usize>,
    ended: bool,
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

/// Why a record could not be read.
enum Broken {
    Io(std::io::Error),
    TooLarge,
    Wrong(String),
}

impl Csv {
    pub(super) fn open(file: &DataFile, separator: u8, limits: Limits) -> Result<Self, RecordError> {
        let (stream, _) = file.input.text(file.compression, limits.file)?;
        let (path, limit) = (Arc::clone(&file.path), limits.row);
        let (header, bytes, ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut csv = Self { path, stream, separator, limit, line: 1, header, bytes, ends, ended: false };
        if let Some(at) = csv.record()? {
            for place in 0..csv.ends.len() {
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

    /// Reads a record; blank lines before it are skipped. None at the end.
    fn record(&mut self) -> Result<Option<At>, RecordError> {
        let (mut at, mut state) = (At::Line(self.line), State::Start);
        self.bytes.clear();
        self.ends.clear();
        loop {
            let step = self.step(&mut at, &mut state);
            match step {
                Ok(None) => {}
                Ok(Some(true)) => return Ok(Some(at)),
                Ok(Some(false)) => return Ok(None),
                Err(broken) => {
                    self.ended = true;
                    return Err(match broken {
                        Broken::Io(error) => RecordError::read(&self.path, error),
                        Broken::TooLarge => RecordError::large(&self.path, at, self.limit),
                        Broken::Wrong(message) => self.wrong(at, "", message),
                    });
                }
            }
        }
    }

    /// Reads a buffer of the record: true when it has ended, false when there is none.
    fn step(&mut self, at: &mut At, state: &mut State) -> Result<Option<bool>, Broken> {
        let buffer = self.stream.fill_buf().map_err(Broken::Io)?;
        if buffer.is_empty() {
            let is_blank = self.bytes.is_empty() && self.ends.is_empty() && *state == State::Start;
            return match state {
                State::Quoted => Err(Broken::Wrong("a quote in this record is never closed".into())),
                _ if is_blank => Ok(Some(false)),
                _ => {
                    self.ends.push(self.bytes.len());
                    Ok(Some(true))
                }
            };
        }
        let (mut taken, mut is_whole) = (0, false);
        for &byte in buffer {
            taken += 1;
            if byte == b'\n' {
                self.line += 1;
            }
            let is_end = byte == b'\n' || byte == b'\r';
            match (*state, byte) {
                (State::Start, _) if is_end && self.ends.is_empty() => *at = At::Line(self.line),
                (State::Start | State::Plain | State::Closed, _) if is_end => {
                    self.ends.push(self.bytes.len());
                    is_whole = true;
                    break;
                }
                (State::Start, b'"') => *state = State::Quoted,
                (State::Quoted, b'"') => *state = State::Closed,
                (State::Closed, b'"') => {
                    self.bytes.push(byte);
                    *state = State::Quoted;
                }
                (State::Start | State::Plain | State::Closed, _) if byte == self.separator => {
                    self.ends.push(self.bytes.len());
                    *state = State::Start;
                }
                (State::Closed, _) => {
                    let field = self.ends.len() + 1;
                    return Err(Broken::Wrong(format!(
                        "field {field} goes on after its closing quote; a quote inside a field is doubled"
                    )));
                }
                (State::Start, _) => {
                    self.bytes.push(byte);
                    *state = State::Plain;
                }
                (State::Plain | State::Quoted, _) => self.bytes.push(byte),
            }
            if self.ends.len() > MOST_COLUMNS {
                return Err(Broken::Wrong(format!("it has more than {MOST_COLUMNS} fields")));
            }
        }
        self.stream.consume(taken);
        if self.bytes.len() as u64 > self.limit {
            return Err(Broken::TooLarge);
        }
        Ok(is_whole.then_some(true))
    }

    /// A field of the record as text.
    fn text(&self, at: At, place: usize) -> Result<&str, RecordError> {
        let begin = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(place).copied().unwrap_or(begin);
        let bytes = self.bytes.get(begin..end).unwrap_or_default();
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
        let (fields, wanted) = (self.ends.len(), self.header.len());
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
        match self.record() {
            Ok(Some(at)) => Some(self.row(at, names).map(|row| (at, row))),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    fn count(&mut self) -> Result<u64, RecordError> {
        let mut rows = 0;
        while !self.ended && self.record()?.is_some() {
            rows += 1;
        }
        self.ended = true;
        Ok(rows)
    }
}
