//! The values of a tensor, from its bytes.
//!
//! Purpose: one function for each type, in the order of operations of `gguf.quants` in llama.cpp, so that every f32 has the
//! same bits.
//! Invariant: a block reads its own bytes alone.
//! Must not know: files, names, shapes.

use half::{bf16, f16};

use super::TensorKind;

/// Values of a block of the K types.
const QK: usize = 256;

/// Reads `out.len()` values of a type that is readable; `bytes` are their blocks.
pub(in crate::gguf) fn decode(kind: TensorKind, bytes: &[u8], out: &mut [f32]) {
    let block: fn(&[u8], &mut [f32]) = match kind {
        TensorKind::F32 => {
            |bytes, out| out[0] = f32::from_bits(u32::from(word(bytes, 0)) | u32::from(word(bytes, 2)) << 16)
        }
        TensorKind::F16 => |bytes, out| out[0] = half(bytes, 0),
        TensorKind::Bf16 => |bytes, out| out[0] = bf16::from_bits(word(bytes, 0)).to_f32(),
        TensorKind::Q4_0 => q4_0,
        TensorKind::Q4_1 => q4_1,
        TensorKind::Q5_0 => q5_0,
        TensorKind::Q5_1 => q5_1,
        TensorKind::Q8_0 => q8_0,
        TensorKind::Q2K => q2_k,
        TensorKind::Q3K => q3_k,
        TensorKind::Q4K => q4_k,
        TensorKind::Q5K => q5_k,
        TensorKind::Q6K => q6_k,
        _ => return,
    };
    let blocks = bytes.chunks_exact(kind.block_bytes());
    blocks.zip(out.chunks_exact_mut(kind.block())).for_each(|(bytes, out)| block(bytes, out));
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_bits(word(bytes, at)).to_f32()
}

/// The two numbers of four bits in each byte: first the lower ones, then the upper ones.
fn nibbles(bytes: &[u8], out: &mut [f32], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(bytes.len());
    for (i, &byte) in bytes.iter().enumerate() {
        low[i] = value(i, byte & 0x0f);
        high[i] = value(i + bytes.len(), byte >> 4);
    }
}

fn q4_0(bytes: &[u8], out: &mut [f32]) {
    let d = half(bytes, 0);
    nibbles(&bytes[2..], out, |_, q| d * (f32::from(q) - 8.0));
}

fn q4_1(bytes: &[u8], out: &mut [f32]) {
    let (d, m) = (half(bytes, 0), half(bytes, 2));
    nibbles(&bytes[4..], out, |_, q| d * f32::from(q) + m);
}

/// The fifth bit of value `i`, as 0 or 16.
fn fifth(bits: &[u8], i: usize) -> u8 {
    (bits[i / 8] >> (i % 8) & 1) << 4
}

fn q5_0(bytes: &[u8], out: &mut [f32]) {
    let (d, bits) = (half(bytes, 0), &bytes[2..6]);
    nibbles(&bytes[6..], out, |i, q| d * (f32::from(q | fifth(bits, i)) - 16.0));
}

fn q5_1(bytes: &[u8], out: &mut [f32]) {
    let (d, m, bits) = (half(bytes, 0), half(bytes, 2), &bytes[4..8]);
    nibbles(&bytes[8..], out, |i, q| d * f32::from(q | fifth(bits, i)) + m);
}

fn q8_0(bytes: &[u8], out: &mut [f32]) {
    let d = half(bytes, 0);
    bytes[2..].iter().zip(out).for_each(|(&q, x)| *x = f32::from(q as i8) * d);
}

/// 16 scales and minima of four bits; 256 values of two bits, four planes of 32 in each 32 bytes.
fn q2_k(bytes: &[u8], out: &mut [f32]) {
    let (scales, quants) = (&bytes[..16], &bytes[16..80]);
    let (d, dmin) = (half(bytes, 80), half(bytes, 82));
    for (i, x) in out.iter_mut().enumerate() {
        let (dl, ml) = (d * f32::from(scales[i / 16] & 0x0f), dmin * f32::from(scales[i / 16] >> 4));
        *x = dl * f32::from(two_bits(quants, i)) - ml;
    }
}

/// The value `i` of two bits, where 32 bytes hold four planes of 32 values.
fn two_bits(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3
}

/// 16 scales of six bits; values of three bits, the third of which is apart and says that four is not taken off.
fn q3_k(bytes: &[u8], out: &mut [f32]) {
    let (mask, quants, packed) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
    let d = half(bytes, 108);
    let scale = |i: usize| {
        let low = packed[i % 8] >> (4 * (i / 8)) & 0x0f;
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        d * (f32::from(low | high << 4) - 32.0)
    };
    let scales: [f32; 16] = std::array::from_fn(scale);
    for (i, x) in out.iter_mut().enumerate() {
        let is_whole = mask[i % 32] >> (i / 32) & 1 == 1;
        let q = f32::from(two_bits(quants, i)) - if is_whole { 0.0 } else { 4.0 };
        *x = scales[i / 16] * q;
    }
}

/// The scales and minima of Q4_K and Q5_K, eight of six bits each.
fn scales(packed: &[u8], d: f32, dmin: f32) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, minimum) = match i {
            0..4 => (packed[i] & 0x3f, packed[i + 4] & 0x3f),
            _ => {
                (packed[i + 4] & 0x0f | packed[i - 4] >> 2 & 0x30, packed[i + 4] >> 4 | packed[i] >> 2 & 0x30)
            }
        };
        (d * f32::from(scale), dmin * f32::from(minimum))
    })
}

fn q4_k(bytes: &[u8], out: &mut [f32]) {
    let scales = scales(&bytes[4..16], half(bytes, 0), half(bytes, 2));
    for (pair, out) in out.chunks_exact_mut(64).enumerate() {
        nibbles(&bytes[16 + 32 * pair..][..32], out, |i, q| {
            let (d, m) = scales[2 * pair + i / 32];
            d * f32::from(q) - m
        });
    }
}

fn q5_k(bytes: &[u8], out: &mut [f32]) {
    let scales = scales(&bytes[4..16], half(bytes, 0), half(bytes, 2));
    let bits = &bytes[16..48];
    for (pair, out) in out.chunks_exact_mut(64).enumerate() {
        nibbles(&bytes[48 + 32 * pair..][..32], out, |i, q| {
            let plane = 2 * pair + i / 32;
            let (d, m) = scales[plane];
            d * f32::from(q | (bits[i % 32] >> plane & 1) << 4) - m
        });
    }
}

/// 16 scales of eight bits; four lower bits of each value, two planes in 64 bytes, and two upper bits.
fn q6_k(bytes: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
    let d = half(bytes, 208);
    debug_assert_eq!(out.len(), QK);
    for (i, x) in out.iter_mut().enumerate() {
        let nibble = low[i / 128 * 64 + i % 64] >> (4 * (i % 128 / 64)) & 0x0f;
        let q = f32::from(nibble | two_bits(high, i) << 4) - 32.0;
        *x = d * f32::from(scales[i / 16] as i8) * q;
    }
}
