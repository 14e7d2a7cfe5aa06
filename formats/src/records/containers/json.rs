//! `.json` files.
//!
//! Purpose: tells which of the forms that are in use a file of JSON has: an array of objects; objects one after another
//! (JSON lines under another name); one object that is a row, that holds the rows as `data`, or that holds a column as
//! each of its fields, as pandas writes it.
//! Invariant: one row and no more is held in memory to tell.
//! Must not know: how columns become rows.

use std::path::Path;
use std::sync::Arc;

use super::super::RecordError;
use super::super::error::At;
use super::super::files::DataFile;
use super::super::{row, shapes};
use super::array::{Around, Objects, of_file};
use super::columns::{Column, Columns, MOST_COLUMNS};
use super::kind::{Limits, Rows};
use super::lines::row_of;
use super::scan::{ScanError, Scanner};

/// Opens a file of JSON.
pub(super) fn open(file: &DataFile, limits: Limits) -> Result<Box<dyn Rows>, RecordError> {
    let path = &file.path;
    let wrong = |error| of_file(path, At::File, limits.row, error);
    let mut scanner = scanner(file, limits)?;
    match scanner.peek().map_err(wrong)? {
        None => Ok(Box::new(Objects::new(path, scanner, Around::Nothing, limits)?)),
        Some(b'[') => Ok(Box::new(Objects::new(path, scanner, Around::Array, limits)?)),
        Some(b'{') => of_object(file, scanner, limits),
        Some(_) => Err(RecordError::file(
            path,
            "this is not JSON with rows: it begins neither with `[` nor with `{`; name JSON lines .jsonl and text .txt",
        )),
    }
}

fn scanner(file: &DataFile, limits: Limits) -> Result<Scanner, RecordError> {
    Ok(Scanner::new(file.input.text(file.compression, limits.file)?.0))
}

/// A file that begins with an object.
fn of_object(file: &DataFile, mut first: Scanner, limits: Limits) -> Result<Box<dyn Rows>, RecordError> {
    let path = &file.path;
    let wrong = |error| of_file(path, At::File, limits.row, error);
    let mut bytes = Vec::new();
    let is_alone = match first.value(Some((&mut bytes, limits.row))) {
        Ok(()) => first.peek().map_err(wrong)?.is_none(),
        // An object of that size is no row.
        Err(ScanError::TooLarge) => {
            bytes.clear();
            true
        }
        Err(ScanError::Io(error)) => return Err(RecordError::read(path, error)),
        // Whatever is wrong, the reading of rows says it with its line.
        Err(ScanError::Syntax(_)) => false,
    };
    let one_after_another = || -> Result<Box<dyn Rows>, RecordError> {
        Ok(Box::new(Objects::new(path, scanner(file, limits)?, Around::Nothing, limits)?))
    };
    if !is_alone || is_row(path, &bytes, limits) {
        return one_after_another();
    }
    if let Some(rows) = data(file, limits)? {
        return Ok(Box::new(rows));
    }
    match columns(file, limits)? {
        Some(columns) => Ok(Box::new(Columns::open(file, columns, limits)?)),
        None if bytes.is_empty() => Err(RecordError::large(path, At::File, limits.row)),
        None => one_after_another(),
    }
}

/// Whether the bytes are a row that fits a shape.
fn is_row(path: &Arc<Path>, bytes: &[u8], limits: Limits) -> bool {
    let Ok(row) = row_of(path, At::File, bytes, false) else { return false };
    let shape = limits.shape.or_else(|| shapes::detect(&[&row]));
    shape.is_some_and(|shape| shapes::parse(shape, row).is_ok())
}

/// The rows under `data`, when that is an array of objects.
fn data(file: &DataFile, limits: Limits) -> Result<Option<Objects>, RecordError> {
    let wrong = |error| of_file(&file.path, At::File, limits.row, error);
    let mut scanner = scanner(file, limits)?;
    let mut goes_on = scanner.begins(b'{', b'}').map_err(wrong)?;
    while goes_on {
        let key = scanner.key().map_err(wrong)?;
        if key == "data" && scanner.peek().map_err(wrong)? == Some(b'[') {
            return is_list_of_objects(file, &scanner, limits)?
                .then(|| Objects::new(&file.path, scanner, Around::Field, limits))
                .transpose();
        }
        scanner.value(None).map_err(wrong)?;
        goes_on = scanner.goes_on(b'}').map_err(wrong)?;
    }
    Ok(None)
}

/// Whether an object is the first element of the array at which the scanner stands.
fn is_list_of_objects(file: &DataFile, at: &Scanner, limits: Limits) -> Result<bool, RecordError> {
    let wrong = |error| of_file(&file.path, At::File, limits.row, error);
    let mut ahead = scanner(file, limits)?;
    ahead.skip_to(at.offset, at.line).map_err(wrong)?;
    Ok(ahead.begins(b'[', b']').map_err(wrong)? && ahead.peek().map_err(wrong)? == Some(b'{'))
}

/// The columns, when every field of the object is an array, or an object as pandas writes a column.
fn columns(file: &DataFile, limits: Limits) -> Result<Option<Vec<Column>>, RecordError> {
    let wrong = |error| of_file(&file.path, At::File, limits.row, error);
    let mut scanner = scanner(file, limits)?;
    let (mut columns, mut fields) = (Vec::new(), 0);
    let mut goes_on = scanner.begins(b'{', b'}').map_err(wrong)?;
    while goes_on {
        let key = scanner.key().map_err(wrong)?;
        let begin = scanner.peek().map_err(wrong)?;
        let (offset, line) = (scanner.offset, scanner.line);
        if !matches!(begin, Some(b'[' | b'{')) {
            return Ok(None);
        }
        if let Some(name) = row::column(&key) {
            columns.push(Column { name, offset, line, has_labels: begin == Some(b'{') });
        }
        fields += 1;
        if fields > MOST_COLUMNS {
            return Err(RecordError::file(&file.path, format!("it has more than {MOST_COLUMNS} columns")));
        }
        scanner.value(None).map_err(wrong)?;
        goes_on = scanner.goes_on(b'}').map_err(wrong)?;
    }
    Ok((!columns.is_empty()).then_some(columns))
}
