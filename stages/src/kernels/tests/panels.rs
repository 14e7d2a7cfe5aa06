//! Products for generation: the numbers of a plain product, and the same bytes in any company.

use super::assert_near;
use crate::kernels::cpu::forms::{Form, Source};
use crate::kernels::cpu::linear::{Matrix, product};
use crate::kernels::cpu::panels::Panels;
use crate::testing::{narrow, numbers, wide};

/// Rows and columns of the matrix; the last ones have more panels than one job of a thread, and rows that all threads put together.
const SHAPES: [[usize; 2]; 6] = [[1, 1], [7, 32], [20, 33], [64, 96], [24, 300], [3, 9000]];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn laid_out(matrix: &[f32], shape: [usize; 2], form: Form) -> Panels {
    let source = Source { values: matrix, shape, is_transposed: false };
    Panels::new(&[(shape, form)], |_, slot| slot.fill(&source))
}

#[test]
fn a_product_with_panels_is_the_product_with_the_matrix() {
    for shape @ [rows, columns] in SHAPES {
        let matrix = narrow(&numbers("matrix", rows * columns));
        let turned: Vec<f32> = (0..matrix.len()).map(|at| matrix[at % rows * columns + at / rows]).collect();
        for n in [1, 2, 3, 8, 13] {
            let x = narrow(&numbers("x", n * rows));
            let before = narrow(&numbers("before", n * columns));
            for adds in [false, true] {
                let mut wanted = before.clone();
                product(&mut wanted, Matrix::new(&x, rows), Matrix::new(&matrix, columns), adds);
                // Two matrices beside each other, so that one does not reach into the other.
                let panels = Panels::new(&[(shape, Form::Full); 2], |i, slot| match i {
                    0 => slot.fill(&Source { values: &matrix, shape, is_transposed: false }),
                    _ => slot.fill(&Source { values: &turned, shape, is_transposed: true }),
                });
                let made = [0, 1].map(|which| {
                    let mut out = before.clone();
                    panels.product(which, &x, &mut out, adds, false);
                    assert_near(&out, &wide(&wanted), 1e-6, &format!("{n} x {rows} x {columns}"));
                    bits(&out)
                });
                assert_eq!(made[0], made[1], "laid out from the matrix and from its transpose");
            }
        }
    }
}

#[test]
fn a_row_is_the_same_bytes_alone_and_among_others_shared_or_not() {
    for [rows, columns] in SHAPES {
        let matrix = narrow(&numbers("matrix", rows * columns));
        let panels = laid_out(&matrix, [rows, columns], Form::Full);
        let x = narrow(&numbers("x", 20 * rows));
        let run = |x: &[f32], shares: bool| {
            let mut out = vec![f32::NAN; x.len() / rows * columns];
            panels.product(0, x, &mut out, false, shares);
            bits(&out)
        };
        let alone: Vec<u32> = x.chunks(rows).flat_map(|row| run(row, false)).collect();
        for n in 1..=20 {
            for shares in [false, true] {
                let got = run(&x[..n * rows], shares);
                assert!(got == alone[..n * columns], "{n} rows of {rows} x {columns}, shared {shares}");
            }
        }
    }
}
