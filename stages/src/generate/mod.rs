//! Generation: tokens one after another, with a KV cache.
//!
//! Purpose: completes prompts by sampling from `softmax(logits / temperature)`, no top-k or top-p. The same engine serves
//! chat, sampling and rollouts.
//! Invariant: each draw is keyed by (seed, purpose, step, sample, position), and on the CPU the logits of a row depend on
//! that row alone, so a completion does not depend on what it was batched with.
//! Must not know: what completions are for.

mod session;

use burn::tensor::Tensor;
use rand::Rng;

use crate::kernels::workers;
use crate::model::Network;
use crate::rng::keyed;
use session::Engine;

/// When a completion is finished.
pub enum Stop<'a> {
    /// After this token.
    Token(u32),
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
    /// Tokens never taken, such as padding.
    pub banned: &'a [u32],
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

/// Completes every prompt once; `samples[i]` keys the draws of prompt `i`. `batch` prompts go
/// through the model at once.
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
    let engine = Engine::new(model);
    let mut completions = Vec::with_capacity(prompts.len());
    for (prompts, samples) in prompts.chunks(batch.max(1)).zip(samples.chunks(batch.max(1))) {
        // Rows are independent, so of a small model each thread takes some.
        let share =
            if engine.is_small() { prompts.len().div_ceil(workers::threads()) } else { prompts.len() };
        let jobs = prompts.chunks(share).zip(samples.chunks(share)).collect();
        let before = completions.len();
        let made = workers::run(jobs, |i, (prompts, samples): (&[Vec<u32>], &[u64])| {
            let made = complete(&engine, prompts, samples, sampling, &mut |_, _| {});
            made.map_err(|e| NotFinite { completion: before + i * share + e.completion, ..e })
        });
        for made in made {
            completions.extend(made?);
        }
    }
    Ok(completions)
}

/// As [`generate`] for one prompt, telling `each` token as it comes.
///
/// # Errors
/// When logits are not finite.
pub fn stream(
    model: &Network,
    prompt: &[u32],
    sampling: &Sampling,
    each: &mut dyn FnMut(u32),
) -> Result<Completion, NotFinite> {
    let made =
        complete(&Engine::new(model), &[prompt.to_vec()], &[0], sampling, &mut |_, token| each(token))?;
    Ok(made.into_iter().next().unwrap_or_default())
}

fn complete(
    engine: &Engine,
    prompts: &[Vec<u32>],
    samples: &[u64],
    sampling: &Sampling,
    each: &mut dyn FnMut(usize, u32),
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
        let logits = session.feed(&open);
        let mut next = Vec::with_capacity(open.len());
        for ((i, _), row) in open.iter().zip(logits.chunks_exact(engine.config().vocab)) {
            if !row.iter().all(|logit| logit.is_finite()) {
                return Err(NotFinite { completion: i + 1, token: position + 1 });
            }
            let token = sample_token(row, sampling, samples[*i], position);
            let completion = &mut done[*i];
            completion.tokens.push(token);
            completion.finished = match sampling.stop {
                Stop::Token(stop) => token == stop,
                Stop::When(rule) => rule(&completion.tokens),
            };
            each(*i, token);
            if !completion.finished && completion.tokens.len() < limits[*i] {
                next.push((*i, vec![token]));
            }
        }
        open = next;
    }
    Ok(done)
}

/// A float tensor's values on the host.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Draws a token by its probability; the likeliest at temperature 0 (the first of equals).
fn sample_token(logits: &[f32], sampling: &Sampling, sample: u64, position: usize) -> u32 {
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
