//! Forms that hold the numbers of a matrix in less memory, without loss.
//!
//! Purpose: weights that were published in 16 bits, or that come from the blocks of a quantized file, are kept in about as many
//! bits as they had, so that generation reads less memory; what is computed stays the same, bit by bit.
//! Invariant: a form is chosen only where each number comes back as it was.
//! Must not know: products, files.

use std::ops::Range;

use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::memory;

/// Columns of a panel: two vectors of AVX-512.
pub const WIDE: usize = 32;
/// Rows of a panel that are opened together, which is also how many numbers share a step in the files that have steps.
pub const BLOCK: usize = 32;

/// How the numbers of a panel `[rows, WIDE]` are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each in 32 bits.
    Full,
    /// Each in 16 bits, as bf16.
    Brain,
    /// Each in 16 bits, as the half precision of IEEE 754.
    Half,
    /// Each as a count in 8 bits. Those of a block and a column share a step and an offset, `count * step + offset`: GGUF's
    /// Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 are such numbers.
    Steps,
}

/// A matrix `[rows, columns]` that is to be laid out.
pub struct Source<'a> {
    /// Row-major.
    pub values: &'a [f32],
    /// `[rows, columns]`.
    pub shape: [usize; 2],
    /// Whether the values are those of the transpose, `[columns, rows]`.
    pub is_transposed: bool,
}

impl Source<'_> {
    /// The numbers of some rows in the columns of a panel that begins at `first`, `[rows, WIDE]`, filled up with zeros.
    pub fn tile(&self, range: Range<usize>, first: usize, to: &mut [f32]) {
        let [rows, columns] = self.shape;
        let width = WIDE.min(columns - first);
        if width < WIDE {
            to.fill(0.0);
        }
        if self.is_transposed {
            for (j, column) in self.values.chunks_exact(rows).skip(first).take(width).enumerate() {
                column[range.clone()].iter().enumerate().for_each(|(i, &x)| to[i * WIDE + j] = x);
            }
        } else {
            for (i, to) in range.zip(to.chunks_exact_mut(WIDE)) {
                let start = i * columns + first;
                to[..width].copy_from_slice(&self.values[start..start + width]);
            }
        }
    }

    /// The blocks of rows of a panel.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let rows = self.shape[0];
        (0..rows).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(rows))
    }
}

impl Form {
    /// The narrowest form in which every number of a matrix comes back as it is.
    pub fn of(source: &Source) -> Self {
        let [rows, columns] = source.shape;
        let fits = |form: &Self| {
            let panel_fits = |panel: usize| {
                let (mut tile, mut stored) = ([0.0; BLOCK * WIDE], [0.0; BLOCK * WIDE]);
                source.blocks().all(|range| {
                    let tile = &mut tile[..range.len() * WIDE];
                    source.tile(range.clone(), panel * WIDE, tile);
                    form.holds(tile, &mut stored[..form.size(range.len())])
                })
            };
            (0..columns.div_ceil(WIDE)).into_par_iter().all(panel_fits)
        };
        let steps = rows.is_multiple_of(BLOCK).then_some(Self::Steps);
        steps.into_iter().chain([Self::Brain, Self::Half]).find(fits).unwrap_or(Self::Full)
    }

    /// How much room, in numbers of 32 bits, so many rows of a panel take. With steps they are whole blocks.
    pub fn size(self, rows: usize) -> usize {
        match self {
            Self::Full => rows * WIDE,
            Self::Brain | Self::Half => rows.div_ceil(2) * WIDE,
            Self::Steps => rows / BLOCK * (2 + BLOCK / 4) * WIDE,
        }
    }

    /// Stores the numbers of at most a block.
    pub fn close(self, numbers: &[f32], stored: &mut [f32]) {
        match self {
            Self::Full => stored.copy_from_slice(numbers),
            Self::Brain => close_words::<2>(numbers, stored, |_, x| x.to_bits() >> 16),
            Self::Half => close_words::<2>(numbers, stored, |_, x| f16::from_f32(x).to_bits().into()),
            Self::Steps => close_steps(numbers, stored),
        }
    }

    /// The numbers of at most a block as they were.
    pub fn open(self, stored: &[f32], numbers: &mut [f32]) {
        Arch::new().dispatch(Open { form: self, stored, numbers });
    }

    /// [`Self::open`] within a function for the vectors of a machine; asks for what is stored [`memory::AHEAD`] of the numbers.
    #[inline(always)]
    pub fn open_with<S: Simd>(self, simd: S, stored: &[f32], numbers: &mut [f32]) {
        for line in (0..stored.len()).step_by(memory::LINE) {
            memory::prefetch(stored.as_ptr().wrapping_add(line + memory::AHEAD));
        }
        match self {
            Self::Full => numbers.copy_from_slice(stored),
            Self::Brain => open_words::<S, 2>(simd, stored, numbers, |_, bits| {
                simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(16)))
            }),
            Self::Half => open_words::<S, 2>(simd, stored, numbers, |_, bits| from_half(simd, bits)),
            Self::Steps => open_steps(simd, stored, numbers),
        }
    }

    /// Whether numbers come back as they are.
    fn holds(self, numbers: &[f32], stored: &mut [f32]) -> bool {
        let mut back = [0.0; BLOCK * WIDE];
        let back = &mut back[..numbers.len()];
        self.close(numbers, stored);
        self.open(stored, back);
        back.iter().zip(numbers).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

/// Opens what is stored in a form.
struct Open<'a> {
    form: Form,
    stored: &'a [f32],
    numbers: &'a mut [f32],
}

impl WithSimd for Open<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.form.open_with(simd, self.stored, self.numbers);
    }
}

/// Stores the codes of `IN` rows of a column in one word, the first one in the lowest bits: vectors then take them out as they
/// are, without moving them to other columns. `code` is given the column.
#[inline(always)]
fn close_words<const IN: usize>(numbers: &[f32], stored: &mut [f32], code: impl Fn(usize, f32) -> u32) {
    let words = bytemuck::cast_slice_mut::<f32, u32>(stored).as_chunks_mut::<WIDE>().0;
    for (words, rows) in words.iter_mut().zip(numbers.as_chunks::<WIDE>().0.chunks(IN)) {
        for j in 0..WIDE {
            words[j] = rows.iter().rev().fold(0, |word, row| word << (32 / IN) | code(j, row[j]));
        }
    }
}

/// The numbers whose codes words hold; `number` is given the place of a vector among the columns.
#[inline(always)]
fn open_words<S: Simd, const IN: usize>(
    simd: S,
    stored: &[f32],
    numbers: &mut [f32],
    number: impl Fn(usize, S::u32s) -> S::f32s,
) {
    let across = WIDE / S::F32_LANES;
    let words = S::as_simd_u32s(bytemuck::cast_slice(stored)).0;
    let numbers = S::as_mut_simd_f32s(numbers).0;
    let code = simd.splat_u32s(u32::MAX >> (32 - 32 / IN));
    for (rows, words) in numbers.chunks_mut(IN * across).zip(words.chunks_exact(across)) {
        for (i, row) in rows.chunks_exact_mut(across).enumerate() {
            let shift = simd.splat_u32s((32 / IN * i) as u32);
            for v in 0..across {
                row[v] = number(v, simd.and_u32s(simd.wrapping_dyn_shr_u32s(words[v], shift), code));
            }
        }
    }
}

/// Finite numbers of half precision.
#[inline(always)]
fn from_half<S: Simd>(simd: S, codes: S::u32s) -> S::f32s {
    /// The bits of 2^-14, the least number of half precision whose leading one is not stored.
    const LEAST: u32 = (127 - 14) << 23;
    let of = |bits| simd.splat_u32s(bits);
    let magnitude = simd.wrapping_dyn_shl_u32s(simd.and_u32s(codes, of(0x7fff)), of(13));
    let normal = simd.transmute_f32s_u32s(simd.add_u32s(magnitude, of((127 - 15) << 23)));
    let raised = simd.transmute_f32s_u32s(simd.or_u32s(magnitude, of(LEAST)));
    let subnormal = simd.sub_f32s(raised, simd.splat_f32s(f32::from_bits(LEAST)));
    let is_subnormal = simd.less_than_u32s(magnitude, of(1 << 23));
    let magnitude = simd.transmute_u32s_f32s(simd.select_f32s(is_subnormal, subnormal, normal));
    let sign = simd.wrapping_dyn_shl_u32s(simd.and_u32s(codes, of(0x8000)), of(16));
    simd.transmute_f32s_u32s(simd.or_u32s(magnitude, sign))
}

/// A number of each column of a panel.
type Lanes = [f32; WIDE];

/// Added to a count, so that it is not negative.
const BIAS: u32 = 128;

#[inline(always)]
fn open_steps<S: Simd>(simd: S, stored: &[f32], numbers: &mut [f32]) {
    /// The bits of 2^23 and of a count below it are those of their sum.
    const LARGE: u32 = 0x4b00_0000;
    let (steps, stored) = stored.split_at(WIDE);
    let (offsets, stored) = stored.split_at(WIDE);
    let (steps, offsets) = (S::as_simd_f32s(steps).0, S::as_simd_f32s(offsets).0);
    open_words::<S, 4>(simd, stored, numbers, |v, counts| {
        let raised = simd.transmute_f32s_u32s(simd.or_u32s(counts, simd.splat_u32s(LARGE)));
        let counts = simd.sub_f32s(raised, simd.splat_f32s(f32::from_bits(LARGE | BIAS)));
        simd.add_f32s(simd.mul_f32s(counts, steps[v]), offsets[v])
    });
}

simd! {
    /// The steps and offsets that give the numbers of each column back, those of the last guess where none does.
    fn close_steps(numbers: &[f32], stored: &mut [f32]) {
        /// Added to a number, it leaves the nearest whole number in the low bits.
        const ROUNDS: f32 = 12_582_912.0;
        let (steps, stored) = stored.split_first_chunk_mut::<WIDE>().expect("room for the steps");
        let (offsets, stored) = stored.split_first_chunk_mut::<WIDE>().expect("room for the offsets");
        let count = |x: f32, step: f32, offset: f32| ((x - offset) / step + ROUNDS).to_bits() as i8;
        let mut found = [false; WIDE];
        for (guess, from) in guesses(numbers) {
            if found == [true; WIDE] {
                break;
            }
            let mut holds = [true; WIDE];
            for row in numbers.as_chunks::<WIDE>().0 {
                for j in 0..WIDE {
                    let back = f32::from(count(row[j], guess[j], from[j])) * guess[j] + from[j];
                    holds[j] &= back.to_bits() == row[j].to_bits();
                }
            }
            for j in 0..WIDE {
                if !found[j] {
                    (steps[j], offsets[j], found[j]) = (guess[j], from[j], holds[j]);
                }
            }
        }
        close_words::<4>(numbers, stored, |j, x| {
            i32::from(count(x, steps[j], offsets[j])).wrapping_add_unsigned(BIAS) as u32
        });
    }
}

/// Steps and offsets that the numbers of each column may have.
///
/// Source: the quantizers of GGML. Q8_0 makes the largest magnitude 127 steps, Q4_0 and Q5_0 make the number of the largest
/// magnitude -8 and -16 steps, Q4_1 and Q5_1 begin at the smallest number, and the largest one is 15 and 31 steps of half
/// precision above it. An offset of -0 leaves the sign of a zero as it is.
#[inline(always)]
fn guesses(numbers: &[f32]) -> [(Lanes, Lanes); 5] {
    let (mut far, mut least, mut most) = ([0f32; WIDE], [f32::INFINITY; WIDE], [f32::NEG_INFINITY; WIDE]);
    for row in numbers.as_chunks::<WIDE>().0 {
        for j in 0..WIDE {
            far[j] = if row[j].abs() > far[j].abs() { row[j] } else { far[j] };
            least[j] = if row[j] < least[j] { row[j] } else { least[j] };
            most[j] = if row[j] > most[j] { row[j] } else { most[j] };
        }
    }
    let around = |steps: f32| (far.map(|x| x / steps), [-0.0; WIDE]);
    let magnitude = (far.map(|x| x.abs() / 127.0), [-0.0; WIDE]);
    let above = |steps: f32| {
        let step = |j: usize| f16::from_f32((most[j] - least[j]) / steps).to_f32();
        (std::array::from_fn(step), least)
    };
    [magnitude, above(15.0), around(-8.0), above(31.0), around(-16.0)]
}
