//! The metadata of a file.
//!
//! Purpose: finds the footer, bounds it, lets the crate `parquet` read it, and checks where it says that the columns lie.
//! Invariants: the schema is bounded in depth and size; the column chunks lie within the file and together are no larger.
//! Must not know: pages.

use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy, RowGroupMetaData,
};
use parquet::file::reader::Length;

use super::shape::{ELEMENT, FILE};
use super::source::Source;
use super::thrift::{I32, LIST, STRUCT, Thrift, ThriftError};

/// The largest footer in bytes.
const LARGEST_FOOTER: u64 = 64 << 20;
/// The most fields of a schema, groups included.
const MOST_FIELDS: u64 = 1 << 14;
/// How deep the fields of a schema may be nested.
const DEEPEST_SCHEMA: usize = 32;
/// Bytes after the footer: its length and the magic number.
const TAIL: u64 = 8;

/// Reads the metadata; the error says what is wrong with it.
pub(super) fn read(source: &Source) -> Result<ParquetMetaData, String> {
    let io = |error: std::io::Error| error.to_string();
    let length = source.len();
    if length < 4 + TAIL || source.bytes(0, 4).map_err(io)? != b"PAR1" {
        return Err("this is no Parquet: it does not begin as a file of Parquet does".into());
    }
    let tail = source.bytes(length - TAIL, TAIL).map_err(io)?;
    let (size, magic) = tail.split_at(4);
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err("its metadata is encrypted, which is not read".into()),
        _ => return Err("it does not end as a file of Parquet does; it was cut short, copy it again".into()),
    }
    let size = u64::from(size.iter().rev().fold(0_u32, |size, &byte| size << 8 | u32::from(byte)));
    if size > length - TAIL - 4 {
        return Err(format!(
            "its metadata would have {size} bytes, and the file has {length}; it is damaged"
        ));
    }
    if size > LARGEST_FOOTER {
        return Err(format!(
            "its metadata has {size} bytes, more than the {LARGEST_FOOTER} that are read; write fewer row groups"
        ));
    }
    let begin = length - TAIL - size;
    let bytes = source.bytes(begin, size).map_err(io)?;
    walk(&bytes).map_err(|error| format!("its metadata is damaged: {}", said(error)))?;
    // What the columns hold at the least and at the most is of no use here, and a source of faults.
    let skipped = || ParquetStatisticsPolicy::SkipAll;
    let options = ParquetMetaDataOptions::default()
        .with_column_stats_policy(skipped())
        .with_encoding_stats_policy(skipped())
        .with_size_stats_policy(skipped());
    let metadata =
        ParquetMetaDataReader::decode_metadata_with_options(&bytes, Some(&options)).map_err(|error| {
            let text = error.to_string();
            format!("its metadata is damaged: {}", text.strip_prefix("Parquet error: ").unwrap_or(&text))
        })?;
    chunks(&metadata, begin)?;
    Ok(metadata)
}

/// What is wrong, in words.
pub(super) fn said(error: ThriftError) -> &'static str {
    match error {
        ThriftError::Short => "it ends early",
        ThriftError::Broken(what) => what,
    }
}

/// Steps through the whole metadata, so that no length and no count in it lies.
fn walk(bytes: &[u8]) -> Result<(), ThriftError> {
    let mut thrift = Thrift::new(bytes);
    let mut last = 0;
    while let Some((number, kind)) = thrift.field(last)? {
        match (number, kind) {
            (2, LIST) => schema(&mut thrift)?,
            (2, _) => return Err(ThriftError::Broken("its schema is no list")),
            _ => thrift.known(FILE, number, kind)?,
        }
        last = number;
    }
    Ok(())
}

/// The list of the schema's fields, each before its children: the counts of children must add up.
fn schema(thrift: &mut Thrift<'_>) -> Result<(), ThriftError> {
    let (kind, count) = thrift.list()?;
    if kind != STRUCT || count > MOST_FIELDS {
        return Err(ThriftError::Broken("its schema has too many fields"));
    }
    // How many children each open group still lacks.
    let mut open: Vec<u64> = vec![1];
    for left in (0..count).rev() {
        while open.last() == Some(&0) {
            open.pop();
        }
        let Some(lacking) = open.last_mut() else {
            return Err(ThriftError::Broken("its schema has fields that belong to no group"));
        };
        *lacking -= 1;
        let children = element(thrift)?;
        if children > left {
            return Err(ThriftError::Broken("a group of its schema lacks fields"));
        }
        open.push(children);
        if open.len() > DEEPEST_SCHEMA {
            return Err(ThriftError::Broken("its schema is nested too deep"));
        }
    }
    match open.iter().all(|&lacking| lacking == 0) {
        true => Ok(()),
        false => Err(ThriftError::Broken("a group of its schema lacks fields")),
    }
}

/// A field of the schema: how many children it has.
fn element(thrift: &mut Thrift<'_>) -> Result<u64, ThriftError> {
    let (mut last, mut children) = (0, 0);
    while let Some((number, kind)) = thrift.field(last)? {
        match (number, kind) {
            (5, I32) => {
                let count = thrift.int32()?;
                children = u64::try_from(count)
                    .map_err(|_| ThriftError::Broken("a group has fewer than 0 fields"))?;
            }
            _ => thrift.known(ELEMENT, number, kind)?,
        }
        last = number;
    }
    Ok(children)
}

/// Checks that the chunks lie before the footer, and that together they are no larger than what is there.
fn chunks(metadata: &ParquetMetaData, footer: u64) -> Result<(), String> {
    let mut total = 0_u64;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            return Err("its metadata is damaged: a row group has fewer than 0 rows".into());
        }
        total = total.saturating_add(chunks_of(group, footer)?);
    }
    // Else a few bytes could be named again and again.
    if total > footer {
        return Err(format!(
            "its columns would have {total} bytes, and the file has {footer} for them; it is damaged"
        ));
    }
    Ok(())
}

fn chunks_of(group: &RowGroupMetaData, footer: u64) -> Result<u64, String> {
    let mut total = 0_u64;
    for chunk in group.columns() {
        let name = chunk.column_path().string();
        if chunk.file_path().is_some() {
            return Err(format!("its column {name} lies in another file, which is not read"));
        }
        let begin = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let range = u64::try_from(begin).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let inside = range
            .filter(|(begin, size)| *begin >= 4 && begin.checked_add(*size).is_some_and(|end| end <= footer));
        let Some((_, size)) = inside else {
            return Err(format!(
                "its column {name} does not lie within the file; it is damaged or cut short"
            ));
        };
        total = total.saturating_add(size);
    }
    Ok(total)
}
