//! One run of numbers on the device that computes: all parameters of a model, their gradients, or a moment of theirs.
//!
//! Purpose: the few operations on all parameters at once: sums of squares, rounding, AdamW, Muon.
//! Invariant: a copy that somebody holds never changes.
//! Must not know: which parameter stands where, beside what is decayed.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::cpu::{adamw, memory, muon};
use super::workers;
use super::{AdamWRule, MatrixAt, MuonRule, decomposed, is_host};

/// Numbers in the memory of the host, or of another device.
#[derive(Debug, Clone)]
pub enum Flat {
    /// For the kernels of the CPU.
    Host(Arc<Vec<f32>>),
    /// For burn's operations.
    Device(Box<Tensor<1>>),
}

/// A run of parameters, and whether they are decayed.
pub type Segment = (Range<usize>, bool);

impl Flat {
    /// These numbers, on a device.
    pub fn new(values: Vec<f32>, device: &Device) -> Self {
        if is_host(device) {
            return Self::Host(Arc::new(values));
        }
        let length = values.len();
        Self::Device(Box::new(Tensor::from_data(TensorData::new(values, [length]), device)))
    }

    /// The numbers as bf16 holds them: rounded to the nearest, of two equally near ones to the even one.
    pub fn rounded(&self) -> Self {
        match self {
            Self::Host(values) => {
                let parts = values.chunks(1 << 18).collect();
                let round = |_, part: &[f32]| -> Vec<f32> {
                    part.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect()
                };
                Self::Host(Arc::new(workers::run(parts, round).concat()))
            }
            Self::Device(tensor) => {
                let dtype = tensor.dtype();
                Self::Device(Box::new(tensor.clone().cast(DType::BF16).cast(dtype)))
            }
        }
    }

    /// As many zeros, on the same device.
    pub fn zeros_like(&self) -> Self {
        match self {
            Self::Host(values) => Self::Host(Arc::new(memory::zeros(values.len()))),
            Self::Device(tensor) => Self::Device(Box::new(tensor.zeros_like())),
        }
    }

    /// Makes every number 0.
    pub fn clear(&mut self) {
        match self {
            Self::Host(values) => Arc::make_mut(values).fill(0.0),
            Self::Device(tensor) => **tensor = tensor.zeros_like(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.len(),
            Self::Device(tensor) => tensor.dims()[0],
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Host(values) => Cow::Borrowed(values),
            Self::Device(tensor) => Cow::Owned(super::host(*tensor.clone())),
        }
    }

    /// The Euclidean norm.
    pub fn norm(&self) -> f64 {
        match self {
            Self::Host(values) => {
                let parts = values.chunks(1 << 20).collect();
                workers::run(parts, |_, part| adamw::squares(part)).iter().sum::<f64>().sqrt()
            }
            Self::Device(tensor) => f64::from(tensor.clone().square().sum().into_scalar::<f32>()).sqrt(),
        }
    }
}

/// 1 where a parameter is decayed and 0 elsewhere, as [`adamw`] needs it beside the host.
pub fn decays(param: &Flat, segments: &[Segment]) -> Option<Tensor<1>> {
    let Flat::Device(param) = param else { return None };
    let factor =
        |(range, decays): &Segment| std::iter::repeat_n(if *decays { 1.0f32 } else { 0.0 }, range.len());
    let factors: Vec<f32> = segments.iter().flat_map(factor).collect();
    Some(Tensor::from_floats(factors.as_slice(), &param.device()))
}

/// One AdamW update of the parameters in segments, which are in order; see [`AdamWRule`] and [`decays`].
pub fn adamw(
    param: &mut Flat,
    grad: &Flat,
    [first, second]: [&mut Flat; 2],
    segments: &[Segment],
    decays: Option<&Tensor<1>>,
    rule: &AdamWRule,
) {
    match (param, grad, first, second) {
        (Flat::Host(param), Flat::Host(grad), Flat::Host(first), Flat::Host(second)) => {
            let [param, first, second] =
                [param, first, second].map(|values| Arc::make_mut(values).as_mut_slice());
            host_adamw(param, grad, [first, second], segments, rule);
        }
        (Flat::Device(param), Flat::Device(grad), Flat::Device(first), Flat::Device(second)) => {
            let decays = decays.cloned().unwrap_or_else(|| param.zeros_like());
            for run in runs(segments) {
                let part = |tensor: &Tensor<1>| tensor.clone().slice(run.clone());
                let moments = (part(first), part(second));
                let (new, (new_first, new_second)) =
                    decomposed::adamw(part(param), part(grad), moments, part(&decays), rule);
                for (whole, new) in [(&mut *param, new), (&mut *first, new_first), (&mut *second, new_second)]
                {
                    **whole = whole.clone().slice_assign([run.clone()], new);
                }
            }
        }
        _ => unreachable!("a model, its gradients and its moments are on one device"),
    }
}

/// The segments in pieces, on all threads: each parameter is updated by itself, so the cut changes nothing.
fn host_adamw<'a>(
    mut param: &'a mut [f32],
    mut grad: &'a [f32],
    [mut first, mut second]: [&'a mut [f32]; 2],
    segments: &[Segment],
    rule: &AdamWRule,
) {
    let (mut jobs, mut at) = (Vec::new(), 0);
    for (range, decays) in segments {
        grad = &grad[range.start - at..];
        for values in [&mut param, &mut first, &mut second] {
            *values = std::mem::take(values).split_at_mut(range.start - at).1;
        }
        at = range.end;
        let mut left = range.len();
        while left > 0 {
            let n = left.min(1 << 18);
            left -= n;
            let (g, rest) = grad.split_at(n);
            grad = rest;
            let [p, m, v] = [&mut param, &mut first, &mut second].map(|values| {
                let (piece, rest) = std::mem::take(values).split_at_mut(n);
                *values = rest;
                piece
            });
            jobs.push((p, g, m, v, if *decays { rule.decay } else { 0.0 }));
        }
    }
    workers::run(jobs, |_, (p, g, m, v, decay)| adamw::adamw(p, g, m, v, &AdamWRule { decay, ..*rule }));
}

/// Segments that touch each other, as one run each.
fn runs(segments: &[Segment]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (range, _) in segments {
        match runs.last_mut() {
            Some(run) if run.end == range.start => run.end = range.end,
            _ => runs.push(range.clone()),
        }
    }
    runs
}

/// One update of matrices by Muon; see [`MuonRule`].
pub fn muon(param: &mut Flat, grad: &Flat, momentum: &mut Flat, matrices: &[MatrixAt], rule: &MuonRule) {
    match (param, grad, momentum) {
        (Flat::Host(param), Flat::Host(grad), Flat::Host(momentum)) => {
            let [param, momentum] = [param, momentum].map(|values| Arc::make_mut(values).as_mut_slice());
            // A matrix a thread, so that no more than that is held beside the parameters.
            for some in matrices.chunks(workers::threads()) {
                let updates = workers::run(some.to_vec(), |_, at| host_muon(&at, grad, momentum, rule));
                for (at, (new, direction)) in some.iter().zip(updates) {
                    let (columns, keep) = (at.columns.len(), 1.0 - rule.learning_rate * rule.decay);
                    let rate = rule.rate(at.range.len() / at.stride, columns) as f32;
                    for (row, place) in at.rows().enumerate() {
                        let row = row * columns..(row + 1) * columns;
                        momentum[place.clone()].copy_from_slice(&new[row.clone()]);
                        for (x, step) in param[place].iter_mut().zip(&direction[row]) {
                            *x = *x * keep as f32 - rate * step;
                        }
                    }
                }
            }
        }
        (Flat::Device(param), Flat::Device(grad), Flat::Device(momentum)) => {
            for MatrixAt { range, stride, columns } in matrices {
                let shape = [range.len() / stride, *stride];
                let whole = |tensor: &Tensor<1>| tensor.clone().slice(range.clone()).reshape(shape);
                let part = |tensor: &Tensor<1>| whole(tensor).narrow(1, columns.start, columns.len());
                let (new, new_momentum) = decomposed::muon(part(param), part(grad), part(momentum), rule);
                for (all, new) in [(&mut *param, new), (&mut *momentum, new_momentum)] {
                    let matrix = whole(all).slice_assign([0..shape[0], columns.clone()], new);
                    **all = all.clone().slice_assign([range.clone()], matrix.reshape([range.len()]));
                }
            }
        }
        _ => unreachable!("a model, its gradients and its moments are on one device"),
    }
}

/// The momentum of a matrix, and the direction to go.
fn host_muon(at: &MatrixAt, grad: &[f32], momentum: &[f32], rule: &MuonRule) -> (Vec<f32>, Vec<f32>) {
    let (keep, rest) = (rule.momentum as f32, (1.0 - rule.momentum) as f32);
    let (mut new, mut direction) = (Vec::new(), Vec::new());
    for place in at.rows() {
        for (grad, momentum) in grad[place.clone()].iter().zip(&momentum[place]) {
            let grad = grad * rule.grad_scale as f32;
            let momentum = keep * momentum + rest * grad;
            new.push(momentum);
            direction.push(rest * grad + keep * momentum);
        }
    }
    muon::orthogonalize(&mut direction, at.columns.len());
    (new, direction)
}
