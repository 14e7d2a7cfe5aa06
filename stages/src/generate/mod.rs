//! Generation: tokens one after another, with a KV cache.
//!
//! Purpose: completes prompts by sampling from `softmax(logits / temperature)`, no top-k or top-p. The same engine serves
//! chat, sampling and rollouts.
//! Invariant: each draw is keyed by (seed, purpose, step, sample, position), and on the CPU the logits of a row depend on
//! that row alone, so a completion does not depend on what it was batched with.
//! Must not know: what completions are for.

mod session;

use rand::Rng;
use rayon::prelude::*;

use crate::context::StageError;
use crate::kernels::cpu::logprobs;
use crate::kernels::workers;
use crate::model::Network;
use crate::rng::keyed;
use session::Engine;

/// When a completion is finished.
pub enum Stop<'a> {
    /// After one of these tokens.
    Tokens(Vec<u32>),
    /// As soon as this says so of the tokens made; for text without a stop token.
    When(&'a (dyn Fn(&[u32]) -> bool + Sync)),
}

/// How to sample.
pub struct Sampling<'a> {
    /// The logits are divided by this; 0 takes the likeliest token.
    pub temperature: f64,
    /// The most tokens of a completion.
    pub max_new_tokens: usize,
    /// When a completion is finished.
    pub stop: Stop<'a>,
    /// The seed of the stage.
    pub seed: u64,
    /// What the draws are for.
    pub purpose: &'static str,
    /// The step they belong to.
    pub step: u64,
}

/// What was made of one prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

impl From<NotFinite> for StageError {
    fn from(e: NotFinite) -> Self {
        Self::failed(e)
    }
}

/// A model that is ready to complete prompts.
pub struct Generator<'a>(Engine<'a>);

impl<'a> Generator<'a> {
    /// Makes a model ready; the work grows with its size.
    pub fn new(model: &'a Network) -> Self {
        Self(Engine::new(model))
    }

    /// Completes every prompt once; `samples[i]` keys the draws of prompt `i`. `batch` prompts go
    /// through the model at once.
    ///
    /// # Errors
    /// When logits are not finite.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        samples: &[u64],
        batch: usize,
        sampling: &Sampling,
    ) -> Result<Vec<Completion>, NotFinite> {
        let mut completions = Vec::with_capacity(prompts.len());
        for (prompts, samples) in prompts.chunks(batch.max(1)).zip(samples.chunks(batch.max(1))) {
            // Rows are independent, so of a small model each thread takes some.
            let threads = if self.0.is_small() { workers::threads() } else { 1 };
            let share = prompts.len().div_ceil(threads);
            let jobs = prompts.chunks(share).zip(samples.chunks(share)).collect();
            let before = completions.len();
            let made = workers::run(jobs, |i, (prompts, samples): (&[Vec<u32>], &[u64])| {
                let made = self.0.run(|| complete(&self.0, prompts, samples, sampling, &mut |_| {}));
                made.map_err(|e| NotFinite { completion: before + i * share + e.completion, ..e })
            });
            for made in made {
                completions.extend(made?);
            }
        }
        Ok(completions)
    }

    /// As [`Generator::generate`] for one prompt, telling `each` token as it comes.
    ///
    /// # Errors
    /// When logits are not finite.
    pub fn stream(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        each: &mut (dyn FnMut(u32) + Send),
    ) -> Result<Completion, NotFinite> {
        let made = self.0.run(|| complete(&self.0, &[prompt.to_vec()], &[0], sampling, each))?;
        Ok(made.into_iter().next().unwrap_or_default())
    }
}

/// Completes every prompt once; see [`Generator::generate`].
///
/// # Errors
/// When logits are not finite.
pub fn generate(
    model: &Network,
    prompts: &[Vec<u32>],
    samples: &[u64],
    batch: usize,
    sampling: &Sampling,
) -> Result<Vec<Completion>, NotFinite> {
    Generator::new(model).generate(prompts, samples, batch, sampling)
}

fn complete(
    engine: &Engine,
    prompts: &[Vec<u32>],
    samples: &[u64],
    sampling: &Sampling,
    each: &mut (dyn FnMut(u32) + Send),
) -> Result<Vec<Completion>, NotFinite> {
    let room = |prompt: &Vec<u32>| engine.config().max_position_embeddings.saturating_sub(prompt.len());
    let limits: Vec<usize> = prompts.iter().map(|p| sampling.max_new_tokens.min(room(p))).collect();
    let mut done = vec![Completion::default(); prompts.len()];
    let mut session = engine.session(prompts, &limits);
    // The rows that go on, each with the tokens that the model has not seen yet.
    let mut open: Vec<(usize, Vec<u32>)> = prompts.iter().cloned().enumerate().collect();
    open.retain(|(i, _)| limits[*i] > 0);
    for position in 0.. {
        if open.is_empty() {
            break;
        }
        let drawn = draw(engine, &session.feed(&open), &open, (sampling, samples, position));
        let mut next = Vec::with_capacity(open.len());
        for ((i, _), token) in open.iter().zip(drawn) {
            let token = token?;
            let completion = &mut done[*i];
            completion.tokens.push(token);
            completion.finished = match &sampling.stop {
                Stop::Tokens(stops) => stops.contains(&token),
                Stop::When(rule) => rule(&completion.tokens),
            };
            each(token);
            if !completion.finished && completion.tokens.len() < limits[*i] {
                next.push((*i, vec![token]));
            }
        }
        open = next;
    }
    Ok(done)
}

/// The next token of each of the rows that go on, whose logits are `[rows, vocab]`.
fn draw(
    engine: &Engine,
    logits: &[f32],
    open: &[(usize, Vec<u32>)],
    (sampling, samples, position): (&Sampling, &[u64], usize),
) -> Vec<Result<u32, NotFinite>> {
    let one = |((i, _), row): (&(usize, Vec<u32>), &[f32])| match logprobs::largest_finite(row) {
        Some(top) => Ok(sample_token(row, top, sampling, samples[*i], position)),
        None => Err(NotFinite { completion: i + 1, token: position + 1 }),
    };
    let vocab = engine.config().vocab;
    match engine.is_small() {
        // These rows are one thread's.
        true => open.iter().zip(logits.chunks_exact(vocab)).map(one).collect(),
        false => open.par_iter().zip(logits.par_chunks_exact(vocab)).map(one).collect(),
    }
}

/// Draws a token by its probability; the likeliest at temperature 0 (the first of equals). `top` is the largest logit.
fn sample_token(logits: &[f32], top: f32, sampling: &Sampling, sample: u64, position: usize) -> u32 {
    let best = logits.iter().position(|&logit| logit == top).unwrap_or(0);
    if sampling.temperature == 0.0 {
        return best as u32;
    }
    let top = f64::from(top);
    let weight = |logit: &f32| ((f64::from(*logit) - top) / sampling.temperature).exp();
    let weights: Vec<f64> = logits.iter().map(weight).collect();
    // One generator a token, so that a completion resumes and batches freely.
    let mut rng = keyed(sampling.seed, sampling.purpose, sampling.step, sample << 20 | position as u64);
    let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (i, weight) in weights.iter().enumerate() {
        left -= weight;
        if left <= 0.0 {
            return i as u32;
        }
    }
    best as u32
}
