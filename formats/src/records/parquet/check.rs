//! What a page holds.
//!
//! Purpose: checks a page before the decoders of the crate `parquet` see it, for they slice, index and unwrap by what stands
//! there.
//! Invariant: a page that passes has levels for all its values and values for all its levels, within its bytes, in encodings
//! that are known; a dictionary is there before it is used.
//! Must not know: where the page comes from.

use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescriptor;

use super::{delta, rle};

type Result<T> = std::result::Result<T, &'static str>;

const BEYOND: &str = "its levels are longer than the page";
const FEWER: &str = "it has fewer values than its levels tell of";

/// What the pages of a column so far have brought.
pub(super) struct Checked {
    max_definition: i16,
    max_repetition: i16,
    physical: Type,
    has_dictionary: bool,
}

impl Checked {
    pub(super) fn new(column: &ColumnDescriptor) -> Self {
        Self {
            max_definition: column.max_def_level(),
            max_repetition: column.max_rep_level(),
            physical: column.physical_type(),
            has_dictionary: false,
        }
    }

    /// Checks the next page of the column.
    pub(super) fn page(&mut self, page: &Page) -> Result<()> {
        match page {
            Page::DictionaryPage { buf, num_values, encoding, .. } => {
                self.dictionary(buf, *num_values as usize, *encoding)
            }
            Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, .. } => {
                let (levels, mut values) = (*num_values as usize, *num_values as usize);
                let mut data: &[u8] = buf;
                if self.max_repetition > 0 {
                    (data, _) = version_1(data, self.max_repetition, levels, *rep_level_encoding)?;
                }
                if self.max_definition > 0 {
                    (data, values) = version_1(data, self.max_definition, levels, *def_level_encoding)?;
                }
                self.values(data, levels, values, *encoding)
            }
            Page::DataPageV2 {
                buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, ..
            } => {
                let (levels, mut values) = (*num_values as usize, *num_values as usize);
                let (repetitions, rest) = split(buf, *rep_levels_byte_len)?;
                let (definitions, data) = split(rest, *def_levels_byte_len)?;
                if self.max_repetition > 0 {
                    version_2(repetitions, self.max_repetition, levels)?;
                }
                if self.max_definition > 0 {
                    values = version_2(definitions, self.max_definition, levels)?;
                }
                self.values(data, levels, values, *encoding)
            }
        }
    }

    fn dictionary(&mut self, data: &[u8], values: usize, encoding: Encoding) -> Result<()> {
        const FEW: &str = "its dictionary has more values than bytes for them";
        if self.has_dictionary {
            return Err("its column has two dictionaries");
        }
        if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return Err("its dictionary has an encoding that is not read");
        }
        let size = match self.physical {
            Type::BYTE_ARRAY => strings(data, values).map_err(|_| FEW)?,
            Type::INT32 | Type::FLOAT => values.saturating_mul(4),
            Type::INT64 | Type::DOUBLE => values.saturating_mul(8),
            _ => return Err("its dictionary is of a type that has none"),
        };
        if size > data.len() {
            return Err(FEW);
        }
        self.has_dictionary = true;
        Ok(())
    }

    /// Checks values: so many of them, of as many levels.
    fn values(&self, data: &[u8], levels: usize, values: usize, encoding: Encoding) -> Result<()> {
        match (encoding, self.physical) {
            (Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY, _) => {
                if !self.has_dictionary {
                    return Err("it refers to a dictionary, and there is none");
                }
                let (&width, indices) = data.split_first().ok_or(FEWER)?;
                if width > 32 {
                    return Err("the indices of its dictionary have too many bits");
                }
                let found = rle::walk(indices, u32::from(width), values, 0, false)?;
                if found.numbers < values { Err(FEWER) } else { Ok(()) }
            }
            (Encoding::PLAIN, Type::BYTE_ARRAY) => strings(data, values).map(|_| ()),
            (Encoding::PLAIN, _) => Ok(()),
            (Encoding::RLE, Type::BOOLEAN) => {
                let (size, rest) = data.split_first_chunk::<4>().ok_or(FEWER)?;
                let runs = rest.get(..u32::from_le_bytes(*size) as usize).ok_or(FEWER)?;
                rle::walk(runs, 1, values, 0, true).map(|_| ())
            }
            (Encoding::DELTA_BINARY_PACKED, Type::INT32) => {
                enough(delta::integers(data, levels, 32)?, values)
            }
            (Encoding::DELTA_BINARY_PACKED, Type::INT64) => {
                enough(delta::integers(data, levels, 64)?, values)
            }
            (Encoding::DELTA_LENGTH_BYTE_ARRAY, Type::BYTE_ARRAY) => {
                enough(delta::lengths(data, levels)?, values)
            }
            (Encoding::DELTA_BYTE_ARRAY, Type::BYTE_ARRAY) => enough(delta::prefixes(data, levels)?, values),
            (Encoding::BYTE_STREAM_SPLIT, Type::INT32 | Type::FLOAT) => streams(data, values, 4),
            (Encoding::BYTE_STREAM_SPLIT, Type::INT64 | Type::DOUBLE) => streams(data, values, 8),
            _ => Err("its values have an encoding that is not read"),
        }
    }
}

/// A run of deltas says itself how many values it has; the decoder takes the first one even from a run of none.
fn enough(found: usize, wanted: usize) -> Result<()> {
    if found < wanted { Err(FEWER) } else { Ok(()) }
}

/// Steps over strings with their lengths before them: how many bytes so many of them have.
fn strings(data: &[u8], values: usize) -> Result<usize> {
    let mut rest = data;
    for _ in 0..values {
        let (size, after) = rest.split_first_chunk::<4>().ok_or(FEWER)?;
        rest = after.get(u32::from_le_bytes(*size) as usize..).ok_or(FEWER)?;
    }
    Ok(data.len() - rest.len())
}

/// Values whose first bytes come first, and then their second ones.
fn streams(data: &[u8], values: usize, size: usize) -> Result<()> {
    if data.len().is_multiple_of(size) && data.len() / size >= values { Ok(()) } else { Err(FEWER) }
}

fn split(data: &[u8], size: u32) -> Result<(&[u8], &[u8])> {
    data.split_at_checked(size as usize).ok_or(BEYOND)
}

/// The bits of a level.
fn width(max: i16) -> u32 {
    i16::BITS - max.leading_zeros()
}

/// Steps over the levels of a page of version 1: what follows, and how many of them are the highest.
#[expect(deprecated, reason = "old writers pack levels")]
fn version_1(data: &[u8], max: i16, levels: usize, encoding: Encoding) -> Result<(&[u8], usize)> {
    match encoding {
        Encoding::RLE => {
            let (size, rest) = data.split_first_chunk::<4>().ok_or(BEYOND)?;
            let (runs, rest) = split(rest, u32::from_le_bytes(*size))?;
            Ok((rest, version_2(runs, max, levels)?))
        }
        Encoding::BIT_PACKED => {
            let size = (levels * width(max) as usize).div_ceil(8);
            let (bits, rest) = data.split_at_checked(size).ok_or(BEYOND)?;
            Ok((rest, rle::packed(bits, width(max), levels, max.unsigned_abs().into())))
        }
        _ => Err("its levels have an encoding that is not read"),
    }
}

/// How many of the levels are the highest.
fn version_2(runs: &[u8], max: i16, levels: usize) -> Result<usize> {
    let found = rle::walk(runs, width(max), levels, max.unsigned_abs().into(), true)?;
    if found.numbers < levels { Err("it has fewer levels than values") } else { Ok(found.matching) }
}
