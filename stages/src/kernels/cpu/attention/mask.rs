//! Which keys a query sees.
//!
//! Purpose: hides the lanes of a vector of scores that belong to later keys, or to keys before a window.
//! Invariant: a score that is hidden is minus infinity, whatever it was.
//! It must not know where the scores come from.

use std::ops::Range;

use pulp::Simd;

/// The indices of the lanes of the widest vector.
pub(super) const LANES: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// The vectors that every row of a strip sees as a whole, by what its first and its last row see.
#[inline(always)]
pub(super) fn whole<S: Simd>(first: (usize, usize), last: (usize, usize)) -> Range<usize> {
    last.0.div_ceil(S::F32_LANES)..first.1 / S::F32_LANES
}

/// The lanes of the vector `index` from the first to the last key that is seen, and minus infinity in the others.
#[inline(always)]
pub(super) fn visible<S: Simd>(
    simd: S,
    vector: S::f32s,
    (first, last): (usize, usize),
    index: usize,
) -> S::f32s {
    let (lanes, start) = (S::as_simd_f32s(&LANES).0[0], (index * S::F32_LANES) as f32);
    let later = simd.greater_than_f32s(lanes, simd.splat_f32s(last as f32 - start));
    let earlier = simd.less_than_f32s(lanes, simd.splat_f32s(first as f32 - start));
    let hidden = simd.splat_f32s(f32::NEG_INFINITY);
    simd.select_f32s(earlier, hidden, simd.select_f32s(later, hidden, vector))
}
