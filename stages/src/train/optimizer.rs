//! AdamW or Muon with global-norm clipping.
//!
//! Purpose: one optimizer step over all parameters of a model. Muon takes the matrices of the layers, and AdamW the rest.
//! Invariant: weight decay reaches tensors of two dims and more only; a gradient that is not finite changes nothing.
//! Must not know: losses, schedules (it is told the learning rate).
//! Source: Loshchilov and Hutter 2019, Jordan 2024; defaults are PyTorch's but for what a recipe says.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernels::flat::{self, Flat, Segment};
use crate::kernels::{AdamWRule, MatrixAt, MuonRule};
use crate::model::Network;

/// The optimizer's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-other-names" = {"clip": "max_grad_norm", "epsilon": "eps"}))]
pub struct OptimizerParams {
    /// What updates the matrices of the layers; everything else is AdamW's.
    pub kind: OptimizerKind,
    /// Decay rate of Muon's momentum.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
    /// Decay rate of the first moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta1: f64,
    /// Decay rate of the second moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Decoupled weight decay, for matrices only.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub weight_decay: f64,
    /// The largest global norm of a gradient; 0 means no clipping.
    #[schemars(range(min = 0.0, max = 1000000000.0))]
    pub max_grad_norm: f64,
}

/// What updates the matrices of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw,
    /// Momentum that is made orthogonal (Jordan 2024), at the learning rate of AdamW (Liu 2025).
    Muon,
}

impl Default for OptimizerParams {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adamw,
            momentum: 0.95,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
        }
    }
}

/// The optimizer's state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    params: OptimizerParams,
    /// What AdamW updates.
    segments: Vec<Segment>,
    /// What Muon updates.
    matrices: Vec<MatrixAt>,
    decays: Option<Tensor<1>>,
    /// Updates so far.
    pub updates: u64,
    /// The first and the second moment of every parameter; Muon's momentum is a first one.
    pub moments: [Flat; 2],
}

impl Optimizer {
    /// A fresh optimizer for the parameters of a model.
    pub fn new(params: OptimizerParams, model: &Network) -> Self {
        let matrices = match params.kind {
            OptimizerKind::Adamw => Vec::new(),
            OptimizerKind::Muon => model.matrices(),
        };
        let mut segments = model.segments();
        segments.retain(|(range, _)| !matrices.iter().any(|matrix| matrix.range == *range));
        let decays = flat::decays(model.trained(), &segments);
        let moments = [0, 1].map(|_| model.trained().zeros_like());
        Self { params, segments, matrices, decays, updates: 0, moments }
    }

    /// Updates the weights of a model; returns the gradient's norm before clipping.
    ///
    /// # Errors
    /// When the gradient is not finite: a step would ruin every weight.
    pub fn update(&mut self, weights: &mut Flat, grads: &Flat, learning_rate: f64) -> Result<f64, String> {
        let norm = grads.norm();
        if !norm.is_finite() {
            return Err(format!("the norm of the gradient is {norm}: try a smaller learning rate"));
        }
        let max = self.params.max_grad_norm;
        self.updates += 1;
        let rule = AdamWRule {
            learning_rate,
            beta1: self.params.beta1,
            beta2: self.params.beta2,
            eps: self.params.eps,
            decay: self.params.weight_decay,
            step: self.updates,
            grad_scale: if max > 0.0 && norm > max { max / norm } else { 1.0 },
        };
        let AdamWRule { decay, grad_scale, .. } = rule;
        let muon = MuonRule { learning_rate, momentum: self.params.momentum, decay, grad_scale };
        flat::muon(weights, grads, &mut self.moments[0], &self.matrices, &muon);
        let moments = self.moments.each_mut();
        flat::adamw(weights, grads, moments, &self.segments, self.decays.as_ref(), &rule);
        Ok(norm)
    }
}
