//! Generation: tokens one after another, with a KV cache.
//!
//! Purpose: completes prompts by sampling from `softmax(logits / temperature)`, no top-k or top-p.
//! Invariant: each draw is keyed by (seed, purpose, step, sample, position), so a completion does
//! not depend on what it was batched with (beyond the rounding of the logits), and a cache gives
//! the logits of the full forward pass.
//! Must not know: what completions are for.

use burn::tensor::{Int, Tensor, TensorData};
use rand::Rng;

use crate::model::{Cache, Decoder, Rows};
use crate::rng::keyed;

/// When a completion is finished.
pub enum Stop<'a> {
    /// After this token.
    Token(u32),
    /// As soon as this says so of the tokens made; for text without a stop token.
    When(&'a dyn Fn(&[u32]) -> bool),
}

/// How to sample.
pub struct Sampling<'a> {
    /// The logits are divided by this; 0 takes the likeliest token.
    pub temperature: f64,
    /// The most tokens of a completion.
    pub max_tokens: usize,
    /// When a completion is finished.
    pub stop: Stop<'a>,
    /// The seed of the stage.
    pub seed: u64,
    /// What the draws are for.
    pub purpose: &'static str,
    /// The step they belong to.
    pub step: u64,
    /// Tokens never taken, such as padding.
    pub banned: &'a [u32],
}

/// What was made of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The tokens after the prompt, the stop token included.
    pub tokens: Vec<u32>,
    /// Whether it ended by its stop rule and not by its length.
    pub finished: bool,
}

/// Why nothing can be sampled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the logits of token {token} of completion {completion} are not finite: the weights of the model have grown \
     without bound; train it with a smaller learning rate"
)]
pub struct NotFinite {
    /// Which completion, from 1.
    pub completion: usize,
    /// Which of its tokens, from 1.
    pub token: usize,
}

/// Completes every prompt once; `samples[i]` keys the draws of prompt `i`. `batch` prompts go
/// through the model at once.
///
/// # Errors
/// When logits are not finite.
pub fn generate(
    model: &Decoder,
    prompts: &[Vec<u32>],
    samples: &[u64],
    batch: usize,
    sampling: &Sampling,
) -> Result<Vec<Completion>, NotFinite> {
    let mut completions = Vec::with_capacity(prompts.len());
    for (prompts, samples) in prompts.chunks(batch.max(1)).zip(samples.chunks(batch.max(1))) {
        let before = completions.len();
        let made = generate_batch(model, prompts, samples, sampling, &mut |_, _| {});
        completions.extend(made.map_err(|e| NotFinite { completion: before + e.completion, ..e })?);
    }
    Ok(completions)
}

/// As [`generate`] for one batch, telling `each` of every (prompt, token) as it comes.
///
/// # Errors
/// When logits are not finite.
pub fn generate_batch(
    model: &Decoder,
    prompts: &[Vec<u32>],
    samples: &[u64],
    sampling: &Sampling,
    each: &mut dyn FnMut(usize, u32),
) -> Result<Vec<Completion>, NotFinite> {
    let device = model.device();
    let config = model.config();
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let room = config.context.saturating_sub(longest);
    let limit = sampling.max_tokens.min(room);
    let mut done = vec![Completion { tokens: Vec::new(), finished: false }; prompts.len()];
    let mut cache = Cache::new(config.layers, longest + limit);
    let mut rows = Rows::left(prompts, 0, &device);
    let left = rows.left.clone();
    for position in 0..limit {
        let hidden = model.hidden(rows, Some(&mut cache));
        let [count, time, width] = hidden.dims();
        let last = hidden.narrow(1, time - 1, 1).reshape([count, width]);
        let logits: Vec<f32> = host(model.logits(last));
        let mut next = vec![0i64; count];
        for (i, completion) in done.iter_mut().enumerate().filter(|(_, c)| !c.finished) {
            let row = &logits[i * config.vocab..(i + 1) * config.vocab];
            if !row.iter().all(|logit| logit.is_finite()) {
                return Err(NotFinite { completion: i + 1, token: position + 1 });
            }
            let token = pick(row, sampling, samples[i], position);
            completion.tokens.push(token);
            completion.finished = match sampling.stop {
                Stop::Token(stop) => token == stop,
                Stop::When(rule) => rule(&completion.tokens),
            };
            next[i] = i64::from(token);
            each(i, token);
        }
        if done.iter().all(|c| c.finished) {
            break;
        }
        let ids = Tensor::<2, Int>::from_data(TensorData::new(next, [count, 1]), &device);
        rows = Rows { ids, left: left.clone() };
    }
    Ok(done)
}

/// A float tensor's values on the host.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Draws a token by its probability; the likeliest at temperature 0 (the first of equals).
fn pick(logits: &[f32], sampling: &Sampling, sample: u64, position: usize) -> u32 {
    let allowed = |i: &usize| !sampling.banned.contains(&(*i as u32));
    let best = (0..logits.len()).filter(allowed).fold(None, |best: Option<usize>, i| match best {
        Some(b) if logits[b] >= logits[i] => Some(b),
        _ => Some(i),
    });
    let Some(best) = best else { return 0 };
    if sampling.temperature == 0.0 {
        return best as u32;
    }
    let top = f64::from(logits[best]);
    let weight = |i: usize| ((f64::from(logits[i]) - top) / sampling.temperature).exp();
    let total: f64 = (0..logits.len()).filter(allowed).map(weight).sum();
    // One generator a token, so that a completion resumes and batches freely.
    let mut rng = keyed(sampling.seed, sampling.purpose, sampling.step, sample << 20 | position as u64);
    let mut left = rng.random::<f64>() * total;
    for i in (0..logits.len()).filter(allowed) {
        left -= weight(i);
        if left <= 0.0 {
            return i as u32;
        }
    }
    best as u32
}
