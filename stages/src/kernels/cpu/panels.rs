//! Matrices laid out for generation, and their products with a few rows.
//!
//! Purpose: `x W` for one row or many, reading each matrix once from its beginning to its end.
//! Invariant: each element is added up over the inner index in order, from 0, so a row's result is the same bytes whatever
//! rows stand beside it and however many threads there are.
//! Must not know: what the matrices are.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::forms::{BLOCK, Form, Source, WIDE};
use super::memory::{self, AHEAD};

/// Rows of x that are worked on together.
const TALL: usize = 8;
/// Rows of so many columns are put together by all threads.
const LONG: usize = 1 << 13;

/// Matrices `[rows, columns]`, each in panels of [`WIDE`] columns, `[panels, rows, WIDE]`, filled up with zeros. All stand one
/// after the other in one run of memory, each in its form.
pub struct Panels {
    stored: Vec<f32>,
    places: Vec<Place>,
}

/// Where a matrix stands.
struct Place {
    start: usize,
    rows: usize,
    columns: usize,
    form: Form,
}

impl Place {
    /// The room of a panel.
    fn panel(&self) -> usize {
        self.form.size(self.rows)
    }

    /// The room of the matrix, the zeros included.
    fn size(&self) -> usize {
        self.columns.div_ceil(WIDE) * self.panel()
    }
}

/// The place of a matrix that is to be laid out.
pub struct Slot<'a> {
    stored: &'a mut [f32],
    place: &'a Place,
}

impl Slot<'_> {
    /// Lays the matrix out.
    pub fn fill(self, source: &Source) {
        let Place { rows, columns, form, .. } = *self.place;
        debug_assert_eq!(source.shape, [rows, columns]);
        let panels = self.stored.chunks_exact_mut(self.place.panel());
        for (panel, first) in panels.zip((0..columns).step_by(WIDE)) {
            if form == Form::Full {
                source.tile(0..rows, first, panel);
                continue;
            }
            let mut tile = [0.0; BLOCK * WIDE];
            for (range, stored) in source.blocks().zip(panel.chunks_mut(form.size(BLOCK))) {
                let tile = &mut tile[..range.len() * WIDE];
                source.tile(range, first, tile);
                form.close(tile, stored);
            }
        }
    }
}

impl Panels {
    /// Room for matrices of these shapes, `[rows, columns]`, in these forms; `fill` lays each of them out, by its number.
    pub fn new(rooms: &[([usize; 2], Form)], fill: impl Fn(usize, Slot) + Sync) -> Self {
        let mut start = 0;
        let place = |&([rows, columns], form): &([usize; 2], Form)| {
            let place = Place { start, rows, columns, form };
            start += place.size();
            place
        };
        let places: Vec<Place> = rooms.iter().map(place).collect();
        let mut stored = memory::zeros(start);
        let mut rest = &mut stored[..];
        let slots: Vec<Slot> = places
            .iter()
            .map(|place| Slot { stored: rest.split_off_mut(..place.size()).expect("room for all"), place })
            .collect();
        slots.into_par_iter().enumerate().for_each(|(i, slot)| fill(i, slot));
        Self { stored, places }
    }

    /// The forms of the matrices.
    #[cfg(test)]
    pub fn forms(&self) -> impl Iterator<Item = Form> {
        self.places.iter().map(|place| place.form)
    }

    /// `out = x W`, or `out += x W`, of a matrix by its number. Shapes: x `[n, rows]`, out `[n, columns]`; `shares` says that
    /// all threads take part.
    pub fn product(&self, matrix: usize, x: &[f32], out: &mut [f32], adds: bool, shares: bool) {
        let place = &self.places[matrix];
        let (rows, columns, size, form) = (place.rows, place.columns, place.panel(), place.form);
        let n = x.len() / rows;
        let stored = &self.stored[place.start..place.start + place.size()];
        let mut sums = vec![0.0; columns.div_ceil(WIDE) * n * WIDE];
        let job = |(panels, sums): (&[f32], &mut [f32])| {
            for (panel, sums) in panels.chunks_exact(size).zip(sums.chunks_exact_mut(n * WIDE)) {
                Arch::new().dispatch(Panel { x, panel, rows, form, sums });
            }
        };
        match shares {
            true => stored.par_chunks(size).zip(sums.par_chunks_mut(n * WIDE)).for_each(job),
            false => job((stored, &mut sums)),
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

/// The sums of one panel, `[n, WIDE]`, which are zeros before.
struct Panel<'a> {
    x: &'a [f32],
    panel: &'a [f32],
    rows: usize,
    form: Form,
    sums: &'a mut [f32],
}

impl WithSimd for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, panel, rows, form, sums } = self;
        if form == Form::Full {
            return add(simd, x, rows, panel, true, sums);
        }
        let mut block = [0.0; BLOCK * WIDE];
        for (first, stored) in (0..rows).step_by(BLOCK).zip(panel.chunks(form.size(BLOCK))) {
            let block = &mut block[..BLOCK.min(rows - first) * WIDE];
            form.open_with(simd, stored, block);
            add(simd, &x[first..], rows, block, false, sums);
        }
    }
}

/// Adds the products with some rows of a panel; x begins at the number that belongs to the first of them, and has its next row
/// `stride` numbers later.
#[inline(always)]
fn add<S: Simd>(simd: S, x: &[f32], stride: usize, panel: &[f32], reads_ahead: bool, sums: &mut [f32]) {
    let (n, mut row) = (sums.len() / WIDE, 0);
    for step in [TALL, 4, 2, 1] {
        while n - row >= step {
            let (x, sums) = (&x[row * stride..], &mut sums[row * WIDE..]);
            let reads_ahead = reads_ahead && row == 0;
            match step {
                TALL => tile::<S, TALL>(simd, x, stride, panel, reads_ahead, sums),
                4 => tile::<S, 4>(simd, x, stride, panel, reads_ahead, sums),
                2 => tile::<S, 2>(simd, x, stride, panel, reads_ahead, sums),
                _ => tile::<S, 1>(simd, x, stride, panel, reads_ahead, sums),
            }
            row += step;
        }
    }
}

/// `M` rows of x with a panel, two vectors at a time, whose sums stay in registers; `reads_ahead` asks for the numbers that
/// come [`AHEAD`] of those that are read.
#[inline(always)]
fn tile<S: Simd, const M: usize>(
    simd: S,
    x: &[f32],
    stride: usize,
    panel: &[f32],
    reads_ahead: bool,
    sums: &mut [f32],
) {
    let (rows, pair) = (panel.len() / WIDE, 2 * S::F32_LANES);
    let x: [&[f32]; M] = std::array::from_fn(|m| &x[m * stride..m * stride + rows]);
    for first in (0..WIDE).step_by(pair) {
        let place = |m: usize| m * WIDE + first..m * WIDE + first + pair;
        let mut acc: [[S::f32s; 2]; M] = std::array::from_fn(|m| {
            let sums = S::as_simd_f32s(&sums[place(m)]).0;
            [sums[0], sums[1]]
        });
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
            S::as_mut_simd_f32s(&mut sums[place(m)]).0.copy_from_slice(&acc[m]);
        }
    }
}
