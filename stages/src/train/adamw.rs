//! AdamW with global-norm clipping.
//!
//! Purpose: one optimizer step over a whole module.
//! Invariant: weight decay reaches tensors of two dims and more only; the state is kept by
//! parameter path, so it survives a checkpoint.
//! Must not know: losses, schedules (it is told the learning rate).
//! Source: Loshchilov and Hutter 2019; defaults are PyTorch's but for what a recipe says.

use std::collections::BTreeMap;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grads::Grads;
use crate::kernels::{self, AdamWRule};
use crate::model::io::NamedTensors;

/// The optimizer's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWParams {
    /// Decay rate of the first moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta1: f64,
    /// Decay rate of the second moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Decoupled weight decay, for matrices only.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// The largest global norm of a gradient; 0 means no clipping.
    #[schemars(range(min = 0.0))]
    pub clip: f64,
}

impl Default for AdamWParams {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, clip: 1.0 }
    }
}

/// AdamW's state.
pub struct AdamW {
    params: AdamWParams,
    step: u64,
    moments: BTreeMap<String, (DispatchTensor, DispatchTensor, usize)>,
}

impl AdamW {
    /// A fresh optimizer.
    pub fn new(params: AdamWParams) -> Self {
        Self { params, step: 0, moments: BTreeMap::new() }
    }

    /// Updates a module; returns it with the gradient's norm before clipping.
    ///
    /// # Errors
    /// When the gradient is not finite: a step would ruin every weight.
    pub fn update<M: Module>(
        &mut self,
        module: M,
        grads: Grads,
        learning_rate: f64,
    ) -> Result<(M, f64), String> {
        let norm = grads.norm();
        if !norm.is_finite() {
            return Err(format!("the norm of the gradient is {norm}: try a smaller learning rate"));
        }
        let clip = self.params.clip;
        let grad_scale = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        self.step += 1;
        let rule = AdamWRule {
            learning_rate,
            beta1: self.params.beta1,
            beta2: self.params.beta2,
            eps: self.params.eps,
            decay: self.params.weight_decay,
            step: self.step,
            grad_scale,
        };
        let mut updater = Updater { path: Vec::new(), grads, rule, moments: &mut self.moments };
        Ok((module.map(&mut updater), norm))
    }

    /// The state as tensors, under names that begin with `prefix`, and the number of updates.
    pub fn state(&self, prefix: &str, into: &mut NamedTensors) -> u64 {
        for (path, (first, second, rank)) in &self.moments {
            let data = |t: &DispatchTensor| match rank {
                1 => Tensor::<1>::from_dispatch(t.clone()).into_data(),
                _ => Tensor::<2>::from_dispatch(t.clone()).into_data(),
            };
            into.insert(format!("{prefix}m.{path}"), data(first));
            into.insert(format!("{prefix}v.{path}"), data(second));
        }
        self.step
    }

    /// Takes the state back out of `from`; `weights` are the parameters that it belongs to.
    ///
    /// # Errors
    /// When a moment is missing or has another shape than its parameter.
    pub fn restore(
        &mut self,
        prefix: &str,
        step: u64,
        from: &mut NamedTensors,
        weights: &NamedTensors,
        device: &Device,
    ) -> Result<(), String> {
        self.step = step;
        self.moments.clear();
        let first_prefix = format!("{prefix}m.");
        let paths: Vec<String> =
            from.keys().filter_map(|k| k.strip_prefix(&first_prefix).map(str::to_owned)).collect();
        for path in paths {
            let mut take = |name: String| from.remove(&name).ok_or(format!("it has no `{name}`"));
            let first = take(format!("{prefix}m.{path}"))?;
            let second = take(format!("{prefix}v.{path}"))?;
            let shape = weights.get(&path).map(TensorData::shape);
            if shape != Some(first.shape()) || shape != Some(second.shape()) {
                return Err(format!("its moments of `{path}` have another shape than that parameter"));
            }
            let rank = first.shape().num_dims();
            let tensor = |d: TensorData| match rank {
                1 => Ok(Tensor::<1>::from_data(d, device).into_dispatch()),
                2 => Ok(Tensor::<2>::from_data(d, device).into_dispatch()),
                _ => Err(format!("its `{path}` has {rank} dimensions")),
            };
            let moments = (tensor(first)?, tensor(second)?, rank);
            self.moments.insert(path, moments);
        }
        Ok(())
    }
}

struct Updater<'a> {
    path: Vec<String>,
    grads: Grads,
    rule: AdamWRule,
    moments: &'a mut BTreeMap<String, (DispatchTensor, DispatchTensor, usize)>,
}

impl ModuleMapper for Updater<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(grad) = self.grads.remove::<D>(&path) else { return param };
        let (id, value, mapper) = param.consume();
        let value = value.inner();
        let moments = match self.moments.remove(&path) {
            Some((m, v, _)) => (Tensor::from_dispatch(m), Tensor::from_dispatch(v)),
            None => (value.zeros_like(), value.zeros_like()),
        };
        let decay = if D >= 2 { self.rule.decay } else { 0.0 };
        let rule = AdamWRule { decay, ..self.rule };
        let (value, (m, v)) = kernels::adamw(value, grad, moments, &rule);
        self.moments.insert(path, (m.into_dispatch(), v.into_dispatch(), D));
        Param::from_mapped_value(id, Tensor::from_inner(value).require_grad(), mapper)
    }
}
