//! Muon's direction: the momentum of a matrix with all its singular values brought near 1.
//!
//! Purpose: five Newton-Schulz steps on one matrix.
//! Invariant: it runs on one thread, and depends on the matrix alone; it commutes with transposition.
//! Must not know: which matrix it is, learning rates.
//! Source: Jordan 2024 ("Muon: an optimizer for hidden layers in neural networks").

use super::adamw::squares;
use super::linear::{Matrix, product};
use crate::kernels::{NEWTON_SCHULZ, NEWTON_SCHULZ_EPS, NEWTON_SCHULZ_STEPS};

/// Orthogonalizes a row-major matrix of so many columns in its place.
pub fn orthogonalize(x: &mut Vec<f32>, columns: usize) {
    let rows = x.len() / columns;
    let small = rows.min(columns);
    let scale = (1.0 / (squares(x).sqrt() + NEWTON_SCHULZ_EPS)) as f32;
    x.iter_mut().for_each(|x| *x *= scale);
    let [a, b, c] = NEWTON_SCHULZ.map(|x| x as f32);
    let (mut gram, mut square) = (vec![0.0; small * small], vec![0.0; small * small]);
    let mut next = vec![0.0; x.len()];
    for _ in 0..NEWTON_SCHULZ_STEPS {
        let matrix = Matrix::new(x, columns);
        let (left, right) = if rows <= columns { (matrix, matrix.t()) } else { (matrix.t(), matrix) };
        product(&mut gram, left, right, false);
        product(&mut square, Matrix::new(&gram, small), Matrix::new(&gram, small), false);
        for (gram, square) in gram.iter_mut().zip(&square) {
            *gram = b * *gram + c * square;
        }
        next.iter_mut().zip(&*x).for_each(|(next, x)| *next = a * x);
        let gram = Matrix::new(&gram, small);
        let (left, right) = if rows <= columns { (gram, matrix) } else { (matrix, gram) };
        product(&mut next, left, right, true);
        std::mem::swap(x, &mut next);
    }
}
