//! AdamW over a run of parameters, and the sum of squares that clipping needs.
//!
//! Purpose: one pass over parameter, gradient and both moments.
//! Invariant: each parameter's update depends on its own numbers alone; sums of squares are taken in blocks of a fixed size.
//! Must not know: which parameters these are.
//! Source: Loshchilov and Hutter 2019.

use super::simd::sum;
use crate::kernels::AdamWRule;

simd! {
    /// One update of every parameter; see [`AdamWRule`].
    pub fn adamw(param: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], rule: &AdamWRule) {
        let correction1 = 1.0 - rule.beta1.powi(rule.step as i32);
        let correction2 = 1.0 - rule.beta2.powi(rule.step as i32);
        // An `eps` that f32 rounds to 0 would make 0 / 0 of a parameter without gradients.
        let eps = (rule.eps as f32).max(f32::MIN_POSITIVE);
        let (beta1, beta2) = (rule.beta1 as f32, rule.beta2 as f32);
        let rate = (rule.learning_rate / correction1) as f32;
        let root = (1.0 / correction2.sqrt()) as f32;
        let keep = (1.0 - rule.learning_rate * rule.decay) as f32;
        let (rest1, rest2) = ((1.0 - rule.beta1) as f32, (1.0 - rule.beta2) as f32);
        let scale = rule.grad_scale as f32;
        for (((param, &grad), first), second) in param.iter_mut().zip(grad).zip(first).zip(second) {
            let grad = grad * scale;
            *first = beta1 * *first + rest1 * grad;
            *second = beta2 * *second + rest2 * grad * grad;
            *param = *param * keep - rate * *first / (second.sqrt() * root + eps);
        }
    }

    /// The sum of the squares, in f64 over blocks of 4,096.
    pub fn squares(values: &[f32]) -> f64 {
        let mut total = 0.0;
        for block in values.chunks(4096) {
            total += f64::from(sum(block.len(), |i| block[i] * block[i]));
        }
        total
    }
}
