//! Low-rank changes of linear maps, and their gradients.
//!
//! Purpose: `out += scale x A^T B^T` on some columns, where the map itself is frozen.
//! Invariant: a row's result depends on that row alone.
//! Must not know: which map is changed.
//! Source: Hu 2022.

use crate::kernels::cpu::linear::{Matrix, product};
use crate::model::lora::LowRank;

/// Changes and the parameters that they read.
#[derive(Clone, Copy)]
pub struct Changes<'a> {
    /// The changes of one map.
    pub parts: &'a [LowRank],
    /// All parameters of the adapter.
    pub weights: &'a [f32],
    /// Rank of the matrices.
    pub rank: usize,
    /// What the changes are multiplied by.
    pub scale: f32,
}

impl Changes<'_> {
    fn a(&self, part: &LowRank) -> (&[f32], usize) {
        let a = &self.weights[part.a.clone()];
        (a, a.len() / self.rank)
    }

    fn b(&self, part: &LowRank) -> &[f32] {
        &self.weights[part.b.clone()]
    }

    /// `x A^T`, `[n, rank]`.
    fn down(&self, part: &LowRank, x: &[f32]) -> Vec<f32> {
        let (a, inner) = self.a(part);
        let mut out = vec![0.0; x.len() / inner * self.rank];
        product(&mut out, Matrix::new(x, inner), Matrix::new(a, inner).t(), false);
        out
    }

    /// Changes what a map made of x. Shapes: x `[n, in]`, out `[n, columns]`.
    pub fn forward(&self, x: &[f32], out: &mut [f32], columns: usize) {
        for part in self.parts {
            let (down, width) = (self.down(part, x), part.columns.len());
            let mut change = vec![0.0; down.len() / self.rank * width];
            product(
                &mut change,
                Matrix::new(&down, self.rank),
                Matrix::new(self.b(part), self.rank).t(),
                false,
            );
            for (row, change) in out.chunks_exact_mut(columns).zip(change.chunks_exact(width)) {
                let scaled = row[part.columns.clone()].iter_mut().zip(change);
                scaled.for_each(|(x, change)| *x += self.scale * change);
            }
        }
    }

    /// The scaled gradient of a change, `[n, out]`, and that of what goes into B, `[n, rank]`.
    fn d_change(&self, part: &LowRank, d_out: &[f32], columns: usize) -> [Vec<f32>; 2] {
        let mut d_change = Vec::with_capacity(d_out.len() / columns * part.columns.len());
        for row in d_out.chunks_exact(columns) {
            d_change.extend(row[part.columns.clone()].iter().map(|x| self.scale * x));
        }
        let width = part.columns.len();
        let mut d_down = vec![0.0; d_change.len() / width * self.rank];
        product(&mut d_down, Matrix::new(&d_change, width), Matrix::new(self.b(part), self.rank), false);
        [d_change, d_down]
    }

    /// Adds to the gradient of x what comes through the changes. Shapes: d_out `[n, columns]`, d_x `[n, in]`.
    pub fn backward_input(&self, d_out: &[f32], d_x: &mut [f32], columns: usize) {
        for part in self.parts {
            let [_, d_down] = self.d_change(part, d_out, columns);
            let (a, inner) = self.a(part);
            product(d_x, Matrix::new(&d_down, self.rank), Matrix::new(a, inner), true);
        }
    }

    /// Adds the gradients of A and B to those of a region of the adapter that begins at `start`.
    pub fn backward_weight(&self, x: &[f32], d_out: &[f32], columns: usize, grads: &mut [f32], start: usize) {
        for part in self.parts {
            let [d_change, d_down] = self.d_change(part, d_out, columns);
            let ((_, inner), down) = (self.a(part), self.down(part, x));
            let place = |range: &std::ops::Range<usize>| range.start - start..range.end - start;
            let d_a = &mut grads[place(&part.a)];
            product(d_a, Matrix::new(&d_down, self.rank).t(), Matrix::new(x, inner), true);
            let (d_b, width) = (&mut grads[place(&part.b)], part.columns.len());
            product(d_b, Matrix::new(&d_change, width).t(), Matrix::new(&down, self.rank), true);
        }
    }
}
