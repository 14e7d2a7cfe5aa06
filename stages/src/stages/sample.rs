//! `sample`: K completions of each prompt.
//!
//! Purpose: model and prompts in, completions out.
//! Invariant: completion k of prompt i draws from (seed, i, k) alone.
//! Must not know: who ranks them.

use std::time::Instant;

use kiln_formats::tokenizer::Tokenizer;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Completion, CompletionSet, Prompt};
use crate::dialogue::{self, completion};
use crate::generate::{Generator, Sampling, Stop};
use crate::model::Network;

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Completions of each prompt (K).
    #[schemars(range(min = 1, max = 4096))]
    pub samples_per_prompt: usize,
    /// The logits are divided by this; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub temperature: f64,
    /// The most tokens of a completion.
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// Takes only the first so many prompts; none means all.
    #[schemars(range(min = 1))]
    pub prompts: Option<usize>,
    /// Rows that go through the model at once.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// The seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            samples_per_prompt: 4,
            temperature: 1.0,
            max_new_tokens: 48,
            prompts: None,
            batch_size: 64,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "sample",
        2,
        "samples completions of prompts from a model",
        (
            vec![
                input("model", &["checkpoint", "policy"], "the model to sample from"),
                input("prompts", &["prompts"], "the prompts"),
            ],
            vec![output("completions", "completions", "K completions a prompt")],
        ),
        run,
    )
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let (model, tokenizer) = bundle::load(ctx.input("model")?, ctx.device())?;
    let mut prompts: Vec<Prompt> = data::read(ctx.input("prompts")?)?;
    prompts.truncate(params.prompts.unwrap_or(usize::MAX));
    let room = dialogue::room(model.config().max_position_embeddings, params.max_new_tokens)?;
    let (prompts, ids) = dialogue::fitting(ctx, &tokenizer, prompts, room)?;
    let start = Instant::now();
    let made = sampled(params, ctx, (&model, &tokenizer), &ids)?;
    let sets: Vec<CompletionSet> = prompts
        .into_iter()
        .zip(made.chunks(params.samples_per_prompt))
        .map(|(prompt, made)| CompletionSet { prompt: prompt.prompt, completions: made.to_vec() })
        .collect();
    data::write(ctx.output("completions")?, &sets).map_err(StageError::failed)?;
    let tokens: usize = made.iter().map(|c| c.tokens.len()).sum();
    let speed = tokens as f64 / start.elapsed().as_secs_f64();
    let finished = made.iter().filter(|c| c.finished).count() as f64 / made.len().max(1) as f64;
    let names = ["sample/finished", "sample/completions", "sample/tokens_per_second"];
    ctx.metrics(0, names, [finished, made.len() as f64, speed]);
    Ok(vec![("finished".to_owned(), finished), ("completions".to_owned(), made.len() as f64)])
}

/// K completions of each prompt, one prompt after the other.
fn sampled(
    params: &Params,
    ctx: &Context,
    (model, tokenizer): (&Network, &Tokenizer),
    prompts: &[Vec<u32>],
) -> Result<Vec<Completion>, StageError> {
    let sampling = Sampling {
        temperature: params.temperature,
        max_new_tokens: params.max_new_tokens,
        stop: Stop::Tokens(tokenizer.stops()),
        seed: params.seed,
        purpose: "sample",
        step: 0,
    };
    let k = params.samples_per_prompt;
    let keys: Vec<u64> = (0..(prompts.len() * k) as u64).collect();
    let model = Generator::new(model);
    let mut made = Vec::with_capacity(keys.len());
    for keys in keys.chunks(params.batch_size) {
        if ctx.should_stop() {
            return Err(StageError::Interrupted);
        }
        let ids: Vec<Vec<u32>> = keys.iter().map(|&key| prompts[key as usize / k].clone()).collect();
        let batch = model.generate(&ids, keys, ids.len(), &sampling)?;
        made.extend(batch.iter().map(|c| completion(tokenizer, c)));
        ctx.progress((made.len() / k) as u64, prompts.len() as u64, || format!("{k} completions each"));
    }
    Ok(made)
}
