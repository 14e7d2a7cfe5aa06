//! Linear maps on the CPU: products, biases, gradients.

use super::assert_near;
use crate::kernels::cpu::linear::{
    Linear, Matrix, add, add_rows, add_to_rows, backward_input, backward_weight, fill_rows, forward, product,
};
use crate::testing::{narrow, numbers, wide};

/// Rows, inner and outer width.
const SHAPES: [[usize; 3]; 6] = [[1, 1, 1], [1, 7, 3], [5, 2, 16], [8, 33, 65], [33, 70, 17], [130, 20, 40]];

/// `a b`, shapes `[m, k]` and `[k, n]`.
fn by_hand(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let element = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
    (0..m * n).map(|at| element(at / n, at % n)).collect()
}

fn transposed(a: &[f64], columns: usize) -> Vec<f64> {
    let rows = a.len() / columns;
    (0..a.len()).map(|at| a[at % rows * columns + at / rows]).collect()
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Numbers that f32 can hold.
fn exact(what: &str, n: usize) -> Vec<f64> {
    wide(&narrow(&numbers(what, n)))
}

#[test]
fn a_linear_map_is_the_product_with_its_weight_and_its_bias_on_every_row() {
    for [n, rows, columns] in SHAPES {
        let [x, weight, bias] =
            [("x", n * rows), ("weight", rows * columns), ("bias", columns)].map(|(w, n)| exact(w, n));
        let before = exact("before", n * columns);
        let plain = by_hand(&x, &weight, [n, rows, columns]);
        for (has_bias, adds) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut wanted = plain.clone();
            if has_bias {
                wanted = plus(&wanted, &bias.repeat(n));
            }
            if adds {
                wanted = plus(&wanted, &before);
            }
            let (weight, bias) = (narrow(&weight), narrow(&bias));
            let map = Linear { weight: &*weight, bias: has_bias.then_some(&*bias), columns };
            let mut out = narrow(&before);
            forward(&map, &narrow(&x), &mut out, adds);
            let what = format!("{n} x {rows} x {columns}, bias {has_bias}, adds {adds}");
            assert_near(&out, &wanted, 1e-6, &what);
        }
    }
}

#[test]
fn the_gradients_of_a_linear_map_are_products_with_the_transposes() {
    for [n, rows, columns] in SHAPES {
        let [x, weight, d_out] =
            [("x", n * rows), ("weight", rows * columns), ("d_out", n * columns)].map(|(w, n)| exact(w, n));
        let what = format!("{n} x {rows} x {columns}");
        let narrow_weight = narrow(&weight);
        let map = Linear { weight: &*narrow_weight, bias: None, columns };
        let mut d_x = vec![f32::NAN; n * rows];
        backward_input(&map, &narrow(&d_out), &mut d_x);
        let wanted = by_hand(&d_out, &transposed(&weight, columns), [n, columns, rows]);
        assert_near(&d_x, &wanted, 1e-6, &format!("{what}, d_x"));

        let before = exact("before", rows * columns);
        let wanted = plus(&by_hand(&transposed(&x, rows), &d_out, [rows, n, columns]), &before);
        let wanted_bias = plus(&by_hand(&vec![1.0; n], &d_out, [1, n, columns]), &before[..columns]);
        for has_bias in [false, true] {
            let (mut d_weight, mut d_bias) = (narrow(&before), narrow(&before[..columns]));
            let bias = has_bias.then_some(&mut *d_bias);
            let mut map = Linear { weight: &mut *d_weight, bias, columns };
            backward_weight(&mut map, &narrow(&x), &narrow(&d_out));
            assert_near(&d_weight, &wanted, 1e-6, &format!("{what}, d_weight"));
            let wanted = if has_bias { &wanted_bias } else { &before[..columns] };
            assert_near(&d_bias, wanted, 1e-6, &format!("{what}, d_bias"));
        }
    }
}

#[test]
fn a_product_takes_either_matrix_transposed() {
    for [m, k, n] in SHAPES {
        let (a, b) = (exact("a", m * k), exact("b", k * n));
        let wanted = by_hand(&a, &b, [m, k, n]);
        let (plain_a, plain_b) = (narrow(&a), narrow(&b));
        let (turned_a, turned_b) = (narrow(&transposed(&a, k)), narrow(&transposed(&b, n)));
        let forms_a = [Matrix::new(&plain_a, k), Matrix::new(&turned_a, m).t()];
        let forms_b = [Matrix::new(&plain_b, n), Matrix::new(&turned_b, k).t()];
        for (a, b) in forms_a.into_iter().flat_map(|a| forms_b.map(|b| (a, b))) {
            let mut out = vec![f32::NAN; m * n];
            product(&mut out, a, b, false);
            assert_near(&out, &wanted, 1e-6, &format!("{m} x {k} x {n}"));
        }
    }
}

#[test]
fn a_product_over_nothing_is_zero_and_adds_nothing() {
    let (a, b) = (Matrix::new(&[], 3).t(), Matrix::new(&[], 2));
    let mut out = vec![1.0; 6];
    product(&mut out, a, b, true);
    assert_eq!(out, [1.0; 6]);
    product(&mut out, a, b, false);
    assert_eq!(out, [0.0; 6]);
    let (mut none, weight) = ([0.0; 0], [1.0; 6]);
    product(&mut none, Matrix::new(&[], 3), Matrix::new(&weight, 2), false);
}

#[test]
#[should_panic(expected = "shapes of a product")]
fn a_product_of_shapes_that_do_not_fit_is_refused() {
    product(&mut [0.0; 4], Matrix::new(&[0.0; 6], 3), Matrix::new(&[0.0; 4], 2), false);
}

#[test]
fn sums_with_rows_are_those_written_out() {
    for (n, width) in [(1, 1), (3, 5), (4, 64), (7, 130)] {
        let (rows, bias) = (exact("rows", n * width), exact("bias", width));
        let mut out = narrow(&rows);
        add_to_rows(&mut out, &narrow(&bias));
        assert_near(&out, &plus(&rows, &bias.repeat(n)), 1e-6, "a bias on every row");
        fill_rows(&mut out, &narrow(&bias));
        assert_eq!(wide(&out), bias.repeat(n));
        let mut sums = narrow(&bias);
        add_rows(&mut sums, &narrow(&rows));
        let wanted = plus(&by_hand(&vec![1.0; n], &rows, [1, n, width]), &bias);
        assert_near(&sums, &wanted, 1e-6, "the sum of rows");
        let mut sum = narrow(&bias);
        add(&mut sum, &narrow(&rows[..width]));
        assert_near(&sum, &plus(&bias, &rows[..width]), 1e-6, "a sum");
    }
}
