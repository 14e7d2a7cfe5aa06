//! The loops of attention over numbers that lie in vectors.
//!
//! Purpose: one product for all five of attention, the copies it reads, and the rows of the softmax.
//! Invariant: a function here is compiled into its caller, with the instructions that `pulp` found on the machine.
//! It must not know sequences, heads or where the numbers come from.
//!
//! `tile` keeps a block of sums in registers and adds `broadcast(left) * vector(right)`. The right operand is
//! always a copy in panels: padded to whole vectors, aligned, and read in order. Vectors are not touched inside of
//! `map` or `from_fn`, for the compiler does not always put these into their caller.
#![expect(
    clippy::needless_range_loop,
    reason = "a closure is compiled without the instructions of its caller"
)]

use std::array::from_fn;

use pulp::bytemuck::{Pod, cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};

use super::exp;
use super::mask::{LANES, visible, whole};

/// Queries that are worked on together: each strip stops at its own last key.
pub(super) const STRIP: usize = 8;
/// Vectors of a row of a panel.
pub(super) const PANEL: usize = 2;

/// Columns of a matrix by rows: `row(i)` is `values[i * stride..][..size]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) size: usize,
    pub(super) rows: usize,
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(super) fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.size]
    }

    /// The rows from `first` on, at most `rows` of them.
    #[inline(always)]
    pub(super) fn part(self, first: usize, rows: usize) -> Self {
        Self { values: &self.values[first * self.stride..], rows: rows.min(self.rows - first), ..self }
    }
}

/// A left operand, whose numbers are broadcast: for one inner index after another, those of `M` rows from `first`.
pub(super) trait Left {
    fn tile<const M: usize>(&self, first: usize, inner: usize)
    -> impl Iterator<Item = impl Fn(usize) -> f32>;
}

/// The rows themselves; the last one counts for those after it too.
impl Left for View<'_> {
    #[inline(always)]
    fn tile<const M: usize>(
        &self,
        first: usize,
        inner: usize,
    ) -> impl Iterator<Item = impl Fn(usize) -> f32> {
        let mut rows = [&self.values[..0]; M];
        for row in 0..M {
            rows[row] = &self.values[(first + row).min(self.rows - 1) * self.stride..][..inner];
        }
        (0..inner).map(move |index| move |row: usize| rows[row][index])
    }
}

/// The transpose of a matrix by rows.
pub(super) struct Columns<'a> {
    values: &'a [f32],
    stride: usize,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    pub(super) fn new(values: &'a [f32], stride: usize) -> Self {
        Self { values, stride }
    }
}

impl Left for Columns<'_> {
    #[inline(always)]
    fn tile<const M: usize>(
        &self,
        first: usize,
        inner: usize,
    ) -> impl Iterator<Item = impl Fn(usize) -> f32> {
        self.values[first..].chunks(self.stride).take(inner).map(|row| {
            let row = &row[..M];
            move |index: usize| row[index]
        })
    }
}

/// A right operand in panels: [columns / wide, rows, wide], where `wide` is `PANEL` vectors.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    values: &'a [f32],
    rows: usize,
}

impl Panels<'_> {
    /// Without the rows before `first`.
    #[inline(always)]
    pub(super) fn after<S: Simd>(self, first: usize) -> Self {
        Self { values: &self.values[first * PANEL * S::F32_LANES..], ..self }
    }
}

/// `out[count, columns] (+)= left[count, inner] * right[inner, columns]`, to whole tiles and vectors.
#[inline(always)]
pub(super) fn product<S: Simd, L: Left>(
    simd: S,
    left: L,
    right: Panels<'_>,
    shape: [usize; 3],
    out: &mut [f32],
    stride: usize,
    add: bool,
) {
    simd.vectorize(Product { left, right, shape, out, stride, add });
}

/// A call of `product`, in a function of its own.
struct Product<'a, L> {
    left: L,
    right: Panels<'a>,
    shape: [usize; 3],
    out: &'a mut [f32],
    stride: usize,
    add: bool,
}

impl<L: Left> WithSimd for Product<'_, L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ([count, inner, columns], wide) = (self.shape, PANEL * S::F32_LANES);
        for (panel, column) in (0..columns).step_by(wide).enumerate() {
            let right = &self.right.values[panel * self.right.rows * wide..];
            let mut row = 0;
            while row < count {
                let tall = S::REGISTER_COUNT >= 32 && count - row > 4;
                let out = &mut self.out[row * self.stride + column..];
                let (stride, add) = (self.stride, self.add);
                match (tall, columns - column > S::F32_LANES) {
                    (true, true) => {
                        tile::<S, 8, 2>(simd, self.left.tile::<8>(row, inner), right, out, stride, add)
                    }
                    (true, false) => {
                        tile::<S, 8, 1>(simd, self.left.tile::<8>(row, inner), right, out, stride, add)
                    }
                    (false, true) => {
                        tile::<S, 4, 2>(simd, self.left.tile::<4>(row, inner), right, out, stride, add)
                    }
                    (false, false) => {
                        tile::<S, 4, 1>(simd, self.left.tile::<4>(row, inner), right, out, stride, add)
                    }
                }
                row += if tall { 8 } else { 4 };
            }
        }
    }
}

/// A block of `M` rows and `N` vectors of a product, whose sums stay in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    simd: S,
    left: impl Iterator<Item = impl Fn(usize) -> f32>,
    right: &[f32],
    out: &mut [f32],
    stride: usize,
    add: bool,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); N]; M];
    if add {
        for row in 0..M {
            let old = S::as_simd_f32s(&out[row * stride..][..N * lanes]).0;
            sums[row] = from_fn(|vector| old[vector]);
        }
    }
    for (left, right) in left.zip(right.chunks_exact(PANEL * lanes)) {
        let right = S::as_simd_f32s(right).0;
        let right: [_; N] = from_fn(|vector| right[vector]);
        for row in 0..M {
            let left = simd.splat_f32s(left(row));
            for vector in 0..N {
                sums[row][vector] = simd.mul_add_e_f32s(left, right[vector], sums[row][vector]);
            }
        }
    }
    for row in 0..M {
        let new = S::as_mut_simd_f32s(&mut out[row * stride..][..N * lanes]).0;
        new.copy_from_slice(&sums[row]);
    }
}

/// Copies rows into panels of room for `capacity` rows; the columns after the last are zero.
#[inline(always)]
pub(super) fn pack<'a, S: Simd>(
    simd: S,
    from: View<'_>,
    panels: &'a mut [f32],
    capacity: usize,
) -> Panels<'a> {
    let wide = PANEL * S::F32_LANES;
    for (panel, column) in panels.chunks_exact_mut(capacity * wide).zip((0..from.size).step_by(wide)) {
        for (row, to) in panel.chunks_exact_mut(wide).take(from.rows).enumerate() {
            let row = &from.row(row)[column..];
            let (row, tail) = S::as_simd_f32s(&row[..wide.min(row.len())]);
            let to = S::as_mut_simd_f32s(to).0;
            for vector in 0..PANEL {
                to[vector] = match row.get(vector) {
                    Some(whole) => *whole,
                    None if vector == row.len() => simd.partial_load_f32s(tail),
                    None => simd.splat_f32s(0.0),
                };
            }
        }
    }
    Panels { values: panels, rows: capacity }
}

/// Copies the transpose of rows into panels; the columns after the last are zero.
///
/// Four rows at a time are interleaved into groups of four numbers. The order of the groups is the machine's, so
/// it is asked for with a vector of indices.
#[inline(always)]
pub(super) fn pack_transposed<'a, S: Simd>(simd: S, from: View<'_>, panels: &'a mut [f32]) -> Panels<'a> {
    let (lanes, wide) = (S::F32_LANES, PANEL * S::F32_LANES);
    let length = from.rows.next_multiple_of(wide.max(STRIP));
    let order = simd.interleave_shfl_f32s([S::as_simd_f32s(&LANES).0[0]; 4]);
    let order: &[[f32; 4]] = cast_slice(&order);
    let order: [usize; 16] = from_fn(|group| order.get(group).map_or(0, |order| order[0] as usize));
    if wide < 4 {
        for (row, column) in (0..length).flat_map(|row| (0..from.size).map(move |column| (row, column))) {
            let number = if row < from.rows { from.row(row)[column] } else { 0.0 };
            panels[(row / wide * from.size + column) * wide + row % wide] = number;
        }
        return Panels { values: panels, rows: from.size };
    }
    for first in (0..length).step_by(4) {
        for column in (0..from.size).step_by(lanes) {
            let to = &mut panels[(first / wide * from.size + column) * wide + first % wide..];
            let mut rows = [simd.splat_f32s(0.0); 4];
            if first + 4 <= from.rows && column + lanes <= from.size {
                for row in 0..4 {
                    rows[row] = S::as_simd_f32s(&from.row(first + row)[column..column + lanes]).0[0];
                }
                spread(simd.interleave_shfl_f32s(rows), order, usize::MAX, wide, to);
            } else {
                let filled = lanes.min(from.size - column);
                for row in 0..4.min(from.rows.saturating_sub(first)) {
                    rows[row] = simd.partial_load_f32s(&from.row(first + row)[column..column + filled]);
                }
                spread(simd.interleave_shfl_f32s(rows), order, filled, wide, to);
            }
        }
    }
    Panels { values: panels, rows: from.size }
}

/// Writes each group of four numbers into the line that `order` says, of the first `count` lines.
#[inline(always)]
fn spread<V: Pod>(groups: [V; 4], order: [usize; 16], count: usize, stride: usize, to: &mut [f32]) {
    for (group, line) in cast_slice::<_, [f32; 4]>(&groups).iter().zip(order) {
        if line < count {
            to[line * stride..][..4].copy_from_slice(group);
        }
    }
}

/// The vectors of `R` rows up to the key `last`.
#[inline(always)]
fn strip<S: Simd, const R: usize>(values: &mut [f32], width: usize, last: usize) -> [&mut [S::f32s]; R] {
    let mut rows = values.chunks_exact_mut(width);
    from_fn(|_| &mut S::as_mut_simd_f32s(rows.next().unwrap_or_default()).0[..=last / S::F32_LANES])
}

/// Turns `R` rows of scores into exp(scale * (score - maximum)), and 0 beside the keys that are `seen(row)`, from the first to
/// the last.
///
/// Returns the sum and the scaled maximum of each row.
#[inline(always)]
pub(super) fn softmax<S: Simd, const R: usize>(
    simd: S,
    scores: &mut [f32],
    width: usize,
    seen: impl Fn(usize) -> (usize, usize),
    scale: f32,
) -> ([f32; R], [f32; R]) {
    let rows = strip::<S, R>(scores, width, seen(R - 1).1);
    let whole = whole::<S>(seen(0), seen(R - 1));
    let mut largest = [simd.splat_f32s(f32::NEG_INFINITY); R];
    for index in 0..rows[0].len() {
        for row in 0..R {
            if !whole.contains(&index) {
                rows[row][index] = visible(simd, rows[row][index], seen(row), index);
            }
            largest[row] = simd.max_f32s(largest[row], rows[row][index]);
        }
    }
    let mut shifts = [0.0; R];
    for row in 0..R {
        shifts[row] = simd.reduce_max_f32s(largest[row]) * scale;
    }
    let mut sums = [simd.splat_f32s(0.0); R];
    for index in 0..rows[0].len() {
        for row in 0..R {
            let new = lanes(rows[row][index], |score| exp(score.mul_add(scale, -shifts[row])));
            rows[row][index] = new;
            sums[row] = simd.add_f32s(sums[row], new);
        }
    }
    let mut totals = [0.0; R];
    for row in 0..R {
        totals[row] = simd.reduce_sum_f32s(sums[row]);
    }
    (totals, shifts)
}

/// Turns a strip of scores, of which each row sees the keys `seen(row)`, into probabilities, and the gradients of the
/// probabilities into those of the scaled scores. `rows`: the logsumexp and the product of out and d_out of each.
#[inline(always)]
pub(super) fn d_softmax<S: Simd>(
    simd: S,
    p: &mut [f32],
    d_scores: &mut [f32],
    width: usize,
    seen: impl Fn(usize) -> (usize, usize),
    scale: f32,
    rows: [(f32, f32); STRIP],
) {
    let (whole, last) = (whole::<S>(seen(0), seen(STRIP - 1)), seen(STRIP - 1).1);
    let (p, d_scores) = (strip::<S, STRIP>(p, width, last), strip::<S, STRIP>(d_scores, width, last));
    for index in 0..p[0].len() {
        for row in 0..STRIP {
            let mut score = p[row][index];
            if !whole.contains(&index) {
                score = visible(simd, score, seen(row), index);
            }
            let (shift, mean) = rows[row];
            p[row][index] = lanes(score, |score| exp(score.mul_add(scale, -shift)));
            let d_p = simd.sub_f32s(d_scores[row][index], simd.splat_f32s(mean));
            d_scores[row][index] = simd.mul_f32s(p[row][index], d_p);
        }
    }
}

/// The function of each lane.
#[inline(always)]
fn lanes<V: Pod>(mut vector: V, function: impl Fn(f32) -> f32) -> V {
    for lane in cast_slice_mut::<V, f32>(std::slice::from_mut(&mut vector)) {
        *lane = function(*lane);
    }
    vector
}

/// `to = factor * from`, where `from` is padded to whole vectors.
#[inline(always)]
pub(super) fn scaled<S: Simd>(simd: S, from: &[f32], factor: f32, to: &mut [f32]) {
    let (to, tail) = S::as_mut_simd_f32s(to);
    let (from, _) = S::as_simd_f32s(from);
    let factor = simd.splat_f32s(factor);
    for (to, from) in to.iter_mut().zip(from) {
        *to = simd.mul_f32s(factor, *from);
    }
    if !tail.is_empty() {
        simd.partial_store_f32s(tail, simd.mul_f32s(factor, from[to.len()]));
    }
}

/// The sum of the products of two vectors of one length.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.mul_f32s(simd.partial_load_f32s(a_tail), simd.partial_load_f32s(b_tail));
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    simd.reduce_sum_f32s(sum)
}
