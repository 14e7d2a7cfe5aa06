//! Delta encodings.
//!
//! Purpose: checks what the decoders of the crate `parquet` believe of a page with delta encodings: they take memory for as
//! many values as the page claims, and slice by lengths that may be negative.
//! Invariant: a page that passes has no more values than its header says, and lengths that lie within it.
//! Must not know: levels, other encodings.

/// The header of a run of deltas.
struct Header {
    block: usize,
    minis: usize,
    values: usize,
    first: i64,
    /// Where the header ends.
    end: usize,
}

type Result<T> = std::result::Result<T, &'static str>;

const SHORT: &str = "a run of deltas ends early";

/// Checks integers of so many bits as deltas, at most so many values: how many there are.
pub(super) fn integers(bytes: &[u8], most: usize, bits: u8) -> Result<usize> {
    let header = header(bytes, most)?;
    let per_mini = header.block / header.minis;
    let (mut at, mut left) = (header.end, header.values.saturating_sub(1));
    while left > 0 {
        varint(bytes, &mut at)?;
        let widths = at.checked_add(header.minis).and_then(|end| bytes.get(at..end)).ok_or(SHORT)?;
        at += header.minis;
        for &width in widths {
            if left > 0 && width > bits {
                return Err("a delta has too many bits");
            }
            at += if left > 0 { usize::from(width) * per_mini / 8 } else { 0 };
            left = left.saturating_sub(per_mini);
        }
    }
    Ok(header.values)
}

/// Checks byte arrays whose lengths are deltas: how many there are.
pub(super) fn lengths(bytes: &[u8], most: usize) -> Result<usize> {
    let (lengths, end) = decode(bytes, most)?;
    let mut total = 0_u64;
    for &length in &lengths {
        total += u64::try_from(length).map_err(|_| "a length is negative")?;
    }
    if total > (bytes.len() - end) as u64 {
        return Err("its values are longer than the page");
    }
    Ok(lengths.len())
}

/// Checks byte arrays that share prefixes with those before them: how many there are.
pub(super) fn prefixes(bytes: &[u8], most: usize) -> Result<usize> {
    let (prefixes, end) = decode(bytes, most)?;
    if prefixes.iter().any(|&length| length < 0) {
        return Err("a length is negative");
    }
    let suffixes = lengths(bytes.get(end..).unwrap_or_default(), most)?;
    if suffixes == prefixes.len() { Ok(suffixes) } else { Err("it has not as many prefixes as suffixes") }
}

fn header(bytes: &[u8], most: usize) -> Result<Header> {
    let mut at = 0;
    let mut number = || varint(bytes, &mut at);
    let (block, minis, values, first) = (number()?, number()?, number()?, number()?);
    let most = most as u64;
    if values > most {
        return Err("a run of deltas has more values than the page");
    }
    if block == 0 || minis == 0 || block % 128 != 0 || block % minis != 0 || block / minis % 32 != 0 {
        return Err("a run of deltas has impossible blocks");
    }
    // Every block begins with a byte for each of its parts.
    if block > 1 << 24 || minis > bytes.len() as u64 {
        return Err("a run of deltas has impossible blocks");
    }
    let (block, minis, values) = (block as usize, minis as usize, values as usize);
    Ok(Header { block, minis, values, first: zigzag(first), end: at })
}

/// Decodes 32-bit integers, and finds where they end.
fn decode(bytes: &[u8], most: usize) -> Result<(Vec<i32>, usize)> {
    let header = header(bytes, most)?;
    let per_mini = header.block / header.minis;
    let mut last = i32::try_from(header.first).map_err(|_| "a value does not fit 32 bits")?;
    let mut values = Vec::with_capacity(header.values);
    let mut at = header.end;
    if header.values > 0 {
        values.push(last);
    }
    while values.len() < header.values {
        let least = zigzag(varint(bytes, &mut at)?);
        let least = i32::try_from(least).map_err(|_| "a value does not fit 32 bits")?;
        let widths = at.checked_add(header.minis).and_then(|end| bytes.get(at..end)).ok_or(SHORT)?;
        at += header.minis;
        for &width in widths {
            let left = header.values - values.len();
            if left == 0 {
                break;
            }
            let width = usize::from(width);
            if width > 32 {
                return Err("a value does not fit 32 bits");
            }
            let end = at + width * per_mini / 8;
            for index in 0..left.min(per_mini) {
                let delta = unpack(bytes, at * 8 + index * width, width).ok_or(SHORT)?;
                last = last.wrapping_add(least).wrapping_add(delta as i32);
                values.push(last);
            }
            at = end;
        }
    }
    // The crate slices what follows from the end of the last part, filled up or not.
    if at > bytes.len() { Err(SHORT) } else { Ok((values, at)) }
}

/// The number of so many bits at this bit.
fn unpack(bytes: &[u8], bit: usize, width: usize) -> Option<u32> {
    let mut value = 0_u64;
    let (first, shift) = (bit / 8, bit % 8);
    for (place, byte) in (first..(bit + width).div_ceil(8)).enumerate() {
        value |= u64::from(*bytes.get(byte)?) << (8 * place);
    }
    Some(((value >> shift) & ((1_u64 << width) - 1)) as u32)
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at).ok_or(SHORT)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has too many bytes")
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
