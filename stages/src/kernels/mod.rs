//! The operations that models are made of.
//!
//! Purpose: `cpu` computes on the memory of the host. The functions here are for tensors of burn on any device: some
//! are one fused operation with a hand-written backward pass on libtorch; elsewhere they are burn's own operations
//! (`decomposed`), which are also the reference that tests hold all others to. `flat` has the operations on all parameters of a model at once,
//! `bandwidth` measures the memory that they read.
//! Invariant: all forms agree within rounding, in value and in gradient.
//! Must not know: models, losses, stages. Raw libtorch calls stand in `torch` and `libtorch` alone.

pub mod bandwidth;
pub mod cpu;
mod decomposed;
pub mod flat;
#[cfg(feature = "tch")]
pub mod libtorch;
#[cfg(feature = "tch")]
mod torch;
pub mod workers;

use burn::tensor::{Device, Int, Tensor};

/// A float tensor's values on the host.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Whether this device is the CPU, so that the kernels of the host compute.
pub fn is_host(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    if is_libtorch(device) {
        return torch::owns_cpu(device);
    }
    let _ = device;
    true
}

/// Whether tensors of this device are libtorch's.
pub fn is_libtorch(device: &Device) -> bool {
    #[cfg(feature = "tch")]
    return torch::owns(device);
    #[cfg(not(feature = "tch"))]
    {
        let _ = device;
        false
    }
}

/// The natural logarithm of each target token's probability, `log_softmax(logits)[target]`.
///
/// Shapes: logits `[n, vocab]`, targets `[n]`, result `[n]`. Computed in f32.
pub fn token_logprobs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    #[cfg(feature = "tch")]
    if is_libtorch(&logits.device()) {
        return torch::token_logprobs(logits, targets);
    }
    decomposed::token_logprobs(logits, targets)
}

/// Scaled dot-product attention.
///
/// Shapes: query `[batch, heads, tq, head]`, key and value `[batch, heads, tk, head]`, mask
/// `[batch, 1, tq, tk]` (added to the scores: 0 keeps, a large negative number hides). `causal`
/// hides what lies after a query and needs `tq == tk`; with a mask it must be false, for then the
/// mask says everything.
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4>>,
    causal: bool,
) -> Tensor<4> {
    debug_assert!(!(causal && mask.is_some()));
    decomposed::attention(query, key, value, mask, causal)
}

/// GELU in its tanh form, as GPT-2 has it (Hendrycks and Gimpel 2016).
///
/// Shape: any.
pub fn gelu(x: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "tch")]
    if is_libtorch(&x.device()) {
        return torch::gelu(x);
    }
    burn::tensor::activation::gelu_approximate(x)
}

/// LayerNorm over the last dimension: `(x - mean) / sqrt(var + eps) * weight + bias`, biased variance.
///
/// Shapes: x `[batch, time, width]`, weight and bias `[width]`.
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<3> {
    #[cfg(feature = "tch")]
    if is_libtorch(&x.device()) {
        return torch::layer_norm(x, weight, bias, eps);
    }
    decomposed::layer_norm(x, weight, bias, eps)
}

/// RMSNorm over the last dimension: `x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich 2019).
///
/// Shapes: x `[batch, time, width]`, weight `[width]`.
pub fn rms_norm(x: Tensor<3>, weight: Tensor<1>, eps: f64) -> Tensor<3> {
    decomposed::rms_norm(x, weight, eps)
}

/// The numbers of one AdamW update.
#[derive(Debug, Clone, Copy)]
pub struct AdamWRule {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// Updates so far, this one included.
    pub step: u64,
    /// The gradient is multiplied by this first (global-norm clipping).
    pub grad_scale: f64,
}

/// The numbers of one update of a matrix by Muon (Jordan 2024).
#[derive(Debug, Clone, Copy)]
pub struct MuonRule {
    /// Learning rate; the update's root mean square is about .2 of it, as AdamW's is (Liu 2025), so that one rate serves
    /// both.
    pub learning_rate: f64,
    /// Decay rate of the momentum, which is Nesterov's.
    pub momentum: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// The gradient is multiplied by this first (global-norm clipping).
    pub grad_scale: f64,
}

impl MuonRule {
    /// What an orthogonal update of a matrix is multiplied by.
    fn rate(&self, rows: usize, columns: usize) -> f64 {
        self.learning_rate * 0.2 * (rows.max(columns) as f64).sqrt()
    }
}

/// A matrix within the run of all parameters: some columns of the row-major matrix that stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixAt {
    /// The whole matrix.
    pub range: std::ops::Range<usize>,
    /// How many columns it has.
    pub stride: usize,
    /// Those that are meant.
    pub columns: std::ops::Range<usize>,
}

impl MatrixAt {
    /// The places of its rows.
    fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let columns = self.columns.clone();
        self.range.clone().step_by(self.stride).map(move |row| row + columns.start..row + columns.end)
    }
}

/// The coefficients of a Newton-Schulz step, `a X + (b X X^T + c (X X^T)^2) X`.
const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// How many there are.
const NEWTON_SCHULZ_STEPS: usize = 5;
/// Added to the norm that a matrix is divided by first.
const NEWTON_SCHULZ_EPS: f64 = 1e-7;

#[cfg(test)]
mod tests;
