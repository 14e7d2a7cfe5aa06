//! A model that is trained, and the state of its training.
//!
//! Purpose: gradients of a loss that is given as a function of the model's outputs, summed over micro-batches; optimizer
//! steps.
//! Invariant: a loss or a gradient that is not finite is an error, and changes no weight.
//! Must not know: which loss it is, where rows come from.

use burn::tensor::Tensor;

use super::optimizer::{Optimizer, OptimizerParams};
use super::state::{Reader, Saved, State};
use crate::kernels::flat::Flat;
use crate::model::{Dtype, Network, Readout, TokenRow};

/// A model with its optimizer and the gradients of the step at hand.
#[derive(Debug, Clone)]
pub struct Trainer {
    /// The model.
    pub model: Network,
    /// The weights in 32 bits, where the model's are their rounding.
    masters: Option<Flat>,
    optimizer: Optimizer,
    grads: Flat,
}

impl Trainer {
    /// The training of a model, at its start.
    pub fn new(model: Network, params: &OptimizerParams) -> Self {
        let optimizer = Optimizer::new(params.clone(), &model);
        let masters = (model.dtype() == Dtype::Bfloat16).then(|| model.trained().clone());
        Self { grads: model.trained().zeros_like(), model, masters, optimizer }
    }

    /// Adds the gradient of a loss over rows; returns the loss.
    ///
    /// `loss` is given the model's outputs for the rows, `[n]`, as a leaf of a graph, and makes one number of them, `[1]`.
    ///
    /// # Errors
    /// When the loss is not finite.
    pub fn add(
        &mut self,
        rows: &[TokenRow],
        readout: Readout,
        loss: impl FnOnce(Tensor<1>) -> Tensor<1>,
    ) -> Result<f64, String> {
        let (outputs, tape) = self.model.forward(rows, readout);
        let leaf = Tensor::from_inner(outputs).require_grad();
        let loss = loss(leaf.clone());
        let value = f64::from(loss.clone().into_scalar::<f32>());
        if !value.is_finite() {
            return Err(format!("the loss is {value}: try a smaller learning rate"));
        }
        if let Some(d_outputs) = leaf.grad(&loss.backward()) {
            self.model.backward(tape, d_outputs, &mut self.grads);
        }
        Ok(value)
    }

    /// The gradients so far.
    pub fn grads(&self) -> &Flat {
        &self.grads
    }

    /// Updates the model by the gradients, and forgets them; returns their norm before clipping.
    ///
    /// # Errors
    /// When the gradient is not finite.
    pub fn step(&mut self, learning_rate: f64) -> Result<f64, String> {
        let weights = self.masters.as_mut().unwrap_or(self.model.trained_mut());
        let norm = self.optimizer.update(weights, &self.grads, learning_rate)?;
        self.round();
        self.grads.clear();
        Ok(norm)
    }

    fn round(&mut self) {
        if let Some(masters) = &self.masters {
            *self.model.trained_mut() = masters.rounded();
        }
    }

    /// Adds this training to a state, under names that begin with `name`.
    pub fn save<'a>(&'a self, name: &str, saved: &mut Saved<'a>) {
        let [first, second] = &self.optimizer.moments;
        let weights = self.masters.as_ref().unwrap_or(self.model.trained());
        for (part, flat) in [("weights", weights), ("first", first), ("second", second)] {
            saved.tensors.push((format!("{name}.{part}"), flat.values()));
        }
        saved.counters.insert(format!("{name}.updates"), self.optimizer.updates.into());
    }

    /// Takes this training back out of a state.
    ///
    /// # Errors
    /// When a part is missing or of another length.
    pub fn restore(&mut self, name: &str, from: &mut Reader) -> Result<(), String> {
        let (length, device) = (self.model.trained().len(), self.model.device().clone());
        let mut take =
            |part: &str| from.tensor(&format!("{name}.{part}"), length).map(|v| Flat::new(v, &device));
        *self.masters.as_mut().unwrap_or(self.model.trained_mut()) = take("weights")?;
        self.optimizer.moments = [take("first")?, take("second")?];
        self.round();
        self.optimizer.updates = from.counter(&format!("{name}.updates"))?;
        Ok(())
    }
}

impl State for Trainer {
    fn values(&self) -> usize {
        3 * self.model.trained().len()
    }

    fn save<'a>(&'a self, saved: &mut Saved<'a>) {
        Self::save(self, "model", saved);
    }

    fn restore(&mut self, from: &mut Reader) -> Result<(), String> {
        Self::restore(self, "model", from)
    }
}
