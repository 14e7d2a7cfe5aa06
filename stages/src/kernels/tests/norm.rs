//! LayerNorm and RMSNorm on the CPU.

use burn::tensor::{Device, Tensor};

use super::{differences, dot};
use crate::kernels::cpu::linear::add_rows;
use crate::kernels::cpu::norm::{Norm, backward, forward};
use crate::kernels::decomposed;
use crate::testing::{assert_close, narrow, numbers, wide};

const EPS: f32 = 1e-5;

/// A norm of every row, with a bias.
fn by_hand(norm: Norm, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let n = weight.len() as f64;
    let mut out = Vec::new();
    for row in x.chunks(weight.len()) {
        let mean = if matches!(norm, Norm::Layer { .. }) { row.iter().sum::<f64>() / n } else { 0.0 };
        let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (square + f64::from(EPS)).sqrt();
        out.extend(row.iter().zip(weight).zip(bias).map(|((x, w), b)| (x - mean) * scale * w + b));
    }
    out
}

/// Both norms in several sizes, with x, weight, bias and the gradient of the output.
fn cases() -> Vec<(Norm, [Vec<f64>; 4])> {
    let mut out = Vec::new();
    for (n, width) in [(1, 2), (3, 5), (4, 16), (2, 37), (5, 64)] {
        for norm in [Norm::Layer { eps: EPS }, Norm::Rms { eps: EPS }] {
            let draw = |what: &str, n| wide(&narrow(&numbers(what, n)));
            let x = draw("x", n * width).iter().map(|x| 0.5 + 2.0 * x).collect::<Vec<_>>();
            let x = wide(&narrow(&x));
            out.push((norm, [x, draw("weight", width), draw("bias", width), draw("d_out", n * width)]));
        }
    }
    out
}

#[test]
fn both_norms_are_the_plain_formula_with_and_without_a_bias() {
    for (norm, [x, weight, bias, _]) in cases() {
        for has_bias in [false, true] {
            let bias = if has_bias { bias.clone() } else { vec![0.0; weight.len()] };
            let mut out = vec![f32::NAN; x.len()];
            let narrow_bias = narrow(&bias);
            let option = has_bias.then_some(&*narrow_bias);
            forward(norm, &narrow(&x), &narrow(&weight), option, &mut out);
            assert_close(&wide(&out), &by_hand(norm, &x, &weight, &bias), 1e-6, &format!("{norm:?}"));
        }
    }
}

#[test]
fn the_gradients_of_both_norms_are_those_of_finite_differences() {
    for (norm, [x, weight, bias, d_out]) in cases() {
        let what = format!("{norm:?}, {} by {}", x.len() / weight.len(), weight.len());
        let of_x = differences(&x, &|x| dot(&by_hand(norm, x, &weight, &bias), &d_out));
        let of_weight = differences(&weight, &|w| dot(&by_hand(norm, &x, w, &bias), &d_out));
        let of_bias = differences(&bias, &|b| dot(&by_hand(norm, &x, &weight, b), &d_out));
        // As the backward pass of a model makes them: added to what is there, the bias from d_out as it came.
        let before = numbers("before", x.len());
        let mut d_x = narrow(&before);
        let (mut d_weight, mut d_bias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let mut d_out = narrow(&d_out);
        add_rows(&mut d_bias, &d_out);
        backward(norm, &narrow(&x), &narrow(&weight), &mut d_out, &mut d_x);
        add_rows(&mut d_weight, &d_out);
        let of_x: Vec<f64> = of_x.iter().zip(&before).map(|(a, b)| a + b).collect();
        assert_close(&wide(&d_x), &of_x, 2e-6, &format!("{what}, x"));
        assert_close(&wide(&d_weight), &of_weight, 2e-6, &format!("{what}, weight"));
        assert_close(&wide(&d_bias), &of_bias, 2e-6, &format!("{what}, bias"));
    }
}

#[test]
fn a_row_that_is_all_alike_has_no_layer_norm_and_one_of_zeros_no_rms_norm() {
    let mut out = [f32::NAN; 3];
    forward(Norm::Layer { eps: EPS }, &[7.0; 3], &[2.0; 3], Some(&[1.0, 2.0, 3.0]), &mut out);
    assert_eq!(out, [1.0, 2.0, 3.0]);
    forward(Norm::Rms { eps: EPS }, &[0.0; 3], &[2.0; 3], None, &mut out);
    assert_eq!(out, [0.0; 3]);
}

#[test]
fn a_row_whose_square_overflows_is_not_hidden_behind_zeros() {
    let device = Device::flex();
    let x = || Tensor::<3>::from_floats([[[1e30, -1e30, 1.0], [1.0, 2.0, 3.0]]], &device);
    let ones = || Tensor::<1>::ones([3], &device);
    let layer = decomposed::layer_norm(x(), ones(), Tensor::zeros([3], &device), 1e-5);
    for out in [layer, decomposed::rms_norm(x(), ones(), 1e-5)] {
        let out: Vec<f32> = crate::kernels::host(out);
        assert!(out[..3].iter().all(|x| x.is_nan()) && out[3..].iter().all(|x| x.is_finite()), "{out:?}");
    }
}
