//! The logits of the next token of many rows.
//!
//! Purpose: one interface over the decoders of the CPU and of other devices.
//! Invariant: fed with a row's tokens in pieces, it gives the logits of the full forward pass.
//! Must not know: sampling.

use burn::tensor::{Int, Tensor, TensorData};

use crate::kernels::workers;
use crate::model::cpu::decode;
use crate::model::device::{Cache, Decoder, Rows};
use crate::model::{ModelConfig, Network};

/// A model of so many parameters fits the caches of a core: each thread then decodes rows of its own. Of a larger one the
/// threads share each row's work, so that its weights are read once.
const SMALL: usize = 1 << 23;

/// A model that is ready to generate.
pub enum Engine<'a> {
    /// On the CPU.
    Host(decode::Packed<'a>),
    /// Elsewhere.
    Device(Decoder<'a>, &'a ModelConfig),
}

impl<'a> Engine<'a> {
    /// Makes a model ready.
    pub fn new(model: &'a Network) -> Self {
        match model.view() {
            Some(view) => Self::Host(decode::Packed::new(view)),
            None => Self::Device(model.decoder(), model.config()),
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Host(packed) => packed.config(),
            Self::Device(_, config) => config,
        }
    }

    /// Whether each thread should decode rows of its own.
    pub fn is_small(&self) -> bool {
        matches!(self, Self::Host(_)) && self.config().parameters() < SMALL as u64
    }

    /// Whether the threads share the work of each row.
    fn is_shared(&self) -> bool {
        matches!(self, Self::Host(_)) && !self.is_small()
    }

    /// Runs `work`, which generates with this, on the threads that share it, if some do.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.is_shared() { workers::awake(work) } else { work() }
    }

    /// An empty cache for rows that begin with these prompts and go on for at most so many tokens.
    pub fn session(&'a self, prompts: &[Vec<u32>], limits: &[usize]) -> Session<'a> {
        match self {
            Self::Host(packed) => Session::Host(packed.session(prompts.len(), self.is_shared())),
            Self::Device(decoder, config) => {
                let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
                let capacity = longest + limits.iter().max().copied().unwrap_or(0);
                Session::Device(OnDevice {
                    decoder,
                    config,
                    cache: Cache::new(config.layers, capacity),
                    left: prompts.iter().map(|p| longest - p.len()).collect(),
                    longest,
                })
            }
        }
    }
}

/// Rows that are being generated.
pub enum Session<'a> {
    /// On the CPU.
    Host(decode::Session<'a>),
    /// Elsewhere.
    Device(OnDevice<'a>),
}

impl Session<'_> {
    /// The logits after the new tokens of some rows, `[rows, vocab]`; the first call gives the prompts.
    pub fn feed(&mut self, rows: &[(usize, Vec<u32>)]) -> Vec<f32> {
        match self {
            Self::Host(session) => session.feed(rows),
            Self::Device(session) => session.feed(rows),
        }
    }
}

/// Rows of which all go through the model at every step, padded on the left.
pub struct OnDevice<'a> {
    decoder: &'a Decoder<'a>,
    config: &'a ModelConfig,
    cache: Cache,
    left: Vec<usize>,
    longest: usize,
}

impl OnDevice<'_> {
    fn feed(&mut self, rows: &[(usize, Vec<u32>)]) -> Vec<f32> {
        let (count, device) = (self.left.len(), self.decoder.device());
        let time = if self.cache.is_empty() { self.longest } else { 1 };
        let mut ids = vec![0i64; count * time];
        for (i, tokens) in rows {
            let end = (i + 1) * time;
            let slots = ids[end - tokens.len()..end].iter_mut();
            slots.zip(tokens).for_each(|(slot, &token)| *slot = i64::from(token));
        }
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [count, time]), device);
        let hidden = self.decoder.hidden(Rows { ids, left: Some(self.left.clone()) }, Some(&mut self.cache));
        let last = hidden.narrow(1, time - 1, 1).reshape([count, self.config.hidden_size]);
        let logits = crate::kernels::host(self.decoder.logits(last));
        let vocab = self.config.vocab;
        rows.iter().flat_map(|(i, _)| &logits[i * vocab..(i + 1) * vocab]).copied().collect()
    }
}
