//! How a piece is stored.
//!
//! Purpose: zstd where it pays; numbers byte plane by byte plane, because their first bytes are alike and their last
//! ones are noise.
//! Invariant: what is decoded has exactly the length that was asked for, or is an error: a hostile piece cannot take
//! more memory than that.
//! Must not know: where a piece lies.

use std::borrow::Cow;

/// A piece that keeps more than this share of its bytes is stored as it is.
const PAYS: f64 = 0.95;
/// How many bytes are tried before a whole piece is coded: a sixteenth of it, and no fewer or more than these.
const SAMPLE: (usize, usize) = (4 << 10, 64 << 10);
/// From how many places, spread over the piece, they are taken: the first rows of a tensor may be unlike the others.
const PLACES: usize = 16;
/// The level of zstd: the fastest, because what is noise stays noise.
const LEVEL: i32 = 1;

/// How a piece is stored: a number in a recipe.
pub const RAW: u8 = 0;
/// By zstd.
pub const ZSTD: u8 = 1;
/// Byte plane by byte plane, by zstd.
pub const PLANES: u8 = 2;

/// The difference from another piece, byte plane by byte plane, by zstd.
pub const DELTA: u8 = 3;
/// A difference must save at least this share of what the piece would take by itself.
const DELTA_SAVES: f64 = 0.1;

/// A piece as it is stored, and how. `base` is a piece of the same length that it may be like.
pub fn encode<'a>(piece: &'a [u8], element: u8, base: Option<&[u8]>) -> (u8, Cow<'a, [u8]>) {
    let width = usize::from(element.clamp(1, 8));
    let base = base.filter(|base| width > 1 && base.len() == piece.len());
    // A sample says which way is worth its time.
    let tried = sample_of(piece, width);
    let sample = tried.len();
    let plain = coded(&tried, width, None).map_or(sample, |c| c.len()).min(sample);
    let delta = base.and_then(|base| coded(&tried, width, Some(&sample_of(base, width)))).map(|c| c.len());
    let saves = |delta: usize| (delta as f64) < (1.0 - DELTA_SAVES) * plain as f64;
    let pays = |stored: usize, of: usize| (stored as f64) < PAYS * of as f64;
    if let Some(base) = base.filter(|_| delta.is_some_and(|delta| saves(delta) && pays(delta, sample)))
        && let Some(stored) = coded(piece, width, Some(base))
        && pays(stored.len(), piece.len())
    {
        return (DELTA, stored.into());
    }
    let whole = if pays(plain, sample) { coded(piece, width, None) } else { None };
    match whole {
        Some(stored) if pays(stored.len(), piece.len()) => {
            (if width > 1 { PLANES } else { ZSTD }, stored.into())
        }
        _ => (RAW, piece.into()),
    }
}

/// Some whole numbers of a piece, from places spread over it. Pieces of one length are sampled at the same places.
fn sample_of(piece: &[u8], width: usize) -> Vec<u8> {
    let numbers = piece.len() / width;
    let most = (piece.len() / 16).clamp(SAMPLE.0, SAMPLE.1) / width;
    let each = most.div_ceil(PLACES);
    if numbers <= each * PLACES {
        return piece[..numbers * width].to_vec();
    }
    let starts = (0..PLACES).map(|place| (numbers - each) * place / (PLACES - 1) * width);
    starts.flat_map(|start| &piece[start..start + each * width]).copied().collect()
}

/// Numbers, or their differences from others, plane by plane and by zstd; other bytes by zstd.
fn coded(bytes: &[u8], width: usize, base: Option<&[u8]>) -> Option<Vec<u8>> {
    let coded = match base {
        Some(base) => zstd::bulk::compress(&planes(&difference(bytes, base, width), width), LEVEL),
        None if width > 1 => zstd::bulk::compress(&planes(&rotated(bytes, width, false), width), LEVEL),
        None => zstd::bulk::compress(bytes, LEVEL),
    };
    coded.ok()
}

/// The piece of this length. `base` is the piece that it is the difference from.
///
/// # Errors
/// What is wrong, as a fragment.
pub fn decode(
    stored: Vec<u8>,
    how: u8,
    length: usize,
    element: u8,
    base: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    let unpacked = |stored: &[u8]| zstd::bulk::decompress(stored, length).map_err(|e| e.to_string());
    let width = usize::from(element.clamp(1, 8));
    let piece = match (how, base) {
        (RAW, _) => stored,
        (ZSTD, _) => unpacked(&stored)?,
        (PLANES, _) => rotated(&numbers(&unpacked(&stored)?, width), width, true),
        (DELTA, Some(base)) if base.len() == length => {
            let delta = numbers(&unpacked(&stored)?, width);
            if delta.len() != length {
                return Err("its difference has another length".into());
            }
            sum(&delta, base, width)
        }
        (DELTA, _) => return Err("the piece that it is the difference from is missing".into()),
        (other, _) => return Err(format!("the coding {other} is unknown")),
    };
    match piece.len() == length {
        true => Ok(piece),
        false => Err(format!("it has {} bytes instead of {length}", piece.len())),
    }
}

/// Numbers of `width` bytes, each changed by `change` together with the one in the same place of `other`; what is left
/// over at the end stays as it is.
fn each(bytes: &[u8], other: &[u8], width: usize, change: impl Fn(u64, u64) -> u64) -> Vec<u8> {
    let read = |bytes: &[u8]| {
        let mut number = [0; 8];
        number[..width].copy_from_slice(bytes);
        u64::from_le_bytes(number)
    };
    let mut out = bytes.to_vec();
    for (number, other) in out.chunks_exact_mut(width).zip(other.chunks_exact(width)) {
        let changed = change(read(number), read(other)).to_le_bytes();
        number.copy_from_slice(&changed[..width]);
    }
    out
}

/// Numbers less others as integers without overflow, small ones as small numbers whatever their sign (zigzag).
fn difference(bytes: &[u8], base: &[u8], width: usize) -> Vec<u8> {
    let bits = 8 * width as u32;
    each(bytes, base, width, |number, base| {
        // In the upper bits, so that the sign is that of 64 bits.
        let less = (number.wrapping_sub(base) << (64 - bits)) as i64 >> (64 - bits);
        ((less << 1) ^ (less >> 63)) as u64
    })
}

/// What [`difference`] was given.
fn sum(bytes: &[u8], base: &[u8], width: usize) -> Vec<u8> {
    each(bytes, base, width, |number, base| {
        let less = (number >> 1) ^ (number & 1).wrapping_neg();
        base.wrapping_add(less)
    })
}

/// Numbers with their first bit at the end: of a float the exponent then has a byte of its own.
fn rotated(bytes: &[u8], width: usize, back: bool) -> Vec<u8> {
    let bits = 8 * width as u32;
    let mask = u64::MAX >> (64 - bits);
    let by = if back { bits - 1 } else { 1 };
    each(bytes, bytes, width, |number, _| ((number << by) | (number >> (bits - by))) & mask)
}

/// All first bytes of numbers, then all second ones, and so on; what is left over at the end.
fn planes(bytes: &[u8], width: usize) -> Vec<u8> {
    let count = bytes.len() / width;
    let mut out = vec![0; bytes.len()];
    for (n, number) in bytes.chunks_exact(width).enumerate() {
        for (plane, byte) in number.iter().enumerate() {
            out[plane * count + n] = *byte;
        }
    }
    let rest = count * width;
    out[rest..].copy_from_slice(&bytes[rest..]);
    out
}

/// What [`planes`] was given.
fn numbers(planes: &[u8], width: usize) -> Vec<u8> {
    let count = planes.len() / width;
    let mut out = vec![0; planes.len()];
    for (n, number) in out.chunks_exact_mut(width).enumerate() {
        for (plane, byte) in number.iter_mut().enumerate() {
            *byte = planes[plane * count + n];
        }
    }
    let rest = count * width;
    out[rest..].copy_from_slice(&planes[rest..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_piece_is_what_it_was(bytes in prop::collection::vec(any::<u8>(), 1..5000), element in 1u8..9) {
            let base: Vec<u8> = bytes.iter().map(|byte| byte.wrapping_add(byte & 1)).collect();
            for base in [None, Some(base.as_slice())] {
                let (how, stored) = encode(&bytes, element, base);
                prop_assert_eq!(&decode(stored.into_owned(), how, bytes.len(), element, base).unwrap(), &bytes);
            }
        }

        #[test]
        fn hostile_bytes_are_an_error_or_have_the_length(
            bytes in prop::collection::vec(any::<u8>(), 0..300), how in 0u8..5, length in 0usize..300, element in 0u8..9,
        ) {
            if let Ok(piece) = decode(bytes, how, length, element, Some(&vec![7; length])) {
                prop_assert_eq!(piece.len(), length);
            }
        }
    }

    #[test]
    fn the_difference_from_a_near_piece_is_taken_where_it_saves_a_tenth() {
        let noise = |n: u32| f32::from_bits(0x3d00_0000 | (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff));
        let bytes = |step: u32| {
            (0..50_000).flat_map(move |n| f32::from_bits(noise(n).to_bits() + step).to_le_bytes())
        };
        let (base, near): (Vec<u8>, Vec<u8>) = (bytes(0).collect(), bytes(200).collect());
        let (how, stored) = encode(&near, 4, Some(&base));
        assert_eq!(how, DELTA);
        assert!(stored.len() < near.len() / 10, "{} of {}", stored.len(), near.len());
        assert_eq!(decode(stored.into_owned(), how, near.len(), 4, Some(&base)).unwrap(), near);
        let far: Vec<u8> = (0..50_000u32)
            .flat_map(|n| (n.wrapping_mul(2_246_822_519) & 0x3fff_ffff).to_le_bytes())
            .collect();
        assert_ne!(encode(&far, 4, Some(&base)).0, DELTA);
    }

    #[test]
    fn a_piece_whose_first_or_last_rows_alone_are_new_is_a_difference() {
        let noise = |n: u32, by: u32| n.wrapping_mul(by).wrapping_add(n >> 3) & 0x3fff_ffff;
        let tensor = |new: std::ops::Range<u32>| -> Vec<u8> {
            let by = |n| if new.contains(&n) { 2_246_822_519 } else { 2_654_435_761 };
            (0..250_000u32).flat_map(|n| noise(n, by(n)).to_le_bytes()).collect()
        };
        let base = tensor(0..0);
        for new in [0..20_000, 230_000..250_000] {
            let piece = tensor(new);
            let (how, stored) = encode(&piece, 4, Some(&base));
            assert_eq!(how, DELTA);
            assert!(stored.len() < piece.len() / 8, "{} of {}", stored.len(), piece.len());
        }
    }

    #[test]
    fn numbers_of_one_size_take_fewer_bytes_plane_by_plane() {
        let noise = |n: u32| f32::from_bits(0x3d00_0000 | (n.wrapping_mul(2_654_435_761) & 0x00ff_ffff));
        let bytes: Vec<u8> = (0..100_000).flat_map(|n| noise(n).to_le_bytes()).collect();
        let (how, stored) = encode(&bytes, 4, None);
        assert_eq!(how, PLANES);
        assert!(stored.len() < bytes.len() * 8 / 10, "{} of {}", stored.len(), bytes.len());
        // A bomb: many bytes from few.
        let bomb = zstd::bulk::compress(&vec![0; 10 << 20], 1).unwrap();
        assert!(decode(bomb, ZSTD, 1000, 1, None).is_err());
    }
}
