//! AdamW and norms, over all parameters at once.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::assert_near;
use crate::kernels::cpu::adamw::{adamw as kernel, squares};
use crate::kernels::flat::{self, Flat, Segment, adamw};
use crate::kernels::{AdamWRule, decomposed};
use crate::testing::{assert_close, cpu, host, narrow, numbers, with_threads};

const RULE: AdamWRule = AdamWRule {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    decay: 0.1,
    step: 1,
    grad_scale: 1.0,
};

fn rules() -> [AdamWRule; 3] {
    [RULE, AdamWRule { decay: 0.0, eps: 1e-3, ..RULE }, AdamWRule { grad_scale: 0.25, ..RULE }]
}

/// AdamW as it is written in the paper, number by number; `decays` is 1 where a number is decayed.
fn by_hand(param: &mut [f64], grads: &[Vec<f64>], decays: &[f64], rule: &AdamWRule) {
    let (mut m, mut v) = (vec![0.0; param.len()], vec![0.0; param.len()]);
    for (t, grad) in grads.iter().enumerate() {
        for i in 0..param.len() {
            let g = grad[i] * rule.grad_scale;
            m[i] = rule.beta1 * m[i] + (1.0 - rule.beta1) * g;
            v[i] = rule.beta2 * v[i] + (1.0 - rule.beta2) * g * g;
            let m_hat = m[i] / (1.0 - rule.beta1.powi(t as i32 + 1));
            let v_hat = v[i] / (1.0 - rule.beta2.powi(t as i32 + 1));
            let decay = rule.decay * decays[i] * param[i];
            param[i] -= rule.learning_rate * (m_hat / (v_hat.sqrt() + rule.eps) + decay);
        }
    }
}

fn flat(values: &[f64], device: &Device, dtype: DType) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, dtype))
}

/// Runs of lengths, every other one decayed, and which numbers that are.
fn segments(lengths: &[usize]) -> (Vec<Segment>, Vec<f64>) {
    let mut out = Vec::new();
    let mut start = 0;
    for (i, length) in lengths.iter().enumerate() {
        out.push((start..start + length, i % 2 == 0));
        start += length;
    }
    let decays = out.iter().flat_map(|(range, decays)| vec![f64::from(u8::from(*decays)); range.len()]);
    let decays = decays.collect();
    (out, decays)
}

#[test]
fn several_steps_of_adamw_are_those_of_the_paper() {
    let (segments, decays) = segments(&[15, 3, 16, 1, 6]);
    let n = decays.len();
    let grads: Vec<Vec<f64>> = (0..5).map(|i| numbers(&format!("grad {i}"), n)).collect();
    for rule in rules() {
        let mut wanted = numbers("param", n);
        by_hand(&mut wanted, &grads, &decays, &rule);
        for (device, dtype, tolerance) in [
            (cpu(), DType::F64, 1e-12),
            (cpu(), DType::F32, 1e-6),
            (Device::flex(), DType::F64, 1e-12),
            (Device::flex(), DType::F32, 1e-6),
        ] {
            let tensor = |xs: &[f64]| flat(xs, &device, dtype);
            let mut param = tensor(&numbers("param", n));
            let mut moments = (param.zeros_like(), param.zeros_like());
            for (t, grad) in grads.iter().enumerate() {
                let rule = AdamWRule { step: t as u64 + 1, ..rule };
                (param, moments) = decomposed::adamw(param, tensor(grad), moments, tensor(&decays), &rule);
            }
            assert_close(&host(param), &wanted, tolerance, &format!("{device:?} {dtype:?} {rule:?}"));
        }
        let on = |values: &[f64], on_host: bool| match on_host {
            true => Flat::Host(narrow(values).into()),
            false => Flat::Device(Box::new(flat(values, &Device::flex(), DType::F32))),
        };
        for on_host in [true, false] {
            let mut param = on(&numbers("param", n), on_host);
            let (mut first, mut second) = (param.zeros_like(), param.zeros_like());
            for (t, grad) in grads.iter().enumerate() {
                let rule = AdamWRule { step: t as u64 + 1, ..rule };
                let factors = flat::decays(&param, &segments);
                adamw(
                    &mut param,
                    &on(grad, on_host),
                    [&mut first, &mut second],
                    &segments,
                    factors.as_ref(),
                    &rule,
                );
            }
            assert_near(&param.values(), &wanted, 1e-6, &format!("host {on_host}, {rule:?}"));
        }
    }
}

#[test]
fn a_long_run_is_updated_to_the_same_bytes_by_any_number_of_threads() {
    let (segments, decays) = segments(&[300_000, 5, 2000]);
    let n = decays.len();
    // Cheap numbers, for there are many.
    let draw = |k: usize| (0..n).map(|i| (i * k % 1009) as f32 / 1009.0 - 0.5).collect::<Vec<f32>>();
    let run = |threads| {
        with_threads(threads, || {
            let flat = |values: Vec<f32>| Flat::Host(values.into());
            let (mut param, grad) = (flat(draw(7)), flat(draw(13)));
            let (mut first, mut second) = (param.zeros_like(), param.zeros_like());
            let factors = flat::decays(&param, &segments);
            adamw(&mut param, &grad, [&mut first, &mut second], &segments, factors.as_ref(), &RULE);
            [param, first, second].map(|flat| flat.values().into_owned())
        })
    };
    let alone = run(1);
    assert_eq!(alone, run(2));
    let mut whole = draw(7);
    let (mut first, mut second) = (vec![0.0; n], vec![0.0; n]);
    let (grad, plain) = (draw(13), AdamWRule { decay: 0.0, ..RULE });
    for (range, decays) in &segments {
        let rule = if *decays { &RULE } else { &plain };
        let range = range.clone();
        kernel(
            &mut whole[range.clone()],
            &grad[range.clone()],
            &mut first[range.clone()],
            &mut second[range],
            rule,
        );
    }
    assert_eq!(alone, [whole, first, second]);
}

#[test]
fn adamw_never_changes_what_somebody_else_holds() {
    let (segments, _) = segments(&[12]);
    for device in [None, Some(Device::flex())] {
        let on = |name: &str| match &device {
            None => Flat::Host(narrow(&numbers(name, 12)).into()),
            Some(device) => Flat::Device(Box::new(flat(&numbers(name, 12), device, DType::F32))),
        };
        let (mut param, grad) = (on("param"), on("grad"));
        let (mut first, mut second) = (param.zeros_like(), param.zeros_like());
        let held = [&param, &grad, &first, &second].map(Clone::clone);
        let before = held.each_ref().map(|flat| flat.values().into_owned());
        let factors = flat::decays(&param, &segments);
        adamw(&mut param, &grad, [&mut first, &mut second], &segments, factors.as_ref(), &RULE);
        assert_eq!(held.map(|flat| flat.values().into_owned()), before);
        let after = [&param, &first, &second].map(|flat| flat.values().into_owned());
        assert!(after[0] != before[0] && after[1] != before[2] && after[2] != before[3]);
        first.clear();
        assert_eq!(*first.values(), [0.0; 12]);
        assert_eq!((first.len(), first.is_empty()), (12, false));
    }
}

#[test]
fn the_sum_of_squares_and_the_norm_are_those_of_f64() {
    for n in [0, 1, 15, 4096, 10_007] {
        let values = narrow(&numbers("squares", n));
        let wanted: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert_close(&[squares(&values)], &[wanted], 1e-6, &format!("{n} squares"));
        if n > 0 {
            let on_device =
                Flat::Device(Box::new(flat(&crate::testing::wide(&values), &Device::flex(), DType::F32)));
            for flat in [Flat::Host(values.into()), on_device] {
                assert_close(&[flat.norm()], &[wanted.sqrt()], 1e-6, &format!("the norm of {n}"));
            }
        }
    }
}

#[test]
fn the_norm_of_a_long_run_is_the_same_by_any_number_of_threads() {
    let values: Vec<f32> = (0..(1usize << 20) + 77).map(|i| (i % 1013) as f32 / 1013.0).collect();
    let flat = Flat::Host(values.into());
    let norm = |threads| with_threads(threads, || flat.norm().to_bits());
    assert_eq!(norm(1), norm(2));
}
