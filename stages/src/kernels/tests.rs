//! Holds every kernel to its plainest statement in f64: values, gradients, shapes, memory.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{AdamWRule, adamw, attention, decomposed, gelu, layer_norm, rms_norm, token_logprobs};
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
    hold_within(1e-10, inputs, fused, plain, what);
}

/// As [`hold`], with another tolerance for `fused` in f64.
#[track_caller]
fn hold_within(tolerance: f64, inputs: &[Vec<f64>], fused: Op, plain: Op, what: &str) {
    let wanted = outcome(&Device::flex(), DType::F64, inputs, plain);
    assert!(wanted.value.iter().all(|x| x.is_finite()), "{what}");
    assert_same(&outcome(&cpu(), DType::F64, inputs, plain), &wanted, 1e-10, &format!("{what}, decomposed"));
    assert_same(&outcome(&cpu(), DType::F64, inputs, fused), &wanted, tolerance, &format!("{what}, f64"));
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

/// libtorch's fused attention keeps the scale in f32, even in f64.
const F32_SCALE: f64 = 1e-6;

/// How queries, keys and values lie in memory.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// `[batch, heads, time, head]` as it stands.
    Plain,
    /// As the model makes it: `[batch, time, heads, head]` seen with two dims swapped.
    Swapped,
    /// The last dim is not the one that lies together.
    Transposed,
}

fn laid_out(leaf: &Tensor<1>, [b, h, t, d]: [usize; 4], layout: Layout) -> Tensor<4> {
    match layout {
        Layout::Plain => leaf.clone().reshape([b, h, t, d]),
        Layout::Swapped => leaf.clone().reshape([b, t, h, d]).swap_dims(1, 2),
        Layout::Transposed => leaf.clone().reshape([b, h, d, t]).swap_dims(2, 3),
    }
}

#[test]
fn causal_attention_is_softmax_of_scaled_scores_up_to_the_query() {
    for shape in [[1, 1, 1, 1], [1, 1, 1, 8], [2, 3, 5, 7], [1, 2, 33, 16], [3, 1, 130, 4]] {
        for layout in [Layout::Plain, Layout::Swapped, Layout::Transposed] {
            let n = shape.iter().product();
            let inputs = ["q", "k", "v"].map(|name| numbers(name, n));
            let run = |leaves: &[Tensor<1>], fused: bool| {
                let [q, k, v] = [0, 1, 2].map(|i| laid_out(&leaves[i], shape, layout));
                let op = if fused { attention } else { decomposed::attention };
                // Flattened in the layout's own order, so that gradients come in it too.
                let out = op(q, k, v, None, true);
                match layout {
                    Layout::Plain => out.reshape([n]),
                    Layout::Swapped => out.swap_dims(1, 2).reshape([n]),
                    Layout::Transposed => out.swap_dims(2, 3).reshape([n]),
                }
            };
            let what = format!("{shape:?} {layout:?}");
            hold_within(F32_SCALE, &inputs, &|l| run(l, true), &|l| run(l, false), &what);
        }
    }
}

#[test]
fn a_kv_head_that_serves_a_group_gets_the_sum_of_the_groups_gradients() {
    let [b, heads, groups, t, d] = [2, 2, 3, 5, 4];
    let inputs = [
        numbers("q", b * heads * groups * t * d),
        numbers("k", b * heads * t * d),
        numbers("v", b * heads * t * d),
    ];
    let run = |leaves: &[Tensor<1>], fused: bool| {
        let shared = |leaf: &Tensor<1>| {
            let x = leaf.clone().reshape([b, heads, 1, t, d]);
            x.expand([b, heads, groups, t, d]).reshape([b, heads * groups, t, d])
        };
        let q = leaves[0].clone().reshape([b, heads * groups, t, d]);
        let op = if fused { attention } else { decomposed::attention };
        op(q, shared(&leaves[1]), shared(&leaves[2]), None, true).reshape([b * heads * groups * t * d])
    };
    hold_within(F32_SCALE, &inputs, &|l| run(l, true), &|l| run(l, false), "grouped");
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

const RULE: AdamWRule = AdamWRule {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    decay: 0.1,
    step: 1,
    grad_scale: 1.0,
};

/// AdamW as it is written in the paper, number by number.
fn adamw_by_hand(param: &mut [f64], grads: &[Vec<f64>], rule: &AdamWRule) {
    let (mut m, mut v) = (vec![0.0; param.len()], vec![0.0; param.len()]);
    for (t, grad) in grads.iter().enumerate() {
        for i in 0..param.len() {
            let g = grad[i] * rule.grad_scale;
            m[i] = rule.beta1 * m[i] + (1.0 - rule.beta1) * g;
            v[i] = rule.beta2 * v[i] + (1.0 - rule.beta2) * g * g;
            let m_hat = m[i] / (1.0 - rule.beta1.powi(t as i32 + 1));
            let v_hat = v[i] / (1.0 - rule.beta2.powi(t as i32 + 1));
            param[i] -= rule.learning_rate * (m_hat / (v_hat.sqrt() + rule.eps) + rule.decay * param[i]);
        }
    }
}

#[test]
fn three_steps_of_adamw_are_those_of_the_paper() {
    let (rows, columns) = (3, 5);
    let n = rows * columns;
    let grads: Vec<Vec<f64>> = (0..3).map(|i| numbers(&format!("grad {i}"), n)).collect();
    for rule in [RULE, AdamWRule { decay: 0.0, eps: 1e-3, ..RULE }, AdamWRule { grad_scale: 0.25, ..RULE }] {
        let mut wanted = numbers("param", n);
        adamw_by_hand(&mut wanted, &grads, &rule);
        for (device, dtype, tolerance) in [
            (cpu(), DType::F64, 1e-12),
            (cpu(), DType::F32, 1e-6),
            (Device::flex(), DType::F64, 1e-12),
            (Device::flex(), DType::F32, 1e-6),
        ] {
            let tensor = |xs: &[f64]| flat(xs, &device, dtype).reshape([rows, columns]);
            let mut param = tensor(&numbers("param", n));
            let mut moments = (param.zeros_like(), param.zeros_like());
            for (t, grad) in grads.iter().enumerate() {
                let rule = AdamWRule { step: t as u64 + 1, ..rule };
                (param, moments) = adamw::<2>(param, tensor(grad), moments, &rule);
            }
            assert_close(&host(param), &wanted, tolerance, &format!("{device:?} {dtype:?} {rule:?}"));
        }
    }
}

#[test]
fn adamw_in_place_never_changes_what_somebody_else_holds() {
    type Holder = fn(&Tensor<2>) -> Tensor<2>;
    let holders: [(&str, Holder); 6] = [
        ("a clone", |p| p.clone()),
        ("a view of other shape", |p| p.clone().reshape([6, 2])),
        ("its transpose", |p| p.clone().transpose()),
        ("a part", |p| p.clone().narrow(0, 1, 1)),
        ("a part of its transpose", |p| p.clone().swap_dims(0, 1).narrow(0, 1, 2)),
        ("a clone inside autodiff", |p| Tensor::from_inner(p.clone()).require_grad()),
    ];
    for (what, hold) in holders {
        let tensor = |name: &str| flat(&numbers(name, 12), &cpu(), DType::F32).reshape([3, 4]);
        let (param, first, second) = (tensor("param"), tensor("first"), tensor("second").abs());
        let held = [hold(&param), hold(&first), hold(&second)];
        let before = held.clone().map(host);
        let original = host(param.clone());
        let (after, _) = adamw(param, tensor("grad"), (first, second), &RULE);
        assert_ne!(host(after), original, "{what}");
        assert_eq!(held.map(host), before, "{what}");
    }
}

#[test]
fn adamw_leaves_the_gradient_alone_and_takes_a_parameter_that_is_a_view() {
    let tensor = |name: &str| flat(&numbers(name, 24), &cpu(), DType::F32).reshape([6, 4]);
    let whole = tensor("param");
    let grad = tensor("grad").narrow(0, 0, 3);
    let (before, grad_before) = (host(whole.clone()), host(grad.clone()));
    let part = whole.clone().narrow(0, 3, 3);
    let moments = (part.zeros_like(), part.zeros_like());
    let (after, _) = adamw(part, grad.clone(), moments, &RULE);
    assert_eq!(host(whole), before);
    assert_eq!(host(grad), grad_before);
    let mut wanted = before[12..].to_vec();
    adamw_by_hand(&mut wanted, &[grad_before], &RULE);
    assert_close(&host(after), &wanted, 1e-6, "the part");
}

#[test]
fn adamw_takes_a_broadcast_parameter() {
    let param = flat(&[1.0], &cpu(), DType::F32).reshape([1, 1]).expand([2, 3]);
    let grad = flat(&[1.0; 6], &cpu(), DType::F32).reshape([2, 3]);
    let moments = (grad.zeros_like(), grad.zeros_like());
    let (after, _) = adamw(param, grad, moments, &RULE);
    let mut wanted = vec![1.0; 6];
    adamw_by_hand(&mut wanted, &[vec![1.0; 6]], &RULE);
    assert_close(&host(after), &wanted, 1e-6, "broadcast");
}
