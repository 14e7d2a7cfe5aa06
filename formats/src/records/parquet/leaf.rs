//! One column, row by row.
//!
//! Purpose: the levels and values of a primitive column for one row at a time.
//! Invariant: levels are within what the schema allows, and there are as many values as levels that have one.
//! Must not know: how columns are nested.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::super::json::Json;
use super::super::row;
use super::pages::{Held, Pages};
use super::source::Source;

/// The values of a row, by type.
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
}

/// A value that is no text of the kind that it should be.
#[derive(Debug)]
pub(super) enum NoText {
    /// The first byte that is not UTF-8.
    NotUtf8(u64, u8),
    /// It should be JSON.
    NotJson(String),
}

/// A column.
pub(super) struct Leaf {
    reader: ColumnReader,
    held: Arc<Held>,
    values: Values,
    is_json: bool,
    max_definition: i16,
    max_repetition: i16,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// How many levels the row has.
    levels: usize,
    /// The next level and the next value.
    at: usize,
    value_at: usize,
}

/// The levels at a place of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) definition: i16,
    pub(super) repetition: i16,
}

impl Leaf {
    /// Opens a column; none when it is of a type that no shape has.
    pub(super) fn open(
        source: &Source,
        chunk: &ColumnChunkMetaData,
        held: &Arc<Held>,
    ) -> Result<Option<Self>> {
        let column = chunk.column_descr_ptr();
        let (max_definition, max_repetition) = (column.max_def_level(), column.max_rep_level());
        let is_json = column.converted_type() == ConvertedType::JSON
            || matches!(column.logical_type_ref(), Some(LogicalType::Json));
        let pages = Pages::new(source, chunk, Arc::clone(held))?;
        let reader = get_column_reader(column, Box::new(pages));
        let values = match &reader {
            ColumnReader::BoolColumnReader(_) => Values::Bool(Vec::new()),
            ColumnReader::Int32ColumnReader(_) => Values::Int32(Vec::new()),
            ColumnReader::Int64ColumnReader(_) => Values::Int64(Vec::new()),
            ColumnReader::FloatColumnReader(_) => Values::Float(Vec::new()),
            ColumnReader::DoubleColumnReader(_) => Values::Double(Vec::new()),
            ColumnReader::ByteArrayColumnReader(_) => Values::Bytes(Vec::new()),
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                return Ok(None);
            }
        };
        Ok(Some(Self {
            reader,
            held: Arc::clone(held),
            values,
            is_json,
            max_definition,
            max_repetition,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            levels: 0,
            at: 0,
            value_at: 0,
        }))
    }

    /// Reads the next row; false when there is none.
    pub(super) fn read(&mut self) -> Result<bool> {
        self.held.begin_row();
        (self.at, self.value_at) = (0, 0);
        let levels = (&mut self.definitions, self.max_definition, &mut self.repetitions, self.max_repetition);
        let (read, values) = match (&mut self.reader, &mut self.values) {
            (ColumnReader::BoolColumnReader(reader), Values::Bool(values)) => one(reader, levels, values)?,
            (ColumnReader::Int32ColumnReader(reader), Values::Int32(values)) => one(reader, levels, values)?,
            (ColumnReader::Int64ColumnReader(reader), Values::Int64(values)) => one(reader, levels, values)?,
            (ColumnReader::FloatColumnReader(reader), Values::Float(values)) => one(reader, levels, values)?,
            (ColumnReader::DoubleColumnReader(reader), Values::Double(values)) => {
                one(reader, levels, values)?
            }
            (ColumnReader::ByteArrayColumnReader(reader), Values::Bytes(values)) => {
                one(reader, levels, values)?
            }
            _ => return Err(wrong("a column changed its type")),
        };
        self.levels = read;
        let is_beyond = |levels: &[i16], max: i16| levels.iter().any(|level| !(0..=max).contains(level));
        if is_beyond(&self.definitions, self.max_definition)
            || is_beyond(&self.repetitions, self.max_repetition)
        {
            return Err(wrong("a level is beyond what the schema allows"));
        }
        let wanted = match self.max_definition {
            0 => read,
            max => self.definitions.iter().filter(|&&level| level == max).count(),
        };
        if wanted != values
            || (self.max_repetition > 0 && self.repetitions.first().is_some_and(|&first| first != 0))
        {
            return Err(wrong("levels and values do not belong together"));
        }
        Ok(read > 0)
    }

    /// The levels at the next place; none at the end of the row.
    pub(super) fn peek(&self) -> Option<Level> {
        (self.at < self.levels).then(|| Level {
            definition: self.definitions.get(self.at).copied().unwrap_or(self.max_definition),
            repetition: self.repetitions.get(self.at).copied().unwrap_or(0),
        })
    }

    /// Steps over a place without a value.
    pub(super) fn skip(&mut self) {
        if self.peek().is_some_and(|level| level.definition == self.max_definition) {
            self.value_at += 1;
        }
        self.at += 1;
    }

    /// How many bytes the text at the next place has.
    pub(super) fn size(&self) -> u64 {
        match (&self.values, self.peek()) {
            (Values::Bytes(values), Some(level)) if level.definition == self.max_definition => {
                values.get(self.value_at).map_or(0, |value| value.len() as u64)
            }
            _ => 0,
        }
    }

    /// Takes the value at the next place; null where there is none.
    pub(super) fn take(&mut self) -> std::result::Result<Json, NoText> {
        let has_value = self.peek().is_some_and(|level| level.definition == self.max_definition);
        self.at += 1;
        if !has_value {
            return Ok(Json::Null);
        }
        let at = self.value_at;
        self.value_at += 1;
        let float = |value: Option<f64>| value.map_or(Json::Null, Json::float);
        Ok(match &self.values {
            Values::Bool(values) => values.get(at).map_or(Json::Null, |&value| Json::Bool(value)),
            Values::Int32(values) => values.get(at).map_or(Json::Null, |&value| Json::Number(value.into())),
            Values::Int64(values) => values.get(at).map_or(Json::Null, |&value| Json::Number(value.into())),
            Values::Float(values) => float(values.get(at).map(|&value| f64::from(value))),
            Values::Double(values) => float(values.get(at).copied()),
            Values::Bytes(values) => return text(values.get(at).map_or(&[], ByteArray::data), self.is_json),
        })
    }
}

fn text(bytes: &[u8], is_json: bool) -> std::result::Result<Json, NoText> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        NoText::NotUtf8(at as u64, bytes.get(at).copied().unwrap_or_default())
    })?;
    if is_json { row::parse_value(bytes).map_err(NoText::NotJson) } else { Ok(Json::String(text.to_owned())) }
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(format!("a column is damaged: {what}"))
}

/// Reads one row of a column: how many levels it has, and how many values.
fn one<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    (definitions, max_definition, repetitions, max_repetition): (&mut Vec<i16>, i16, &mut Vec<i16>, i16),
    values: &mut Vec<T::T>,
) -> Result<(usize, usize)> {
    definitions.clear();
    repetitions.clear();
    values.clear();
    let (mut levels_read, mut values_read) = (0, 0);
    // The end of a row is known only where the next one begins, so a call may bring just that.
    for _ in 0..3 {
        let definitions = (max_definition > 0).then_some(&mut *definitions);
        let repetitions = (max_repetition > 0).then_some(&mut *repetitions);
        let (rows, values, levels) = reader.read_records(1, definitions, repetitions, values)?;
        levels_read += levels;
        values_read += values;
        if (rows > 0 && levels_read > 0) || (rows == 0 && levels == 0) {
            break;
        }
    }
    Ok((levels_read, values_read))
}
