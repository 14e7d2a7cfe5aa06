//! Thrift's compact protocol, as far as Parquet's metadata needs it.
//!
//! Purpose: walks over structs, lists and numbers without keeping any of them, so that lies are found before the crate
//! `parquet` believes them.
//! Invariants: nesting is bounded; a list has no more elements than bytes are left; what is accepted here is read the same
//! way by the crate.
//! Must not know: what the fields mean.

/// How deep structs and lists may be nested.
const DEEPEST: usize = 24;
/// The most elements of a list.
const MOST_ELEMENTS: u64 = 1 << 18;

/// Why bytes are no metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThriftError {
    /// More bytes are needed.
    Short,
    /// The bytes cannot be read so.
    Broken(&'static str),
}

pub(super) type Result<T> = std::result::Result<T, ThriftError>;

/// The types of the compact protocol.
pub(super) const TRUE: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const I32: u8 = 5;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Bytes that are read from the front.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(ThriftError::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip_bytes(&mut self, count: u64) -> Result<()> {
        let left = self.bytes.len() - self.at;
        if count > left as u64 {
            return Err(ThriftError::Short);
        }
        self.at += count as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ThriftError::Broken("a number has too many bytes"))
    }

    /// A signed number of at most 64 bits.
    pub(super) fn int(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number of at most 32 bits.
    pub(super) fn int32(&mut self) -> Result<i32> {
        i32::try_from(self.int()?).map_err(|_| ThriftError::Broken("a number does not fit its field"))
    }

    /// The next field of a struct: its number and type; none at the end of the struct.
    pub(super) fn field(&mut self, last: i16) -> Result<Option<(i16, u8)>> {
        let byte = self.byte()?;
        let (delta, kind) = (byte >> 4, byte & 0x0f);
        if kind == 0 {
            return Ok(None);
        }
        if kind > 13 {
            return Err(ThriftError::Broken("a field has an unknown type"));
        }
        let broken = ThriftError::Broken("a field has an impossible number");
        let number = if delta == 0 {
            i16::try_from(self.int()?).map_err(|_| broken)?
        } else {
            last.checked_add(i16::from(delta)).ok_or(broken)?
        };
        Ok(Some((number, kind)))
    }

    /// The beginning of a list: the type of its elements and how many there are.
    pub(super) fn list(&mut self) -> Result<(u8, u64)> {
        let byte = self.byte()?;
        let (short, kind) = (byte >> 4, byte & 0x0f);
        let count = if short == 15 { self.varint()? } else { u64::from(short) };
        if count == 0 {
            return Ok((kind, 0));
        }
        // The crate reads nothing for an element that is true or false, so such a list means one thing here and another
        // there; the metadata has none.
        if kind <= FALSE || kind > 13 {
            return Err(ThriftError::Broken("a list has elements of an unknown type"));
        }
        let left = (self.bytes.len() - self.at) as u64;
        if count > MOST_ELEMENTS {
            return Err(ThriftError::Broken("a list has too many elements"));
        }
        if count > left {
            return Err(ThriftError::Short);
        }
        Ok((kind, count))
    }

    /// Steps over a value of this type.
    pub(super) fn skip(&mut self, kind: u8) -> Result<()> {
        self.skip_at(kind, 0)
    }

    fn skip_at(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(ThriftError::Broken("it is nested too deep"));
        }
        match kind {
            TRUE | FALSE => Ok(()),
            3 => self.skip_bytes(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.skip_bytes(8),
            BINARY => {
                let length = self.varint()?;
                self.skip_bytes(length)
            }
            LIST | 10 => {
                let (kind, count) = self.list()?;
                for _ in 0..count {
                    self.skip_at(kind, depth + 1)?;
                }
                Ok(())
            }
            STRUCT => {
                let mut last = 0;
                while let Some((number, kind)) = self.field(last)? {
                    self.skip_at(kind, depth + 1)?;
                    last = number;
                }
                Ok(())
            }
            13 => self.skip_bytes(16),
            // Parquet's metadata has no maps.
            _ => Err(ThriftError::Broken("a field has an unknown type")),
        }
    }
}
