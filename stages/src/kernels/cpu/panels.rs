//! A matrix laid out for generation, and its product with a few rows.
//!
//! Purpose: `x W` for one row or many, reading the matrix once from its beginning to its end.
//! Invariant: each element is added up over the inner index in order, from 0, so a row's result is the same bytes whatever
//! rows stand beside it and however many threads there are.
//! Must not know: what the matrix is.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Numbers of a row of a panel: two vectors of AVX-512.
const WIDE: usize = 32;
/// Rows of x that are worked on together.
const TALL: usize = 8;
/// Panels of a job of one thread.
const JOB: usize = 8;

/// A matrix `[rows, columns]` in panels of [`WIDE`] columns, `[panels, rows, WIDE]`, filled up with zeros.
pub struct Panels {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Lays out a row-major matrix.
    pub fn new(matrix: &[f32], columns: usize) -> Self {
        let rows = matrix.len() / columns;
        let mut values = vec![0.0; columns.div_ceil(WIDE) * rows * WIDE];
        for (panel, first) in values.chunks_exact_mut(rows * WIDE).zip((0..columns).step_by(WIDE)) {
            let width = WIDE.min(columns - first);
            for (to, from) in panel.chunks_exact_mut(WIDE).zip(matrix.chunks_exact(columns)) {
                to[..width].copy_from_slice(&from[first..first + width]);
            }
        }
        Self { values, rows, columns }
    }

    /// Lays out the transpose of a row-major matrix, whose rows have `rows` numbers.
    pub fn transposed(matrix: &[f32], rows: usize) -> Self {
        let columns = matrix.len() / rows;
        let mut values = vec![0.0; columns.div_ceil(WIDE) * rows * WIDE];
        for (panel, from) in values.chunks_exact_mut(rows * WIDE).zip(matrix.chunks(rows * WIDE)) {
            for (j, column) in from.chunks_exact(rows).enumerate() {
                column.iter().enumerate().for_each(|(i, &x)| panel[i * WIDE + j] = x);
            }
        }
        Self { values, rows, columns }
    }

    /// `out = x W`, or `out += x W`. Shapes: x `[n, rows]`, out `[n, columns]`; `shares` says that all threads take part.
    pub fn product(&self, x: &[f32], out: &mut [f32], adds: bool, shares: bool) {
        let n = x.len() / self.rows;
        let size = self.rows * WIDE;
        let mut sums = vec![0.0; self.columns.div_ceil(WIDE) * n * WIDE];
        let job = |(panels, sums): (&[f32], &mut [f32])| {
            for (panel, sums) in panels.chunks_exact(size).zip(sums.chunks_exact_mut(n * WIDE)) {
                Arch::new().dispatch(Panel { x, panel, rows: self.rows, sums });
            }
        };
        match shares {
            true => {
                let jobs = self.values.par_chunks(JOB * size).zip(sums.par_chunks_mut(JOB * n * WIDE));
                jobs.for_each(job);
            }
            false => job((&self.values, &mut sums)),
        }
        for (panel, first) in sums.chunks_exact(n * WIDE).zip((0..self.columns).step_by(WIDE)) {
            let width = WIDE.min(self.columns - first);
            for (row, sums) in out.chunks_exact_mut(self.columns).zip(panel.chunks_exact(WIDE)) {
                for (slot, sum) in row[first..first + width].iter_mut().zip(sums) {
                    *slot = if adds { *slot + sum } else { *sum };
                }
            }
        }
    }
}

/// The sums of one panel, `[n, WIDE]`.
struct Panel<'a> {
    x: &'a [f32],
    panel: &'a [f32],
    rows: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let blocks = self.x.chunks(TALL * self.rows).zip(self.sums.chunks_mut(TALL * WIDE));
        for (x, sums) in blocks {
            match x.len() / self.rows {
                8 => tile::<S, 8>(simd, x, self.panel, self.rows, sums),
                n => {
                    let mut row = 0;
                    for step in [4, 2, 1] {
                        while n - row >= step {
                            let (x, sums) = (&x[row * self.rows..], &mut sums[row * WIDE..]);
                            match step {
                                4 => tile::<S, 4>(simd, x, self.panel, self.rows, sums),
                                2 => tile::<S, 2>(simd, x, self.panel, self.rows, sums),
                                _ => tile::<S, 1>(simd, x, self.panel, self.rows, sums),
                            }
                            row += step;
                        }
                    }
                }
            }
        }
    }
}

/// `M` rows of x with a panel, two vectors at a time, whose sums stay in registers.
#[inline(always)]
fn tile<S: Simd, const M: usize>(simd: S, x: &[f32], panel: &[f32], rows: usize, sums: &mut [f32]) {
    let pair = 2 * S::F32_LANES;
    let x: [&[f32]; M] = std::array::from_fn(|m| &x[m * rows..(m + 1) * rows]);
    for first in (0..WIDE).step_by(pair) {
        let mut acc = [[simd.splat_f32s(0.0); 2]; M];
        for (k, row) in panel.chunks_exact(WIDE).enumerate() {
            let right = S::as_simd_f32s(&row[first..first + pair]).0;
            for m in 0..M {
                let left = simd.splat_f32s(x[m][k]);
                for v in 0..2 {
                    acc[m][v] = simd.mul_add_e_f32s(left, right[v], acc[m][v]);
                }
            }
        }
        for m in 0..M {
            let to = S::as_mut_simd_f32s(&mut sums[m * WIDE + first..m * WIDE + first + pair]).0;
            to.copy_from_slice(&acc[m]);
        }
    }
}
