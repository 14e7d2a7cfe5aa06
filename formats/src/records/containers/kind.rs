//! Which container a file is.
//!
//! Purpose: the container by the ending of the name, else by the first bytes; the source of rows for each.
//! Invariant: the same name and bytes always give the same container.
//! Must not know: shapes.

use std::fmt;
use std::io::{BufRead, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use super::super::error::At;
use super::super::files::DataFile;
use super::super::input::{Compression, Input};
use super::super::parquet::Parquet;
use super::super::row::{self, Row};
use super::super::{RecordError, Shape};
use super::csv::Csv;
use super::lines::Lines;
use super::text::{Cut, TextFile};

/// How many bytes of a file without a known ending are looked at.
const SNIFFED: u64 = 1 << 16;

/// How rows are written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// An object of JSON on each line: `.jsonl`, `.ndjson`.
    JsonLines,
    /// An array of objects, one object of arrays, `{"data": [..]}`, or objects one after another: `.json`.
    Json,
    /// Commas between fields, with a line of names: `.csv`.
    Csv,
    /// Tabs between fields, with a line of names: `.tsv`.
    Tsv,
    /// Parquet: `.parquet`.
    Parquet,
    /// A document that is the whole file: `.txt`.
    Text,
    /// A file of a folder with another ending: text, unless files of rows stand beside it.
    #[doc(hidden)]
    Other,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonLines => "JSON lines",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::Parquet => "Parquet",
            Self::Text | Self::Other => "text",
        })
    }
}

impl Container {
    /// The container that the name of a file tells, with or without `.gz` or `.zst` at its end.
    pub fn of_ending(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        Some(match name.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Self::JsonLines,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "parquet" | "pq" => Self::Parquet,
            "txt" => Self::Text,
            _ => return None,
        })
    }
}

/// The container of a file whose name does not tell it.
pub(in super::super) fn sniff(input: &Input, compression: Compression) -> Result<Container, RecordError> {
    let io = |error| RecordError::read(input.path(), error);
    let mut magic = Vec::new();
    input.bytes(compression, u64::MAX)?.take(4).read_to_end(&mut magic).map_err(io)?;
    if magic == b"PAR1" {
        return Ok(Container::Parquet);
    }
    let (stream, _) = input.text(compression, u64::MAX)?;
    let mut start = stream.take(SNIFFED);
    let mut line = Vec::new();
    // The first line that is not blank.
    while line.trim_ascii().is_empty() {
        line.clear();
        if start.read_until(b'\n', &mut line).map_err(io)? == 0 {
            return Ok(Container::Text);
        }
    }
    let text = line.trim_ascii_start();
    // JSON that was written with indentation has a bracket alone on its first line.
    let goes_on_with = |next: &mut dyn BufRead, wanted: u8| -> Result<bool, RecordError> {
        let byte = next.bytes().find(|byte| !matches!(byte, Ok(byte) if byte.is_ascii_whitespace()));
        Ok(byte.transpose().map_err(io)? == Some(wanted))
    };
    if (text.trim_ascii_end() == b"[" && goes_on_with(&mut start, b'{')?)
        || (text.trim_ascii_end() == b"{" && goes_on_with(&mut start, b'"')?)
    {
        return Ok(Container::Json);
    }
    let is_whole = serde_json::from_slice::<IgnoredAny>(text).is_ok();
    let was_cut = line.len() as u64 == SNIFFED;
    Ok(match text {
        [b'{', ..] if is_whole || was_cut => Container::JsonLines,
        [b'[', rest @ ..] if rest.trim_ascii_start().starts_with(b"{") => Container::Json,
        _ if is_header(text, b',') => Container::Csv,
        _ if is_header(text, b'\t') => Container::Tsv,
        _ => Container::Text,
    })
}

/// Whether a line can only be the names of columns: at least two words of which a shape knows one. A file of one column
/// cannot be told from text, and needs its ending.
fn is_header(line: &[u8], separator: u8) -> bool {
    let names: Vec<&str> = match std::str::from_utf8(line) {
        Ok(line) => line.trim_end().split(char::from(separator)).map(|name| name.trim_matches('"')).collect(),
        Err(_) => return false,
    };
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    names.len() > 1 && names.iter().all(is_name) && names.iter().any(|name| row::column(name).is_some())
}

/// What bounds the reading of a file.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Limits {
    /// The largest row in bytes.
    pub(in super::super) row: u64,
    /// The most decompressed bytes of a file.
    pub(in super::super) file: u64,
    /// Where a text may be cut.
    pub(in super::super) cut: Option<Cut>,
    /// The shape that the caller named: it tells a row from columns.
    pub(in super::super) shape: Option<Shape>,
}

/// The rows of a file.
pub(in super::super) trait Rows: Send {
    /// The next row. With `names`, the names of unknown columns are kept in it.
    ///
    /// After an error of one row, the next one may be asked for; after one of the file there is none.
    fn next_row(&mut self, names: bool) -> Option<Result<(At, Row), RecordError>>;

    /// How many rows are left; they are not looked into where the container allows it.
    fn count(&mut self) -> Result<u64, RecordError> {
        let mut rows = 0;
        while let Some(row) = self.next_row(false) {
            match row {
                Ok(_) | Err(RecordError::Row { .. } | RecordError::NotUtf8 { .. }) => rows += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }
}

/// Opens a file as rows.
pub(in super::super) fn open(file: &DataFile, limits: Limits) -> Result<Box<dyn Rows>, RecordError> {
    Ok(match file.container {
        Container::JsonLines => Box::new(Lines::open(file, limits)?),
        Container::Json => super::json::open(file, limits)?,
        Container::Csv => Box::new(Csv::open(file, b',', limits)?),
        Container::Tsv => Box::new(Csv::open(file, b'\t', limits)?),
        Container::Parquet => Box::new(Parquet::open(file, limits)?),
        Container::Text | Container::Other => Box::new(TextFile::open(file, limits)?),
    })
}
