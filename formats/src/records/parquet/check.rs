//! What a page holds.
//!
//! Purpose: checks a page before the decoders of the crate `parquet` see it, for they slice, index and unwrap by what stands
//! there.
//! Invariant: the levels of a page that passes lie within it, its encodings are known, and a dictionary is there before it is
//! used.
//! Must not know: where the page comes from.

use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::schema::types::ColumnDescriptor;

use super::delta;

type Result<T> = std::result::Result<T, &'static str>;

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
                self.dictionary(buf.len(), *num_values as usize, *encoding)
            }
            Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, .. } => {
                let values = *num_values as usize;
                let mut data: &[u8] = buf;
                data = levels(data, self.max_repetition, values, *rep_level_encoding)?;
                data = levels(data, self.max_definition, values, *def_level_encoding)?;
                self.values(data, values, *encoding)
            }
            Page::DataPageV2 { buf, num_values, encoding, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
                let data = usize::try_from(levels).ok().and_then(|levels| buf.get(levels..));
                self.values(data.ok_or("its levels are longer than the page")?, *num_values as usize, *encoding)
            }
        }
    }

    fn dictionary(&mut self, bytes: usize, values: usize, encoding: Encoding) -> Result<()> {
        if self.has_dictionary {
            return Err("its column has two dictionaries");
        }
        if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return Err("its dictionary has an encoding that is not read");
        }
        let least = match self.physical {
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
            Type::INT64 | Type::DOUBLE => 8,
            _ => return Err("its dictionary is of a type that has none"),
        };
        if values.checked_mul(least).is_none_or(|least| least > bytes) {
            return Err("its dictionary has more values than bytes for them");
        }
        self.has_dictionary = true;
        Ok(())
    }

    fn values(&self, data: &[u8], values: usize, encoding: Encoding) -> Result<()> {
        match (encoding, self.physical) {
            (Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY, _) => match self.has_dictionary {
                true => Ok(()),
                false => Err("it refers to a dictionary, and there is none"),
            },
            (Encoding::PLAIN, _) | (Encoding::RLE, Type::BOOLEAN) => Ok(()),
            (Encoding::DELTA_BINARY_PACKED, Type::INT32 | Type::INT64) => delta::integers(data, values),
            (Encoding::DELTA_LENGTH_BYTE_ARRAY, Type::BYTE_ARRAY) => delta::lengths(data, values).map(|_| ()),
            (Encoding::DELTA_BYTE_ARRAY, Type::BYTE_ARRAY) => delta::prefixes(data, values),
            (Encoding::BYTE_STREAM_SPLIT, Type::INT32 | Type::INT64 | Type::FLOAT | Type::DOUBLE) => Ok(()),
            _ => Err("its values have an encoding that is not read"),
        }
    }
}

/// Steps over the levels of a page of version 1.
#[expect(deprecated, reason = "old writers pack levels")]
fn levels(data: &[u8], max: i16, values: usize, encoding: Encoding) -> Result<&[u8]> {
    const BEYOND: &str = "its levels are longer than the page";
    if max == 0 {
        return Ok(data);
    }
    match encoding {
        Encoding::RLE => {
            let (size, rest) = data.split_first_chunk::<4>().ok_or(BEYOND)?;
            rest.get(u32::from_le_bytes(*size) as usize..).ok_or(BEYOND)
        }
        Encoding::BIT_PACKED => {
            let width = (i16::BITS - max.leading_zeros()) as usize;
            data.get((values * width).div_ceil(8)..).ok_or(BEYOND)
        }
        _ => Err("its levels have an encoding that is not read"),
    }
}
