//! The kernels composed of burn's own ops: for backends without a fused form, and as the reference
//! of those that have one.
//!
//! Purpose: the plainest correct statement of each operation.
//! Invariant: nothing here depends on a backend.
//! Must not know: libtorch.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Bool, Int, Tensor};

use super::{AdamWRule, MuonRule, NEWTON_SCHULZ, NEWTON_SCHULZ_EPS, NEWTON_SCHULZ_STEPS};

/// See [`super::token_logprobs`].
pub fn token_logprobs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).squeeze_dim(1)
}

/// See [`super::attention`].
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4>>,
    causal: bool,
) -> Tensor<4> {
    let [_, _, tq, head] = query.dims();
    let tk = key.dims()[2];
    let device = query.device();
    let mut scores = query.matmul(key.swap_dims(2, 3)) / (head as f64).sqrt();
    if let Some(mask) = mask {
        let dtype = scores.dtype();
        scores = scores + mask.cast(dtype);
    }
    if causal {
        let hidden = Tensor::<2, Bool>::tril_mask([tq, tk], 0, &device);
        scores = scores.mask_fill(hidden.unsqueeze::<4>(), f32::NEG_INFINITY);
    }
    softmax(scores, 3).matmul(value)
}

/// See [`super::layer_norm`].
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred / (finite(variance) + eps).sqrt() * weight.unsqueeze() + bias.unsqueeze()
}

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<3>, weight: Tensor<1>, eps: f64) -> Tensor<3> {
    let mean_square = x.clone().square().mean_dim(2);
    x / (finite(mean_square) + eps).sqrt() * weight.unsqueeze()
}

/// Makes NaN of what is not finite: divided by the root of infinity, all of a row would be 0, and the overflow hidden.
fn finite(x: Tensor<3>) -> Tensor<3> {
    x.clone() + (x.clone().detach() - x.detach())
}

/// One AdamW update (Loshchilov and Hutter 2019); `decays` is 1 where a parameter is decayed and 0 elsewhere.
pub fn adamw(
    param: Tensor<1>,
    grad: Tensor<1>,
    (first, second): (Tensor<1>, Tensor<1>),
    decays: Tensor<1>,
    rule: &AdamWRule,
) -> (Tensor<1>, (Tensor<1>, Tensor<1>)) {
    let grad = grad * rule.grad_scale;
    let first = first * rule.beta1 + grad.clone() * (1.0 - rule.beta1);
    let second = second * rule.beta2 + grad.square() * (1.0 - rule.beta2);
    let correction1 = 1.0 - rule.beta1.powi(rule.step as i32);
    let correction2 = 1.0 - rule.beta2.powi(rule.step as i32);
    let denominator = second.clone().sqrt() / correction2.sqrt() + rule.eps;
    let decayed = param.clone() - param * decays * (rule.learning_rate * rule.decay);
    let param = decayed - first.clone() / denominator * (rule.learning_rate / correction1);
    (param, (first, second))
}

/// One update of a matrix by Muon; returns it and its momentum. See [`MuonRule`].
pub fn muon(
    param: Tensor<2>,
    grad: Tensor<2>,
    momentum: Tensor<2>,
    rule: &MuonRule,
) -> (Tensor<2>, Tensor<2>) {
    let [rows, columns] = param.dims();
    let grad = grad * rule.grad_scale;
    let momentum = momentum * rule.momentum + grad.clone() * (1.0 - rule.momentum);
    let direction = orthogonalized(grad * (1.0 - rule.momentum) + momentum.clone() * rule.momentum);
    let decayed = param * (1.0 - rule.learning_rate * rule.decay);
    (decayed - direction * rule.rate(rows, columns), momentum)
}

/// A matrix with all its singular values brought near 1 (Jordan 2024).
pub fn orthogonalized(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum().sqrt() + NEWTON_SCHULZ_EPS;
    let [a, b, c] = NEWTON_SCHULZ;
    (0..NEWTON_SCHULZ_STEPS).fold(x / norm.unsqueeze(), |x, _| {
        let gram = x.clone().matmul(x.clone().transpose());
        let step = gram.clone() * b + gram.clone().matmul(gram) * c;
        x.clone() * a + step.matmul(x)
    })
}
