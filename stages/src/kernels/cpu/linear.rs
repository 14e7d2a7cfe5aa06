//! Products of matrices, and what a linear map needs beside them.
//!
//! Purpose: `x W + b` and its gradients, on the `gemm` crate, whose kernels for AVX-512 and AVX2 run at the peak of a core.
//! Invariant: each call runs on one thread.
//! Must not know: what the matrices are.

use super::simd::LANES;

/// A matrix within a slice, or its transpose.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// The distance of two rows, and of two columns.
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// The row-major matrix `[rows, columns]` that fills a slice.
    pub fn new(data: &'a [f32], columns: usize) -> Self {
        debug_assert!(data.len().is_multiple_of(columns));
        Self { data, rows: data.len() / columns, columns, strides: [columns, 1] }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        let [row, column] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }
}

/// `out = a b`, or `out += a b`. Shapes: a `[m, k]`, b `[k, n]`, out `[m, n]`, row-major.
pub fn product(out: &mut [f32], a: Matrix, b: Matrix, adds: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(b.rows == k && out.len() == m * n, "shapes of a product");
    assert!(a.data.len() == m * k && b.data.len() == k * n);
    if out.is_empty() {
        return;
    }
    let strides = |matrix: &Matrix| matrix.strides.map(|s| s as isize);
    let ([a_row, a_column], [b_row, b_column]) = (strides(&a), strides(&b));
    // SAFETY: by the assertions every element that the shapes and strides reach lies within its slice, and `out` is
    // borrowed mutably.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            adds,
            a.data.as_ptr(),
            a_column,
            a_row,
            b.data.as_ptr(),
            b_column,
            b_row,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The weight `[in, out]` of a linear map and its bias `[out]`, if it has one; or the places of their gradients.
pub struct Linear<W> {
    /// `[in, out]`.
    pub weight: W,
    /// `[out]`.
    pub bias: Option<W>,
    /// `out`.
    pub columns: usize,
}

/// `out = x W + b`, or `out += x W + b`. Shapes: x `[n, in]`, out `[n, out]`.
pub fn forward(map: &Linear<&[f32]>, x: &[f32], out: &mut [f32], adds: bool) {
    let rows = map.weight.len() / map.columns;
    if let Some(bias) = map.bias {
        if adds { add_to_rows(out, bias) } else { fill_rows(out, bias) }
    }
    product(out, Matrix::new(x, rows), Matrix::new(map.weight, map.columns), adds || map.bias.is_some());
}

/// `d_x = d_out W^T`. Shapes: d_out `[n, out]`, d_x `[n, in]`.
pub fn backward_input(map: &Linear<&[f32]>, d_out: &[f32], d_x: &mut [f32]) {
    product(d_x, Matrix::new(d_out, map.columns), Matrix::new(map.weight, map.columns).t(), false);
}

/// `d_W += x^T d_out`, `d_b += sum over rows of d_out`.
pub fn backward_weight(map: &mut Linear<&mut [f32]>, x: &[f32], d_out: &[f32]) {
    let rows = map.weight.len() / map.columns;
    product(map.weight, Matrix::new(x, rows).t(), Matrix::new(d_out, map.columns), true);
    if let Some(bias) = &mut map.bias {
        add_rows(bias, d_out);
    }
}

/// Makes every row `bias`.
pub fn fill_rows(out: &mut [f32], bias: &[f32]) {
    out.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
}

simd! {
    /// Adds `bias` to every row.
    pub fn add_to_rows(out: &mut [f32], bias: &[f32]) {
        for row in out.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }

    /// Adds every row of `rows` to `into`, one after the other.
    pub fn add_rows(into: &mut [f32], rows: &[f32]) {
        let width = into.len();
        for start in (0..width).step_by(4 * LANES) {
            let end = (start + 4 * LANES).min(width);
            let mut sums = [0f32; 4 * LANES];
            for row in rows.chunks_exact(width) {
                for (sum, x) in sums.iter_mut().zip(&row[start..end]) {
                    *sum += x;
                }
            }
            for (slot, sum) in into[start..end].iter_mut().zip(sums) {
                *slot += sum;
            }
        }
    }

    /// `into += from`.
    pub fn add(into: &mut [f32], from: &[f32]) {
        for (x, y) in into.iter_mut().zip(from) {
            *x += y;
        }
    }
}
