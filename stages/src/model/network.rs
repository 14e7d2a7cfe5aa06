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
use super::cpu::{self, AdapterView, Keep, Spare, View};
use super::device;
use super::layout::{Entry, Layout, LinearAt};
use super::lora::{AdapterLayout, LoraError, LoraParams};
use crate::kernels::cpu::rope::Rope;
use crate::kernels::flat::{Flat, Segment};
use crate::kernels::{MatrixAt, host};

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
    adapter: Option<Adapter>,
}

/// What is trained in place of a decoder's own parameters, which are frozen.
#[derive(Debug, Clone)]
pub struct Adapter {
    params: Arc<LoraParams>,
    layout: Arc<AdapterLayout>,
    weights: Flat,
}

impl Adapter {
    /// What was asked for.
    pub fn params(&self) -> &LoraParams {
        &self.params
    }

    /// Where each parameter stands.
    pub fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    /// Its parameters.
    pub fn weights(&self) -> &Flat {
        &self.weights
    }
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
        Self::of(config, has_value_head, Flat::new(weights, device), device)
    }

    /// A model of these parameters, which others may use too.
    pub fn of(config: &ModelConfig, has_value_head: bool, weights: Flat, device: &Device) -> Self {
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
            weights,
            device: device.clone(),
            execution: Execution::default(),
            spare: Arc::default(),
            adapter: None,
        }
    }

    /// This decoder, frozen, with an adapter of these parameters, in the order of its layout; with or without a scalar head.
    /// Clones share the decoder's parameters.
    ///
    /// # Errors
    /// When the adapter does not fit the decoder.
    pub fn adapted(
        mut self,
        params: &LoraParams,
        has_value_head: bool,
        weights: impl FnOnce(&AdapterLayout) -> Vec<f32>,
    ) -> Result<Self, LoraError> {
        assert!(self.layout.value_head.is_none(), "a scalar head is a part of the adapter");
        let layout = AdapterLayout::new(&self.config, params, has_value_head)?;
        let weights = weights(&layout);
        assert_eq!(weights.len(), layout.len(), "as many numbers as the adapter asks for");
        let weights = Flat::new(weights, &self.device);
        self.adapter = Some(Adapter { params: Arc::new(params.clone()), layout: Arc::new(layout), weights });
        Ok(self)
    }

    /// The adapter, if the decoder is frozen.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The decoder with the changes of its adapter made to its own parameters; a scalar head goes with the adapter.
    pub fn merged(mut self) -> Self {
        let Some(adapter) = self.adapter.take() else { return self };
        let (base, changes) = (self.weights.values(), adapter.weights.values());
        let mut weights = adapter.layout.merged(&self.layout, &base, &changes);
        let Some(head) = &adapter.layout.value_head else { return self.with_weights(weights) };
        let layout = Layout::new(&self.config, true);
        let mut all = vec![0.0; layout.len()];
        for (to, from) in layout.entries().iter().filter_map(|e| Some((e, self.layout.entry(&e.name)?))) {
            all[to.range.clone()].copy_from_slice(&weights[from.range.clone()]);
        }
        if let Some(to) = &layout.value_head {
            for (to, from) in [(Some(&to.weight), Some(&head.weight)), (to.bias.as_ref(), head.bias.as_ref())]
            {
                if let (Some(to), Some(from)) = (to, from) {
                    all[to.clone()].copy_from_slice(&changes[from.clone()]);
                }
            }
        }
        weights = all;
        Self::new(&self.config, true, weights, &self.device).executed(self.execution)
    }

    /// The same model computed by burn's operations, on the CPU too.
    #[cfg(test)]
    pub fn decomposed(mut self, device: &Device) -> Self {
        let moved = |flat: &Flat| {
            let weights = flat.values().into_owned();
            let length = weights.len();
            Flat::Device(Box::new(Tensor::from_data(TensorData::new(weights, [length]), device)))
        };
        self.weights = moved(&self.weights);
        if let Some(adapter) = &mut self.adapter {
            adapter.weights = moved(&adapter.weights);
        }
        self.device = device.clone();
        self
    }

    /// A model with first draws, which depend on the seed alone.
    pub fn drawn(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let weights = Layout::new(config, false).draw(config, seed);
        Self::new(config, false, weights, device)
    }

    /// This decoder with a freshly drawn scalar head in place of its own. Of one with an adapter the decoder stays shared.
    pub fn with_value_head(&self, seed: u64) -> Self {
        if let Some(adapter) = &self.adapter {
            return self.clone().with_adapted_head(adapter, seed);
        }
        let layout = Layout::new(&self.config, true);
        let mut weights = layout.draw(&self.config, seed);
        let own = self.weights.values();
        for (to, from) in layout.entries().iter().filter_map(|e| Some((e, self.layout.entry(&e.name)?))) {
            weights[to.range.clone()].copy_from_slice(&own[from.range.clone()]);
        }
        let made = Self::new(&self.config, true, weights, &self.device);
        made.executed(self.execution)
    }

    fn with_adapted_head(mut self, adapter: &Adapter, seed: u64) -> Self {
        // Only targets could be wrong, and they were right for the same decoder.
        let Ok(layout) = AdapterLayout::new(&self.config, &adapter.params, true) else {
            unreachable!("the adapter fits its decoder")
        };
        let (mut weights, own) = (layout.draw(seed), adapter.weights.values());
        let start = layout.len() - own.len();
        weights[start..].copy_from_slice(&own);
        let weights = Flat::new(weights, &self.device);
        self.adapter = Some(Adapter { layout: Arc::new(layout), weights, ..adapter.clone() });
        self
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
            let rounded = self.trained().rounded();
            *self.trained_mut() = rounded;
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

    /// The parameters that are trained: the adapter's, or all.
    pub fn trained(&self) -> &Flat {
        self.adapter.as_ref().map_or(&self.weights, |adapter| &adapter.weights)
    }

    /// The parameters that are trained, to change them.
    pub fn trained_mut(&mut self) -> &mut Flat {
        self.adapter.as_mut().map_or(&mut self.weights, |adapter| &mut adapter.weights)
    }

    /// The device that it computes on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs of the parameters that are trained: matrices are decayed, vectors are not.
    pub fn segments(&self) -> Vec<Segment> {
        let entries = self.adapter.as_ref().map_or(self.layout.entries(), |adapter| adapter.layout.entries());
        entries.iter().map(|e| (e.range.clone(), e.shape.len() > 1)).collect()
    }

    /// The matrices of the layers that are trained.
    pub fn matrices(&self) -> Vec<MatrixAt> {
        let Some(adapter) = &self.adapter else { return self.layout.matrices(&self.config) };
        let matrices = adapter.layout.entries().iter().filter(|entry| !entry.name.starts_with("value_head"));
        let at = |entry: &Entry| {
            let stride = entry.shape[1];
            MatrixAt { range: entry.range.clone(), stride, columns: 0..stride }
        };
        matrices.map(at).collect()
    }

    /// The places of a scalar head among the parameters that are trained.
    pub fn value_head(&self) -> Option<&LinearAt> {
        let adapted = self.adapter.as_ref().map(|adapter| adapter.layout.value_head.as_ref());
        adapted.unwrap_or(self.layout.value_head.as_ref())
    }

    /// Whether it has a scalar head.
    pub fn has_value_head(&self) -> bool {
        self.value_head().is_some()
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
            adapter: match &self.adapter {
                Some(Adapter { layout, weights: Flat::Host(weights), .. }) => {
                    Some(AdapterView { layout, weights })
                }
                _ => None,
            },
        })
    }

    /// The parameters as burn's operations take them, without gradients; they must not be on the host.
    pub fn decoder(&self) -> device::Decoder<'_> {
        self.device_decoder(false)
    }

    fn device_decoder(&self, learns: bool) -> device::Decoder<'_> {
        let parameters = device::Parameters { layout: &self.layout, weights: &self.weights };
        let adapter = self.adapter.as_ref().map(|adapter| (&*adapter.layout, &adapter.weights));
        device::Decoder::new(&self.config, parameters, adapter, self.dtype(), learns)
    }

    /// A scalar head gives values and scores, that of the vocabulary log-probabilities.
    fn check(&self, readout: Readout) {
        let is_scalar = !matches!(readout, Readout::LogProbs { .. });
        assert_eq!(self.has_value_head(), is_scalar, "this model has no head for {readout:?}");
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
            let decoder = self.device_decoder(true);
            let outputs = decoder.outputs(rows, readout);
            let tape = device::Tape::new(decoder, outputs.clone());
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
