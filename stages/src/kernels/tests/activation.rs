//! Activations on the CPU: values and slopes, plain and gated.

use super::differences;
use crate::kernels::cpu::Activation;
use crate::kernels::cpu::activation::{backward, backward_gated, forward, forward_gated};
use crate::testing::{assert_close, narrow, numbers, wide};

const ALL: [Activation; 4] = [Activation::Gelu, Activation::GeluNew, Activation::Relu, Activation::Silu];

/// The error function, by a series whose terms are all positive.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn by_hand(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluNew => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

fn slope(activation: Activation, x: f64) -> f64 {
    differences(&[x], &|x| by_hand(activation, x[0]))[0]
}

/// From -8 to 8, without 0, where `relu` has no slope; a number that fills no vector.
fn points() -> Vec<f64> {
    let xs = (-803..=803).filter(|i| i % 2 != 0).map(|i| f64::from(i) / 100.0);
    wide(&narrow(&xs.collect::<Vec<_>>()))
}

#[test]
fn every_activation_and_its_slope_are_the_published_formula() {
    let xs = points();
    for activation in ALL {
        let mut out = vec![f32::NAN; xs.len()];
        forward(activation, &narrow(&xs), &mut out);
        let grads = numbers("grads", xs.len());
        let mut d_x = narrow(&grads);
        backward(activation, &narrow(&xs), &mut d_x);
        for (i, &x) in xs.iter().enumerate() {
            let (got, wanted) = (f64::from(out[i]), by_hand(activation, x));
            assert!((got - wanted).abs() < 5e-7 * x.abs().max(1.0), "{activation:?} of {x}: {got} {wanted}");
            let (got, wanted) = (f64::from(d_x[i]), grads[i] * slope(activation, x));
            let off = (got - wanted).abs() / grads[i].abs().max(1.0);
            assert!(off < 3e-6, "{activation:?}, slope at {x}: {got} {wanted}");
        }
    }
}

#[test]
fn far_from_zero_an_activation_is_the_identity_or_nothing() {
    for activation in ALL {
        let xs = [100.0, 1e4, 1e9, -100.0, -1e4, -1e9];
        let mut out = [f32::NAN; 6];
        forward(activation, &xs, &mut out);
        let mut slopes = [1.0; 6];
        backward(activation, &xs, &mut slopes);
        assert_close(&wide(&slopes), &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], 1e-6, &format!("{activation:?}"));
        assert_eq!(out[..3], xs[..3], "{activation:?}");
        assert!(out[3..].iter().all(|x| x.abs() < 1e-20), "{activation:?}: {out:?}");
    }
}

#[test]
fn at_zero_the_slope_of_relu_is_nothing_and_of_the_others_one_half() {
    for activation in ALL {
        let (mut out, mut slope) = ([f32::NAN], [1.0]);
        forward(activation, &[0.0], &mut out);
        backward(activation, &[0.0], &mut slope);
        let wanted = if activation == Activation::Relu { 0.0 } else { 0.5 };
        assert_close(&wide(&[out[0], slope[0]]), &[0.0, wanted], 1e-6, &format!("{activation:?}"));
    }
}

#[test]
fn a_gated_form_multiplies_by_the_second_half_of_each_row() {
    for (n, width) in [(1, 1), (3, 5), (2, 40)] {
        let x = wide(&narrow(&numbers("gate and up", n * 2 * width)));
        let d_out = wide(&narrow(&numbers("d_out", n * width)));
        for activation in ALL {
            let all = |x: &[f64]| -> Vec<f64> {
                let rows = x.chunks(2 * width);
                rows.flat_map(|row| (0..width).map(|i| by_hand(activation, row[i]) * row[width + i]))
                    .collect()
            };
            let mut out = vec![f32::NAN; n * width];
            forward_gated(activation, &narrow(&x), width, &mut out);
            assert_close(&wide(&out), &all(&x), 1e-6, &format!("{activation:?}"));
            let mut d_x = vec![f32::NAN; x.len()];
            backward_gated(activation, &narrow(&x), width, &narrow(&d_out), &mut d_x);
            let wanted = differences(&x, &|x| super::dot(&all(x), &d_out));
            assert_close(&wide(&d_x), &wanted, 2e-6, &format!("{activation:?}, gradient"));
        }
    }
}

#[test]
fn activations_have_the_names_of_published_configurations() {
    let names = ["\"gelu\"", "\"gelu_new\"", "\"relu\"", "\"silu\""];
    assert_eq!(ALL.map(|activation| serde_json::to_string(&activation).unwrap()), names);
}
