//! The operations of burn: fused or not, on every device, they are the plain formulas.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{differences, dot};
use crate::kernels::{attention, decomposed, gelu, layer_norm, rms_norm, token_logprobs};
use crate::testing::{assert_close, cpu, host, numbers, tokens};

/// Values and gradients of an operation on leaves that are flat lists of numbers.
struct Outcome {
    value: Vec<f64>,
    grads: Vec<Vec<f64>>,
}

type Op<'a> = &'a dyn Fn(&[Tensor<1>]) -> Tensor<1>;

/// Runs `op`; the gradients are those of a random weighting of its results.
fn outcome(device: &Device, dtype: DType, inputs: &[Vec<f64>], op: Op) -> Outcome {
    let device = device.clone().autodiff();
    let leaf = |values: &Vec<f64>| flat(values, &device, dtype).require_grad();
    let leaves: Vec<Tensor<1>> = inputs.iter().map(leaf).collect();
    let value = op(&leaves);
    let weights = flat(&numbers("weights", value.dims()[0]), &device, dtype);
    let gradients = (value.clone() * weights).sum().backward();
    let grads = leaves.iter().map(|l| host(l.grad(&gradients).unwrap())).collect();
    Outcome { value: host(value), grads }
}

fn flat(values: &[f64], device: &Device, dtype: DType) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, dtype))
}

#[track_caller]
fn assert_same(got: &Outcome, wanted: &Outcome, tolerance: f64, what: &str) {
    assert_close(&got.value, &wanted.value, tolerance, &format!("{what}, value"));
    for (i, (got, wanted)) in got.grads.iter().zip(&wanted.grads).enumerate() {
        assert_close(got, wanted, tolerance, &format!("{what}, gradient of input {i}"));
    }
}

/// Holds `fused` on the stages' device to `plain` on Flex in f64, and `plain` to itself there.
#[track_caller]
fn hold(inputs: &[Vec<f64>], fused: Op, plain: Op, what: &str) {
    let wanted = outcome(&Device::flex(), DType::F64, inputs, plain);
    assert!(wanted.value.iter().all(|x| x.is_finite()), "{what}");
    assert_same(&outcome(&cpu(), DType::F64, inputs, plain), &wanted, 1e-10, &format!("{what}, decomposed"));
    assert_same(&outcome(&cpu(), DType::F64, inputs, fused), &wanted, 1e-10, &format!("{what}, f64"));
    assert_same(&outcome(&cpu(), DType::F32, inputs, fused), &wanted, 1e-5, &format!("{what}, f32"));
    assert_same(
        &outcome(&Device::flex(), DType::F32, inputs, plain),
        &wanted,
        1e-5,
        &format!("{what}, Flex f32"),
    );
}

#[test]
fn the_log_probabilities_of_tokens_are_those_of_log_softmax() {
    for (n, vocab) in [(1, 1), (1, 7), (5, 2), (33, 101)] {
        let targets = tokens("targets", n, vocab);
        let logits: Vec<f64> = numbers("logits", n * vocab).iter().map(|x| x * 4.0).collect();
        let run = |leaves: &[Tensor<1>], op: fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
            let data = TensorData::new(targets.iter().map(|&t| i64::from(t)).collect::<Vec<_>>(), [n]);
            op(leaves[0].clone().reshape([n, vocab]), Tensor::from_data(data, &leaves[0].device()))
        };
        hold(
            &[logits],
            &|l| run(l, token_logprobs),
            &|l| run(l, decomposed::token_logprobs),
            &format!("{n} tokens of {vocab}"),
        );
    }
}

#[test]
fn huge_logits_give_finite_log_probabilities() {
    let logits = Tensor::<2>::from_data([[3e4f32, -3e4, 0.0]], &cpu());
    let got = host(token_logprobs(logits.clone(), Tensor::from_data([0i64], &cpu())));
    assert_close(&got, &[0.0], 1e-6, "the likeliest");
    let got = host(token_logprobs(logits, Tensor::from_data([1i64], &cpu())));
    assert_close(&got, &[-6e4], 1e-6, "the least likely");
}

/// Causal attention of one head, `[time, head]` each.
fn attention_by_hand(q: &[f64], k: &[f64], v: &[f64], head: usize) -> Vec<f64> {
    let rows = |x| <[f64]>::chunks(x, head);
    let mut out = Vec::new();
    for (i, q) in rows(q).enumerate() {
        let score = |k: &[f64]| dot(q, k) / (head as f64).sqrt();
        let weights: Vec<f64> = rows(k).take(i + 1).map(|k| score(k).exp()).collect();
        let total: f64 = weights.iter().sum();
        for c in 0..head {
            out.push(rows(v).zip(&weights).map(|(v, w)| v[c] * w / total).sum());
        }
    }
    out
}

#[test]
fn causal_attention_is_softmax_of_scaled_scores_up_to_the_query() {
    for [b, heads, t, d] in [[1, 1, 1, 1], [1, 1, 1, 8], [2, 3, 5, 7], [1, 2, 33, 16], [3, 1, 70, 4]] {
        let n = b * heads * t * d;
        let inputs = ["q", "k", "v"].map(|name| numbers(name, n));
        let run = |leaves: &[Tensor<1>]| {
            let [q, k, v] = [0, 1, 2].map(|i| leaves[i].clone().reshape([b, heads, t, d]));
            attention(q, k, v, None, true).reshape([n])
        };
        let what = format!("{b} x {heads} x {t} x {d}");
        hold(&inputs, &run, &run, &what);
        let each = (0..b * heads).map(|i| i * t * d..(i + 1) * t * d);
        let wanted = each.flat_map(|at| {
            let [q, k, v] = inputs.each_ref().map(|x| &x[at.clone()]);
            attention_by_hand(q, k, v, d)
        });
        let got = outcome(&Device::flex(), DType::F64, &inputs, &run).value;
        assert_close(&got, &wanted.collect::<Vec<_>>(), 1e-12, &what);
    }
}

#[test]
fn a_mask_that_hides_what_is_later_is_causal_attention() {
    let shape = [2, 2, 6, 4];
    let n = shape.iter().product();
    let [q, k, v] = ["q", "k", "v"].map(|name| flat(&numbers(name, n), &cpu(), DType::F32).reshape(shape));
    let later = |i: usize| if i % 6 > i / 6 % 6 { -1e30f32 } else { 0.0 };
    let mask = TensorData::new((0..2 * 6 * 6).map(later).collect::<Vec<_>>(), [2, 1, 6, 6]);
    let mask = Tensor::<4>::from_data(mask, &cpu());
    let masked = attention(q.clone(), k.clone(), v.clone(), Some(mask), false);
    assert_close(&host(masked), &host(attention(q, k, v, None, true)), 1e-6, "masked");
}

#[test]
fn layer_norm_is_the_plain_formula() {
    for [b, t, d] in [[1, 1, 1], [1, 1, 9], [2, 3, 5], [4, 17, 64]] {
        let inputs = [numbers("x", b * t * d), numbers("weight", d), numbers("bias", d)];
        let run = |leaves: &[Tensor<1>], op: fn(Tensor<3>, Tensor<1>, Tensor<1>, f64) -> Tensor<3>| {
            let x = leaves[0].clone().reshape([b, t, d]);
            op(x, leaves[1].clone(), leaves[2].clone(), 1e-5).reshape([b * t * d])
        };
        let what = format!("{b} x {t} x {d}");
        hold(&inputs, &|l| run(l, layer_norm), &|l| run(l, decomposed::layer_norm), &what);
    }
}

#[test]
fn rms_norm_of_3_and_4_is_as_computed_by_hand() {
    let x = flat(&[3.0, 4.0], &cpu(), DType::F64).reshape([1, 1, 2]);
    let root = 12.5f64.sqrt();
    let got = host(rms_norm(x, flat(&[1.0, 2.0], &cpu(), DType::F64), 0.0));
    assert_close(&got, &[3.0 / root, 8.0 / root], 1e-12, "rms norm");
}

#[test]
fn gelu_and_its_gradient_are_the_tanh_form_written_out() {
    let xs: Vec<f64> = (-60..=60).map(|i| f64::from(i) / 10.0).collect();
    let c = (2.0 / std::f64::consts::PI).sqrt();
    let tanh = |x: f64| (c * (x + 0.044715 * x.powi(3))).tanh();
    let slope = |x: f64| {
        let t = tanh(x);
        0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)
    };
    let weights = numbers("weights", xs.len());
    let wanted = Outcome {
        value: xs.iter().map(|&x| 0.5 * x * (1.0 + tanh(x))).collect(),
        grads: vec![xs.iter().zip(&weights).map(|(&x, w)| slope(x) * w).collect()],
    };
    let n = xs.len();
    let run = |l: &[Tensor<1>]| gelu(l[0].clone().reshape([1, n, 1])).reshape([n]);
    for (device, dtype, tolerance) in
        [(cpu(), DType::F64, 1e-12), (cpu(), DType::F32, 1e-6), (Device::flex(), DType::F64, 1e-12)]
    {
        assert_same(
            &outcome(&device, dtype, std::slice::from_ref(&xs), &run),
            &wanted,
            tolerance,
            &format!("{device:?}"),
        );
    }
}

#[test]
fn rms_norm_and_its_gradient_are_those_of_finite_differences() {
    let [b, t, d] = [2, 3, 5];
    let inputs = [numbers("x", b * t * d), numbers("weight", d)];
    let by_hand = |x: &[f64], weight: &[f64]| -> Vec<f64> {
        let root = |row: &[f64]| (dot(row, row) / d as f64 + 1e-5).sqrt();
        x.chunks(d).flat_map(|row| row.iter().zip(weight).map(|(x, w)| x / root(row) * w)).collect()
    };
    let run =
        |l: &[Tensor<1>]| rms_norm(l[0].clone().reshape([b, t, d]), l[1].clone(), 1e-5).reshape([b * t * d]);
    let weights = numbers("weights", b * t * d);
    let wanted = Outcome {
        value: by_hand(&inputs[0], &inputs[1]),
        grads: vec![
            differences(&inputs[0], &|x| dot(&by_hand(x, &inputs[1]), &weights)),
            differences(&inputs[1], &|w| dot(&by_hand(&inputs[0], w), &weights)),
        ],
    };
    assert_same(&outcome(&Device::flex(), DType::F64, &inputs, &run), &wanted, 1e-8, "rms norm");
}
