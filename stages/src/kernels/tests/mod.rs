//! Holds every kernel to its plainest statement in f64: values, gradients, shapes, memory.
//!
//! Purpose: `tensors` for the operations of burn, `optimizer` for AdamW, one file each for the kernels of the CPU.
//! Invariant: a statement here is written without looking at the kernel: a slope is a finite difference in f64.

mod activation;
mod forms;
mod linear;
mod logprobs;
mod muon;
mod norm;
mod optimizer;
mod panels;
mod rope;
mod tensors;

use crate::testing::{relative, wide};

/// Holds numbers in f32 to those in f64: the norm of the difference against the norm of all.
#[track_caller]
fn assert_near(got: &[f32], wanted: &[f64], tolerance: f64, what: &str) {
    let off = relative(&wide(got), wanted);
    assert!(off <= tolerance, "{what} is off by {off}");
}

/// The gradient of `f` at `x` by central differences.
fn differences(x: &[f64], f: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    let at = |i: usize, by: f64| {
        let mut moved = x.to_vec();
        moved[i] += by;
        f(&moved)
    };
    (0..x.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
