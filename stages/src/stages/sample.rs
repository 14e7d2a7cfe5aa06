//! `sample`: K completions of each prompt.
//!
//! Purpose: model and prompts in, completions out.
//! Invariant: completion k of prompt i draws from (seed, i, k) alone.
//! Must not know: who ranks them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::bpe::Tokenizer;
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Completion, CompletionSet, Prompt};
use crate::generate::{Sampling, Stop, generate};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Completions of each prompt (K).
    #[schemars(range(min = 1, max = 4096))]
    pub samples_per_prompt: usize,
    /// The logits are divided by this; 0 takes the likeliest token.
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// The most tokens of a completion.
    #[schemars(range(min = 1))]
    pub max_tokens: usize,
    /// Takes only the first so many prompts; none means all.
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
            max_tokens: 48,
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
        1,
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
    let mut prompts: Vec<Prompt> = data::read(ctx.input("prompts")?).map_err(StageError::failed)?;
    prompts.truncate(params.prompts.unwrap_or(usize::MAX));
    let longest = model.config().context.saturating_sub(params.max_tokens);
    let before = prompts.len();
    prompts.retain(|p| tokenizer.prompt_ids(&p.prompt).len() <= longest);
    if prompts.len() < before {
        ctx.log(format!(
            "{} prompts leave no room for {} tokens: left out",
            before - prompts.len(),
            params.max_tokens
        ));
    }
    let sampling = Sampling {
        temperature: params.temperature,
        max_tokens: params.max_tokens,
        stop: Stop::Token(tokenizer.stop()),
        seed: params.seed,
        purpose: "sample",
        step: 0,
        banned: &[],
    };
    let k = params.samples_per_prompt;
    let mut sets = Vec::with_capacity(prompts.len());
    let per_batch = params.batch_size.div_ceil(k).max(1);
    for (i, part) in prompts.chunks(per_batch).enumerate() {
        if ctx.should_stop() {
            return Err(StageError::Interrupted);
        }
        let ids: Vec<Vec<u32>> = part.iter().flat_map(|p| vec![tokenizer.prompt_ids(&p.prompt); k]).collect();
        let first = (i * per_batch * k) as u64;
        let keys: Vec<u64> = (first..first + ids.len() as u64).collect();
        let made = generate(&model, &ids, &keys, ids.len(), &sampling);
        for (prompt, made) in part.iter().zip(made.chunks(k)) {
            let completions = made.iter().map(|c| completion(&tokenizer, &c.tokens, c.finished)).collect();
            sets.push(CompletionSet { prompt: prompt.prompt.clone(), completions });
        }
        ctx.progress(sets.len() as u64, prompts.len() as u64, || format!("{k} completions each"));
    }
    data::write(ctx.output("completions")?, &sets).map_err(StageError::failed)?;
    let all: Vec<&Completion> = sets.iter().flat_map(|s| &s.completions).collect();
    let finished = all.iter().filter(|c| c.finished).count() as f64 / all.len().max(1) as f64;
    ctx.metric(0, &[("sample/finished", finished), ("sample/completions", all.len() as f64)]);
    Ok(vec![("finished".to_owned(), finished), ("completions".to_owned(), all.len() as f64)])
}

/// The text of a completion, without its stop token.
pub fn completion(tokenizer: &Tokenizer, tokens: &[u32], finished: bool) -> Completion {
    let body = if finished { &tokens[..tokens.len() - 1] } else { tokens };
    Completion { text: tokenizer.decode(body), finished }
}
