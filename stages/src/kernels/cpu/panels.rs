//! Matrices laid out for generation, and their products with a few rows.
//!
//! Purpose: `x W` for one row or many, reading each matrix once from its beginning to its end.
//! Invariant: each element is added up over the inner index in order, from 0, so a row's result is the same bytes whatever
//! rows stand beside it and however many threads there are.
//! Must not know: what the matrices are.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::memory::{self, AHEAD};

/// Numbers of a row of a panel: two vectors of AVX-512.
const WIDE: usize = 32;
/// Rows of x that are worked on together.
const TALL: usize = 8;
/// Rows of so many columns are put together by all threads.
const LONG: usize = 1 << 13;

/// Matrices `[rows, columns]`, each in panels of [`WIDE`] columns, `[panels, rows, WIDE]`, filled up with zeros. All stand one
/// after the other in one run of memory.
pub struct Panels {
    values: Vec<f32>,
    places: Vec<Place>,
}

/// Where a matrix stands.
struct Place {
    start: usize,
    rows: usize,
    columns: usize,
}

impl Place {
    /// Numbers of a panel.
    fn panel(&self) -> usize {
        self.rows * WIDE
    }

    /// Numbers of the matrix, the zeros included.
    fn size(&self) -> usize {
        self.columns.div_ceil(WIDE) * self.panel()
    }
}

/// The place of a matrix that is to be laid out.
pub struct Slot<'a> {
    values: &'a mut [f32],
    place: &'a Place,
}

impl Slot<'_> {
    /// Lays out a row-major matrix.
    pub fn fill(self, matrix: &[f32]) {
        let Place { columns, .. } = *self.place;
        debug_assert_eq!(matrix.len(), self.place.rows * columns);
        let panels = self.values.chunks_exact_mut(self.place.panel());
        for (panel, first) in panels.zip((0..columns).step_by(WIDE)) {
            let width = WIDE.min(columns - first);
            for (to, from) in panel.chunks_exact_mut(WIDE).zip(matrix.chunks_exact(columns)) {
                to[..width].copy_from_slice(&from[first..first + width]);
            }
        }
    }

    /// Lays out the transpose of a row-major matrix `[columns, rows]`.
    pub fn fill_transposed(self, matrix: &[f32]) {
        let rows = self.place.rows;
        debug_assert_eq!(matrix.len(), rows * self.place.columns);
        let panels = self.values.chunks_exact_mut(self.place.panel());
        for (panel, from) in panels.zip(matrix.chunks(rows * WIDE)) {
            for (j, column) in from.chunks_exact(rows).enumerate() {
                column.iter().enumerate().for_each(|(i, &x)| panel[i * WIDE + j] = x);
            }
        }
    }
}

impl Panels {
    /// Room for matrices of these shapes, `[rows, columns]`; `fill` lays each of them out, by its number.
    pub fn new(shapes: &[[usize; 2]], fill: impl Fn(usize, Slot) + Sync) -> Self {
        let mut start = 0;
        let place = |&[rows, columns]: &[usize; 2]| {
            let place = Place { start, rows, columns };
            start += place.size();
            place
        };
        let places: Vec<Place> = shapes.iter().map(place).collect();
        let mut values = memory::zeros(start);
        let mut rest = &mut values[..];
        let slots: Vec<Slot> = places
            .iter()
            .map(|place| Slot { values: rest.split_off_mut(..place.size()).expect("room for all"), place })
            .collect();
        slots.into_par_iter().enumerate().for_each(|(i, slot)| fill(i, slot));
        Self { values, places }
    }

    /// `out = x W`, or `out += x W`, of a matrix by its number. Shapes: x `[n, rows]`, out `[n, columns]`; `shares` says that
    /// all threads take part.
    pub fn product(&self, matrix: usize, x: &[f32], out: &mut [f32], adds: bool, shares: bool) {
        let place = &self.places[matrix];
        let (rows, columns, size) = (place.rows, place.columns, place.panel());
        let n = x.len() / rows;
        let values = &self.values[place.start..place.start + place.size()];
        let mut sums = vec![0.0; columns.div_ceil(WIDE) * n * WIDE];
        let job = |(panels, sums): (&[f32], &mut [f32])| {
            for (panel, sums) in panels.chunks_exact(size).zip(sums.chunks_exact_mut(n * WIDE)) {
                Arch::new().dispatch(Panel { x, panel, rows, sums });
            }
        };
        match shares {
            true => values.par_chunks(size).zip(sums.par_chunks_mut(n * WIDE)).for_each(job),
            false => job((values, &mut sums)),
        }
        let row = |(i, row): (usize, &mut [f32])| {
            for (panel, to) in sums.chunks_exact(n * WIDE).zip(row.chunks_mut(WIDE)) {
                for (slot, sum) in to.iter_mut().zip(&panel[i * WIDE..]) {
                    *slot = if adds { *slot + sum } else { *sum };
                }
            }
        };
        match shares && n > 1 && columns >= LONG {
            true => out.par_chunks_exact_mut(columns).enumerate().for_each(row),
            false => out.chunks_exact_mut(columns).enumerate().for_each(row),
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
        let (n, mut row) = (self.x.len() / self.rows, 0);
        for step in [TALL, 4, 2, 1] {
            while n - row >= step {
                let (x, sums) = (&self.x[row * self.rows..], &mut self.sums[row * WIDE..]);
                let reads_ahead = row == 0;
                match step {
                    TALL => tile::<S, TALL>(simd, x, self.panel, reads_ahead, sums),
                    4 => tile::<S, 4>(simd, x, self.panel, reads_ahead, sums),
                    2 => tile::<S, 2>(simd, x, self.panel, reads_ahead, sums),
                    _ => tile::<S, 1>(simd, x, self.panel, reads_ahead, sums),
                }
                row += step;
            }
        }
    }
}

/// `M` rows of x with a panel, two vectors at a time, whose sums stay in registers; `reads_ahead` asks for the numbers that
/// come [`AHEAD`] of those that are read.
#[inline(always)]
fn tile<S: Simd, const M: usize>(simd: S, x: &[f32], panel: &[f32], reads_ahead: bool, sums: &mut [f32]) {
    let (rows, pair) = (panel.len() / WIDE, 2 * S::F32_LANES);
    let x: [&[f32]; M] = std::array::from_fn(|m| &x[m * rows..(m + 1) * rows]);
    for first in (0..WIDE).step_by(pair) {
        let mut acc = [[simd.splat_f32s(0.0); 2]; M];
        for (k, row) in panel.chunks_exact(WIDE).enumerate() {
            if reads_ahead && first == 0 {
                memory::prefetch(row.as_ptr().wrapping_add(AHEAD));
                memory::prefetch(row.as_ptr().wrapping_add(AHEAD + WIDE / 2));
            }
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
