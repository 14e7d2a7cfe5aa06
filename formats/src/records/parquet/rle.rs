//! Runs of equal numbers and packed bits, as levels and the indices of a dictionary are written.
//!
//! Purpose: walks over them before the crate `parquet` does, which panics at a number with too many bytes, and counts how often
//! a number comes, for the decoders panic too when they are asked for more values than there are.
//! Invariant: time is linear in the bytes, whatever the runs claim.
//! Must not know: what the numbers mean.

type Result<T> = std::result::Result<T, &'static str>;

/// How many numbers were found, and how many of them are the one that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    pub(super) numbers: usize,
    pub(super) matching: usize,
}

/// Walks over the runs of numbers of so many bits. Of the first `wanted` numbers those that are `number` are counted; with
/// `to_end` the runs behind them are looked at too.
pub(super) fn walk(bytes: &[u8], width: u32, wanted: usize, number: u32, to_end: bool) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut at = 0;
    while at < bytes.len() && (to_end || counted.numbers < wanted) {
        let run = varint(bytes, &mut at)?;
        // Some writers fill up with zeros.
        if run == 0 {
            break;
        }
        let left = wanted.saturating_sub(counted.numbers);
        if run & 1 == 0 {
            let size = width.div_ceil(8) as usize;
            let value = bytes.get(at..at + size).ok_or("a run ends early")?;
            at += size;
            let value = value.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
            let length = (run >> 1) as usize;
            if value == u64::from(number) {
                counted.matching += length.min(left);
            }
            counted.numbers = counted.numbers.saturating_add(length);
            continue;
        }
        let length = (run >> 1) as usize * 8;
        let rest = bytes.get(at..).unwrap_or_default();
        // The last run may be cut short.
        let there = if width == 0 { length } else { length.min(rest.len() * 8 / width as usize) };
        counted.matching += packed(rest, width, there.min(left), number);
        counted.numbers = counted.numbers.saturating_add(there);
        at = at.saturating_add(length / 8 * width as usize);
    }
    Ok(counted)
}

/// How often a number is among the first of those that are packed into so many bits each.
pub(super) fn packed(bytes: &[u8], width: u32, count: usize, number: u32) -> usize {
    if width == 0 {
        return if number == 0 { count } else { 0 };
    }
    let (mut buffer, mut bits, mut matching, mut bytes) = (0_u64, 0, 0, bytes.iter());
    let mask = (1_u64 << width.min(32)) - 1;
    for _ in 0..count {
        while bits < width {
            let Some(&byte) = bytes.next() else { return matching };
            buffer |= u64::from(byte) << bits;
            bits += 8;
        }
        matching += usize::from(buffer & mask == u64::from(number));
        buffer >>= width;
        bits -= width;
    }
    matching
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u32> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at).ok_or("a run ends early")?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| "a run is too long");
        }
    }
    Err("a run is too long")
}
