//! Muon: the kernel of the host against burn's operations, and what it is for.

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::kernels::cpu::muon::orthogonalize;
use crate::kernels::flat::{Flat, muon};
use crate::kernels::{MatrixAt, MuonRule, decomposed};
use crate::testing::{assert_close, host, narrow, numbers, wide, with_threads};

const RULE: MuonRule = MuonRule { learning_rate: 0.02, momentum: 0.95, decay: 0.1, grad_scale: 0.5 };
const SHAPES: [[usize; 2]; 4] = [[8, 24], [24, 8], [16, 16], [1, 5]];

fn matrix(values: &[f64], columns: usize, dtype: DType) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / columns, columns]);
    Tensor::from_data(data, (&Device::flex(), dtype))
}

/// A matrix of 8 rows that holds three beside each other, and one that stands alone behind it.
fn places() -> Vec<MatrixAt> {
    let three = [0..16, 16..20, 20..24].map(|columns| MatrixAt { range: 3..195, stride: 24, columns });
    [three.to_vec(), vec![MatrixAt { range: 200..320, stride: 12, columns: 0..12 }]].concat()
}

#[test]
fn the_directions_of_both_forms_are_the_same_and_their_singular_values_are_near_1() {
    for [rows, columns] in SHAPES {
        let values = numbers(&format!("muon {rows}"), rows * columns);
        let wanted = decomposed::orthogonalized(matrix(&values, columns, DType::F64));
        let mut seen = narrow(&values);
        orthogonalize(&mut seen, columns);
        assert_close(&wide(&seen), &host(wanted.clone()), 1e-4, &format!("{rows} x {columns}"));
        let small = rows.min(columns) as f64;
        let squares: f64 = host(wanted).iter().map(|x| x * x).sum();
        assert!((0.45..1.4).contains(&(squares / small)), "{rows} x {columns}: {squares}");
    }
}

#[test]
fn a_transposed_matrix_has_the_transposed_direction() {
    let values = numbers("transposed", 6 * 10);
    let of = |x: Tensor<2>| decomposed::orthogonalized(x);
    let x = matrix(&values, 10, DType::F64);
    let turned = host(of(x.clone().transpose()).transpose());
    assert_close(&host(of(x)), &turned, 1e-9, "the gram matrix of either side");
}

#[test]
fn several_updates_of_the_host_are_those_of_a_device_and_touch_nothing_else() {
    let n = 330;
    let start = numbers("param", n);
    let on_host = |values: &[f64]| Flat::Host(narrow(values).into());
    let on_device = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), [values.len()]);
        Flat::Device(Box::new(Tensor::from_data(data, (&Device::flex(), DType::F32))))
    };
    let updated = |on: &dyn Fn(&[f64]) -> Flat| {
        let mut param = on(&start);
        let mut momentum = param.zeros_like();
        for step in 0..3 {
            let grad = on(&numbers(&format!("grad {step}"), n));
            muon(&mut param, &grad, &mut momentum, &places(), &RULE);
        }
        [param, momentum].map(|flat| flat.values().into_owned())
    };
    let seen = with_threads(1, || updated(&on_host));
    assert_eq!(seen, with_threads(2, || updated(&on_host)), "threads change nothing");
    for (seen, wanted) in seen.iter().zip(updated(&on_device)) {
        assert_close(&wide(seen), &wide(&wanted), 1e-4, "host and device");
    }
    for place in (0..3).chain(195..200).chain(320..n) {
        assert_eq!((seen[0][place], seen[1][place]), (narrow(&start)[place], 0.0), "at {place}");
    }
    assert!((3..195).chain(200..320).all(|place| seen[0][place] != narrow(&start)[place]));
}

#[test]
fn an_update_is_as_large_as_one_of_adamw() {
    let columns = 32;
    let grad = numbers("size", 64 * columns);
    let zeros = matrix(&vec![0.0; grad.len()], columns, DType::F64);
    let rule = MuonRule { learning_rate: 1.0, decay: 0.0, ..RULE };
    let (param, _) = decomposed::muon(zeros.clone(), matrix(&grad, columns, DType::F64), zeros, &rule);
    let values: Vec<f64> = host(param);
    let rms = (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt();
    assert!((0.14..0.24).contains(&rms), "{rms}");
}
