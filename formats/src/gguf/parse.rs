//! From bytes to metadata and the table of tensors.
//!
//! Purpose: versions 2 and 3 of the format, little-endian, with every claim of the file checked against its size.
//! Invariant: what is accepted has no key and no tensor twice, and each tensor lies in the file, aligned, and over no other.
//! Must not know: what keys and tensors mean, but for the alignment and the parts of a split file.

use std::collections::HashSet;

use super::source::{Cursor, ReadAt};
use super::value::ARRAY;
use super::{GgufError, MetaArray, MetaValue, Metadata, TensorInfo, TensorKind};

/// The most bytes of metadata and tensor table that are read.
const MOST_HEADER: u64 = 1 << 29;
const MOST_KEYS: u64 = 1 << 16;
const MOST_TENSORS: u64 = 1 << 18;
const MOST_ELEMENTS: u64 = 1 << 24;
/// Bytes of a string; some files carry a whole `tokenizer.json` as one.
const MOST_STRING: u64 = 1 << 27;
const MOST_KEY: u64 = (1 << 16) - 1;
const MOST_NAME: u64 = 1 << 10;
const MOST_DIMENSIONS: u32 = 4;
const MOST_ALIGNMENT: u32 = 1 << 20;
/// Where tensors are aligned, and how.
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// What stands before the values.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

/// Reads the whole header.
pub(super) fn parse<S: ReadAt>(source: &S) -> Result<Header, GgufError> {
    let mut cursor = Cursor::new(source, MOST_HEADER);
    let version = magic(&mut cursor)?;
    let tensor_count = cursor.u64("the number of tensors")?;
    let key_count = cursor.u64("the number of keys")?;
    let metadata = keys(&mut cursor, key_count)?;
    is_whole(&metadata)?;
    let alignment = alignment(&metadata)?;
    let mut tensors = table(&mut cursor, tensor_count, alignment)?;
    // The offsets of the table count from here.
    let start = cursor.offset().next_multiple_of(alignment);
    for info in &mut tensors {
        let placed = info.offset.checked_add(start).zip(info.bytes.checked_add(start));
        let end = placed.and_then(|(offset, _)| offset.checked_add(info.bytes));
        if end.is_none_or(|end| end > source.size()) {
            let what = format!(
                "its {} bytes from {start} + {} on are beyond the end of the file, {}; the file is cut short: fetch it again",
                info.bytes,
                info.offset,
                source.size()
            );
            return Err(GgufError::tensor(&info.name, what));
        }
        info.offset += start;
    }
    lie_apart(&tensors)?;
    Ok(Header { version, metadata, tensors })
}

fn magic<S: ReadAt>(cursor: &mut Cursor<'_, S>) -> Result<u32, GgufError> {
    let magic: [u8; 4] = cursor.array("the magic bytes")?;
    if &magic != b"GGUF" {
        return Err(GgufError::at(0, "it does not begin with `GGUF`, so it is no GGUF file"));
    }
    let version = cursor.u32("the version")?;
    let what = match version {
        2 | 3 => return Ok(version),
        0 | 1 => {
            "version 1 of the format is no longer read, by llama.cpp neither; convert the model again".into()
        }
        _ if version & 0xffff == 0 => {
            "it is big-endian; convert the model again for a little-endian machine".into()
        }
        _ => format!("version {version} of the format is not known; there are 2 and 3"),
    };
    Err(GgufError::at(4, what))
}

fn keys<S: ReadAt>(cursor: &mut Cursor<'_, S>, count: u64) -> Result<Metadata, GgufError> {
    if count > MOST_KEYS {
        return Err(GgufError::at(16, format!("it claims {count} metadata keys; the most is {MOST_KEYS}")));
    }
    // A length, one character, a type and one byte.
    cursor.expect(count, 14, "metadata")?;
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let at = cursor.offset();
        let key = cursor.string(MOST_KEY, "a metadata key")?;
        if key.is_empty() {
            return Err(GgufError::at(at, "a metadata key is empty"));
        }
        let kind = cursor.u32("the type of a value")?;
        let value = value(cursor, &key, kind)?;
        metadata.insert(key, value)?;
    }
    Ok(metadata)
}

fn value<S: ReadAt>(cursor: &mut Cursor<'_, S>, key: &str, kind: u32) -> Result<MetaValue, GgufError> {
    let what = "a metadata value";
    Ok(match kind {
        0 => MetaValue::U8(u8::from_le_bytes(cursor.array(what)?)),
        1 => MetaValue::I8(i8::from_le_bytes(cursor.array(what)?)),
        2 => MetaValue::U16(u16::from_le_bytes(cursor.array(what)?)),
        3 => MetaValue::I16(i16::from_le_bytes(cursor.array(what)?)),
        4 => MetaValue::U32(u32::from_le_bytes(cursor.array(what)?)),
        5 => MetaValue::I32(i32::from_le_bytes(cursor.array(what)?)),
        6 => MetaValue::F32(f32::from_le_bytes(cursor.array(what)?)),
        7 => MetaValue::Bool(truth(cursor.array::<1>(what)?[0], key)?),
        8 => MetaValue::String(string(cursor, key)?),
        ARRAY => MetaValue::Array(array(cursor, key)?),
        10 => MetaValue::U64(u64::from_le_bytes(cursor.array(what)?)),
        11 => MetaValue::I64(i64::from_le_bytes(cursor.array(what)?)),
        12 => MetaValue::F64(f64::from_le_bytes(cursor.array(what)?)),
        _ => return Err(GgufError::key(key, format!("its type {kind} is not known"))),
    })
}

fn string<S: ReadAt>(cursor: &mut Cursor<'_, S>, key: &str) -> Result<String, GgufError> {
    cursor.string(MOST_STRING, "a string").map_err(|error| GgufError::key(key, error.to_string()))
}

fn truth(byte: u8, key: &str) -> Result<bool, GgufError> {
    match byte {
        0 | 1 => Ok(byte == 1),
        _ => Err(GgufError::key(key, format!("a bool is 0 or 1, not {byte}"))),
    }
}

fn array<S: ReadAt>(cursor: &mut Cursor<'_, S>, key: &str) -> Result<MetaArray, GgufError> {
    let kind = cursor.u32("the type of a list")?;
    let count = cursor.u64("the length of a list")?;
    if count > MOST_ELEMENTS {
        let what = format!("its list claims {count} elements; the most is {MOST_ELEMENTS}");
        return Err(GgufError::key(key, what));
    }
    let mut list = List { cursor, key, count };
    Ok(match kind {
        0 => MetaArray::U8(list.numbers(u8::from_le_bytes)?),
        1 => MetaArray::I8(list.numbers(i8::from_le_bytes)?),
        2 => MetaArray::U16(list.numbers(u16::from_le_bytes)?),
        3 => MetaArray::I16(list.numbers(i16::from_le_bytes)?),
        4 => MetaArray::U32(list.numbers(u32::from_le_bytes)?),
        5 => MetaArray::I32(list.numbers(i32::from_le_bytes)?),
        6 => MetaArray::F32(list.numbers(f32::from_le_bytes)?),
        7 => {
            let bytes = list.numbers(u8::from_le_bytes)?;
            MetaArray::Bool(bytes.into_iter().map(|byte| truth(byte, key)).collect::<Result<_, _>>()?)
        }
        8 => MetaArray::String(list.strings()?),
        ARRAY => return Err(GgufError::key(key, "a list of lists; neither Kiln nor llama.cpp reads them")),
        10 => MetaArray::U64(list.numbers(u64::from_le_bytes)?),
        11 => MetaArray::I64(list.numbers(i64::from_le_bytes)?),
        12 => MetaArray::F64(list.numbers(f64::from_le_bytes)?),
        _ => return Err(GgufError::key(key, format!("the type {kind} of its list is not known"))),
    })
}

/// The elements of a list, which are next.
struct List<'c, 's, S> {
    cursor: &'c mut Cursor<'s, S>,
    key: &'c str,
    count: u64,
}

impl<S: ReadAt> List<'_, '_, S> {
    fn expect(&self, least: u64) -> Result<(), GgufError> {
        let checked = self.cursor.expect(self.count, least, "a list");
        checked.map_err(|error| GgufError::key(self.key, error.to_string()))
    }

    fn numbers<T, const N: usize>(&mut self, number: fn([u8; N]) -> T) -> Result<Vec<T>, GgufError> {
        self.expect(N as u64)?;
        let bytes = self.cursor.bytes(self.count * N as u64, "a list")?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| number(chunk)).collect())
    }

    fn strings(&mut self) -> Result<Vec<String>, GgufError> {
        self.expect(8)?;
        let mut list = Vec::with_capacity(self.count as usize);
        for _ in 0..self.count {
            list.push(string(self.cursor, self.key)?);
        }
        Ok(list)
    }
}

/// Refuses a part of a file that was split.
fn is_whole(metadata: &Metadata) -> Result<(), GgufError> {
    let key = "split.count";
    match metadata.integer::<u64>(key)? {
        Some(count @ 2..) => {
            let part = metadata
                .integer::<u64>("split.no")?
                .map_or("?".into(), |no| no.saturating_add(1).to_string());
            let what = format!(
                "the file is part {part} of {count}; join the parts with `llama-gguf-split --merge` and give the whole file"
            );
            Err(GgufError::key(key, what))
        }
        _ => Ok(()),
    }
}

/// What each tensor's offset is a multiple of.
pub(super) fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    match metadata.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&MetaValue::U32(value)) if value.is_power_of_two() && value <= MOST_ALIGNMENT => {
            Ok(value.into())
        }
        Some(MetaValue::U32(value)) => {
            let what = format!("{value} is no power of two from 1 to {MOST_ALIGNMENT}");
            Err(GgufError::key(ALIGNMENT, what))
        }
        Some(_) => Err(GgufError::key(ALIGNMENT, "it is not of the type U32")),
    }
}

fn table<S: ReadAt>(
    cursor: &mut Cursor<'_, S>,
    count: u64,
    alignment: u64,
) -> Result<Vec<TensorInfo>, GgufError> {
    if count > MOST_TENSORS {
        return Err(GgufError::at(8, format!("it claims {count} tensors; the most is {MOST_TENSORS}")));
    }
    // A name of one character, one dimension, type and offset.
    cursor.expect(count, 33, "the table of tensors")?;
    let mut tensors = Vec::with_capacity(count as usize);
    let mut names = HashSet::with_capacity(count as usize);
    for _ in 0..count {
        let info = tensor(cursor, alignment)?;
        if !names.insert(info.name.clone()) {
            return Err(GgufError::tensor(&info.name, "it stands twice in the table"));
        }
        tensors.push(info);
    }
    Ok(tensors)
}

/// A row of the table; its offset counts from the first value.
fn tensor<S: ReadAt>(cursor: &mut Cursor<'_, S>, alignment: u64) -> Result<TensorInfo, GgufError> {
    let at = cursor.offset();
    let name = cursor.string(MOST_NAME, "the name of a tensor")?;
    if name.is_empty() {
        return Err(GgufError::at(at, "the name of a tensor is empty"));
    }
    let refuse = |what: String| GgufError::tensor(&name, what);
    let dimensions = cursor.u32("the number of dimensions")?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(refuse(format!("{dimensions} dimensions; there are 1 to {MOST_DIMENSIONS}")));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for _ in 0..dimensions {
        shape.push(cursor.u64("a dimension")?);
    }
    let id = cursor.u32("the type of a tensor")?;
    let offset = cursor.u64("the offset of a tensor")?;
    let kind = TensorKind::from_id(id).ok_or_else(|| refuse(unknown(id)))?;
    let bytes = size(&shape, kind).map_err(refuse)?;
    if offset % alignment != 0 {
        return Err(refuse(format!("its offset {offset} is no multiple of the alignment {alignment}")));
    }
    // The file has the fastest dimension first.
    let shape = shape.into_iter().rev().map(|length| length as usize).collect();
    Ok(TensorInfo { name, shape, kind, offset, bytes })
}

fn unknown(id: u32) -> String {
    match id {
        4 | 5 | 31..=33 | 36..=38 => {
            format!("type {id} was removed from the format; quantize the model again")
        }
        _ => format!("type {id} is not known"),
    }
}

/// The bytes of a tensor, the fastest dimension first.
fn size(shape: &[u64], kind: TensorKind) -> Result<u64, String> {
    if shape.contains(&0) {
        return Err(format!("a dimension of {shape:?} is 0"));
    }
    let (row, block) = (shape[0], kind.block() as u64);
    if row % block != 0 {
        return Err(format!(
            "its rows of {row} values are no whole blocks of {block}, as {} needs",
            kind.name()
        ));
    }
    let blocks = shape[1..].iter().try_fold(row / block, |total, &length| total.checked_mul(length));
    let bytes = blocks.and_then(|blocks| blocks.checked_mul(kind.block_bytes() as u64));
    // So that as many values in f32 have a length as well.
    let bytes = bytes.filter(|&bytes| bytes < 1 << 56);
    bytes.ok_or_else(|| format!("its shape {shape:?} is too large for any file"))
}

fn lie_apart(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|info| info.offset);
    for pair in order.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            let what = format!("it begins before the end of `{}`", super::error::quoted(&pair[0].name));
            return Err(GgufError::tensor(&pair[1].name, what));
        }
    }
    Ok(())
}
