//! A model: a decoder with the head of its vocabulary, or with a scalar one.
//!
//! Purpose: its shape, its parameters, and what it answers: log-probabilities, values, scores, logits; with the gradient of
//! whatever is made of them.
//! Invariant: on the CPU the kernels of the host compute (`cpu`), elsewhere burn's operations (`device`); both give the
//! same numbers within rounding.
//! Must not know: losses, optimizers, files.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::{Readout, TokenRow};
use super::config::ModelConfig;
use super::cpu::{self, Keep, Spare, View};
use super::device;
use super::layout::Layout;
use crate::kernels::cpu::rope::Rope;
use crate::kernels::flat::{Flat, Segment};
use crate::kernels::host;

/// What a model's weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(extend("x-other-names" = {"bf16": "bfloat16", "fp32": "float32", "f32": "float32"}))]
pub enum Dtype {
    /// 32 bits.
    #[default]
    Float32,
    /// 16 bits, with the range of 32 and 8 significant ones. Training keeps masters in 32 bits, the weights are always
    /// their rounding (Micikevicius 2018); a GPU multiplies in it, and the CPU computes in 32 bits.
    Bfloat16,
}

/// How a batch goes through a model. Nothing of it changes the result beyond rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Execution {
    /// Into how many parts a batch is cut, each worked on by one thread; more than there are cores is of no use.
    #[schemars(range(min = 1))]
    pub shards: usize,
    /// Computes each layer again for the gradients instead of keeping it: less memory for more time.
    pub recompute: bool,
    /// What the weights are kept in; the optimizer's state and the masters are always of 32 bits.
    pub dtype: Dtype,
}

impl Default for Execution {
    fn default() -> Self {
        Self { shards: 2, recompute: false, dtype: Dtype::default() }
    }
}

/// A decoder with the head of its vocabulary, or with a scalar one.
#[derive(Debug, Clone)]
pub struct Network {
    config: Arc<ModelConfig>,
    layout: Arc<Layout>,
    rope: Option<Arc<Rope>>,
    weights: Flat,
    device: Device,
    execution: Execution,
    spare: Arc<Spare>,
}

/// What a forward pass leaves for [`Network::backward`].
pub enum Tape {
    /// On the CPU.
    Host(Vec<cpu::Tape>),
    /// Elsewhere.
    Device(Box<device::Tape>),
}

impl Network {
    /// A model of these parameters, in the order of its layout.
    pub fn new(config: &ModelConfig, has_value_head: bool, weights: Vec<f32>, device: &Device) -> Self {
        let layout = Layout::new(config, has_value_head);
        assert_eq!(weights.len(), layout.len(), "as many numbers as the shape asks for");
        let rope = config.has_rope().then(|| {
            let (frequencies, scale) = config.rope.frequencies(config.head_dim);
            Arc::new(Rope::new(&frequencies, scale, config.max_position_embeddings))
        });
        Self {
            config: Arc::new(config.clone()),
            layout: Arc::new(layout),
            rope,
            weights: Flat::new(weights, device),
            device: device.clone(),
            execution: Execution::default(),
            spare: Arc::default(),
        }
    }

    /// The same model computed by burn's operations, on the CPU too.
    #[cfg(test)]
    pub fn decomposed(mut self, device: &Device) -> Self {
        let weights = self.weights.values().into_owned();
        let length = weights.len();
        self.weights = Flat::Device(Box::new(Tensor::from_data(TensorData::new(weights, [length]), device)));
        self.device = device.clone();
        self
    }

    /// A model with first draws, which depend on the seed alone.
    pub fn drawn(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let weights = Layout::new(config, false).draw(config, seed);
        Self::new(config, false, weights, device)
    }

    /// This decoder with a freshly drawn scalar head in place of its own.
    pub fn with_value_head(&self, seed: u64) -> Self {
        let layout = Layout::new(&self.config, true);
        let mut weights = layout.draw(&self.config, seed);
        let own = self.weights.values();
        for (to, from) in layout.entries().iter().filter_map(|e| Some((e, self.layout.entry(&e.name)?))) {
            weights[to.range.clone()].copy_from_slice(&own[from.range.clone()]);
        }
        let made = Self::new(&self.config, true, weights, &self.device);
        made.executed(self.execution)
    }

    /// The same shape with other parameters.
    pub fn with_weights(mut self, weights: Vec<f32>) -> Self {
        assert_eq!(weights.len(), self.layout.len(), "as many numbers as the shape asks for");
        self.weights = Flat::new(weights, &self.device);
        self
    }

    /// The same model, another way to go through it; its weights are rounded to the type that is asked for.
    pub fn executed(mut self, execution: Execution) -> Self {
        self.execution = execution;
        if execution.dtype == Dtype::Bfloat16 {
            self.weights = self.weights.rounded();
        }
        self
    }

    /// What its weights are kept in.
    pub fn dtype(&self) -> Dtype {
        self.execution.dtype
    }

    /// Its shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where each parameter stands.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its parameters.
    pub fn weights(&self) -> &Flat {
        &self.weights
    }

    /// Its parameters, to change them.
    pub fn weights_mut(&mut self) -> &mut Flat {
        &mut self.weights
    }

    /// The device that it computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs of its parameters: matrices are decayed, vectors are not.
    pub fn segments(&self) -> Vec<Segment> {
        self.layout.entries().iter().map(|e| (e.range.clone(), e.shape.len() > 1)).collect()
    }

    /// The parameters as the kernels of the CPU take them, if they are there.
    pub fn view(&self) -> Option<View<'_>> {
        let Flat::Host(weights) = &self.weights else { return None };
        Some(View {
            config: &self.config,
            layout: &self.layout,
            weights,
            rope: self.rope.as_deref(),
            shards: self.execution.shards.max(1),
            spare: &self.spare,
        })
    }

    /// The parameters as burn's operations take them, without gradients; they must not be on the host.
    pub fn decoder(&self) -> device::Decoder<'_> {
        device::Decoder::new(&self.config, &self.layout, &self.weights, self.dtype(), false)
    }

    /// A scalar head gives values and scores, that of the vocabulary log-probabilities.
    fn check(&self, readout: Readout) {
        let is_scalar = !matches!(readout, Readout::LogProbs { .. });
        assert_eq!(self.layout.value_head.is_some(), is_scalar, "this model has no head for {readout:?}");
    }

    /// What is asked of rows, in order, without gradients: `[sum of outputs]`.
    pub fn outputs(&self, rows: &[TokenRow], readout: Readout) -> Vec<f32> {
        self.check(readout);
        match self.view() {
            Some(view) => cpu::forward(&view, rows, readout, Keep::Nothing).0,
            None => host(self.decoder().outputs(rows, readout)),
        }
    }

    /// As [`Network::outputs`] on the device, with what [`Network::backward`] needs.
    pub fn forward(&self, rows: &[TokenRow], readout: Readout) -> (Tensor<1>, Tape) {
        self.check(readout);
        let Some(view) = self.view() else {
            let decoder = device::Decoder::new(&self.config, &self.layout, &self.weights, self.dtype(), true);
            let outputs = decoder.outputs(rows, readout);
            let tape = device::Tape::new(decoder, &self.layout, outputs.clone());
            return (outputs.inner(), Tape::Device(Box::new(tape)));
        };
        let keep = if self.execution.recompute { Keep::Inputs } else { Keep::Everything };
        let (outputs, tapes) = cpu::forward(&view, rows, readout, keep);
        let n = outputs.len();
        (Tensor::from_data(TensorData::new(outputs, [n]), &self.device), Tape::Host(tapes))
    }

    /// Adds the gradients of the parameters to `grads`, given those of the outputs.
    pub fn backward(&self, tape: Tape, d_outputs: Tensor<1>, grads: &mut Flat) {
        match (tape, grads, self.view()) {
            (Tape::Host(tapes), Flat::Host(grads), Some(view)) => {
                cpu::backward(&view, tapes, &host(d_outputs), Arc::make_mut(grads).as_mut_slice());
            }
            (Tape::Device(tape), Flat::Device(grads), None) => {
                **grads = *grads.clone() + tape.backward(d_outputs);
            }
            _ => unreachable!("a model, its tapes and its gradients are on one device"),
        }
    }

    /// The log-probabilities of all targets of rows, as [`Network::outputs`] gives them, and their logits `[n, vocab]`.
    pub fn logprobs_and_logits(&self, rows: &[TokenRow], temperature: f32) -> (Vec<f32>, Vec<f32>) {
        self.check(Readout::LogProbs { temperature });
        match self.view() {
            Some(view) => cpu::logprobs_and_logits(&view, rows, temperature),
            None => {
                let logprobs = self.outputs(rows, Readout::LogProbs { temperature });
                (logprobs, host(self.decoder().target_logits(rows).0))
            }
        }
    }
}
