//! The header of a page.
//!
//! Purpose: reads what a page says of itself, before the crate `parquet` takes memory for it.
//! Invariant: sizes and counts are not negative and within the limits.
//! Must not know: how pages are decoded.

use super::thrift::{FALSE, I32, Result, STRUCT, TRUE, Thrift, ThriftError};

/// The largest page in bytes, compressed or not.
pub(super) const LARGEST_PAGE: u64 = 256 << 20;
/// The most values of a page, nulls included.
pub(super) const MOST_VALUES: u32 = 1 << 24;

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Data,
    Dictionary,
    /// Version 2: the levels stand before the compressed part, in so many bytes.
    DataV2 {
        levels: u32,
        is_compressed: bool,
    },
}

/// The header of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) kind: PageKind,
    /// Bytes of the header itself.
    pub(super) length: usize,
    pub(super) compressed: u64,
    pub(super) uncompressed: u64,
    pub(super) values: u32,
}

/// The fields of the inner struct, as far as they count here.
#[derive(Default)]
struct Inner {
    values: Option<i32>,
    nulls: i32,
    definition_bytes: i32,
    repetition_bytes: i32,
    is_uncompressed: bool,
}

impl PageHeader {
    /// Reads a header from the front of these bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut thrift = Thrift::new(bytes);
        let (mut kind, mut uncompressed, mut compressed) = (None, None, None);
        let mut inner = [None, None, None];
        let mut last = 0;
        while let Some((number, of)) = thrift.field(last)? {
            match (number, of) {
                (1, I32) => kind = Some(thrift.int32()?),
                (2, I32) => uncompressed = Some(thrift.int32()?),
                (3, I32) => compressed = Some(thrift.int32()?),
                (5, STRUCT) => inner[0] = Some(inner_of(&mut thrift, PageType::Data)?),
                (7, STRUCT) => inner[1] = Some(inner_of(&mut thrift, PageType::Dictionary)?),
                (8, STRUCT) => inner[2] = Some(inner_of(&mut thrift, PageType::DataV2)?),
                (4, I32) => thrift.skip(of)?,
                // What the crate knows it reads without a look at its type, so another one would mean one thing here and
                // another there; an index of pages is no page.
                (1..=8, _) => return Err(ThriftError::Broken("a field has the wrong type")),
                _ => thrift.skip(of)?,
            }
            last = number;
        }
        let place = match kind {
            Some(0) => 0,
            Some(2) => 1,
            Some(3) => 2,
            _ => return Err(ThriftError::Broken("it is of a kind that is not read")),
        };
        let own = inner[place].take();
        // The crate looks at whichever inner header stands there, so there must be one.
        let (Some(own), true) = (own, inner.iter().all(Option::is_none)) else {
            return Err(ThriftError::Broken("its kind and its header do not belong together"));
        };
        let values = bounded(own.values, u64::from(MOST_VALUES), "it has too many values")? as u32;
        let kind = match place {
            0 => PageKind::Data,
            1 => PageKind::Dictionary,
            _ => own.version_2(values)?,
        };
        Ok(Self {
            kind,
            length: thrift.position(),
            compressed: bounded(compressed, LARGEST_PAGE, "it is larger than 256 MiB")?,
            uncompressed: bounded(
                uncompressed,
                LARGEST_PAGE,
                "it is larger than 256 MiB when it is decompressed",
            )?,
            values,
        })
    }
}

impl Inner {
    fn version_2(&self, values: u32) -> Result<PageKind> {
        let wrong = ThriftError::Broken("its levels have an impossible size");
        let of = |bytes: i32| u32::try_from(bytes).map_err(|_| wrong);
        let levels = of(self.definition_bytes)?.checked_add(of(self.repetition_bytes)?).ok_or(wrong)?;
        if of(self.nulls)? > values {
            return Err(ThriftError::Broken("it has more nulls than values"));
        }
        Ok(PageKind::DataV2 { levels, is_compressed: !self.is_uncompressed })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PageType {
    Data,
    Dictionary,
    DataV2,
}

fn inner_of(thrift: &mut Thrift<'_>, kind: PageType) -> Result<Inner> {
    let (mut inner, mut last) = (Inner::default(), 0);
    while let Some((number, of)) = thrift.field(last)? {
        match (number, of, kind) {
            (1, I32, _) => inner.values = Some(thrift.int32()?),
            (2, I32, PageType::DataV2) => inner.nulls = thrift.int32()?,
            (5, I32, PageType::DataV2) => inner.definition_bytes = thrift.int32()?,
            (6, I32, PageType::DataV2) => inner.repetition_bytes = thrift.int32()?,
            (7, TRUE | FALSE, PageType::DataV2) => inner.is_uncompressed = of == FALSE,
            (2, I32, _) | (3 | 4, I32, PageType::Data | PageType::DataV2) => thrift.skip(of)?,
            (3, TRUE | FALSE, PageType::Dictionary) => {}
            (1..=4, _, PageType::Data) | (1..=3, _, PageType::Dictionary) | (1..=7, _, PageType::DataV2) => {
                return Err(ThriftError::Broken("a field has the wrong type"));
            }
            _ => thrift.skip(of)?,
        }
        last = number;
    }
    Ok(inner)
}

/// A size or count that is there, not negative and within its limit.
fn bounded(value: Option<i32>, limit: u64, beyond: &'static str) -> Result<u64> {
    let value = value.ok_or(ThriftError::Broken("a field is missing"))?;
    let value = u64::try_from(value).map_err(|_| ThriftError::Broken("a size is negative"))?;
    if value > limit { Err(ThriftError::Broken(beyond)) } else { Ok(value) }
}
