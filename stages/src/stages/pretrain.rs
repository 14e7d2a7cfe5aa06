//! `pretrain`: the base model, by next-token prediction on raw text.
//!
//! Purpose: tokenizer and corpus in, checkpoint out.
//! Invariant: the rows of a step depend on (seed, step, row) alone: windows of a text are drawn, tokens on disk come epoch after
//! epoch, each document apart; the held-out part is never trained on.
//! Must not know: what the base model will be asked.
//! Source: Radford 2019.

use std::path::Path;

use kiln_formats::shards::Tokens;
use kiln_formats::tokenizer::Tokenizer;
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::registry::{Entry, input, optional, output};
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{Corpus, DataError, TokenStore};
use crate::generate::{Generator, Sampling, Stop};
use crate::model::{Execution, ModelParams, Network, TokenRow};
use crate::rng::keyed;
use crate::train::corpus::{self, HeldOut, VALIDATION_TOKENS, Windows};
use crate::train::rows::{self, Epochs};
use crate::train::run::{TrainConfig, train};
use crate::train::{OptimizerParams, Schedule, footprint, micro_batch};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The model's shape.
    pub model: ModelParams,
    /// Optimizer steps.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Rows of as many tokens as the context has, a step; a row may begin in one document and end in another.
    #[schemars(range(min = 1, max = 1048576))]
    pub batch_size: usize,
    /// Rows that go through the model at once; 0 means all. Changes memory, not the result (beyond rounding).
    pub micro_batch: usize,
    /// How a batch goes through the model.
    #[serde(flatten)]
    pub execution: Execution,
    /// The peak learning rate.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub learning_rate: f64,
    /// How the rate runs.
    pub schedule: Schedule,
    /// The optimizer and its numbers.
    pub optimizer: OptimizerParams,
    /// The part of the corpus, at its end, that is held out where there is no `validation` input.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// The most tokens of held-out text that a validation looks at, taken from all over it; `all` takes the whole.
    pub validation_tokens: ValidationTokens,
    /// Steps between validations; 0 means only at the end.
    pub eval_every: u64,
    /// The seed of every draw.
    pub seed: u64,
}

/// How much held-out text is looked at.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ValidationTokens {
    /// At most so many tokens.
    Most(#[schemars(range(min = 1))] usize),
    /// The whole text.
    Whole(Whole),
}

/// The word for the whole text.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Whole {
    /// All of it.
    All,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            model: ModelParams::default(),
            steps: 1000,
            batch_size: 16,
            micro_batch: 0,
            execution: Execution::default(),
            learning_rate: 1e-3,
            schedule: Schedule { warmup: 50, ..Schedule::default() },
            optimizer: OptimizerParams::default(),
            validation_fraction: 0.05,
            validation_tokens: ValidationTokens::Most(VALIDATION_TOKENS),
            eval_every: 200,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "pretrain",
        6,
        "trains a base model on raw text by next-token prediction",
        (
            vec![
                input("tokenizer", &["tokenizer"], "how text becomes tokens"),
                input("corpus", &["corpus", "tokens"], "the text to train on"),
                optional(
                    "validation",
                    &["corpus"],
                    "held-out text; else the end of the corpus, and nothing of tokens",
                ),
            ],
            vec![output("model", "checkpoint", "the base model")],
        ),
        run,
    )
    .checked(check)
}

/// What the schema cannot say.
fn check(params: &Params) -> Result<(), String> {
    // The vocabulary is that of the tokenizer, and has no part in whether a shape is possible.
    params.model.config(1).map(|_| ()).map_err(|e| e.to_string())
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let tokenizer = Tokenizer::load(ctx.input("tokenizer")?).map_err(StageError::failed)?;
    let config = params.model.config(tokenizer.vocab_size()).map_err(StageError::failed)?;
    let micro = micro_batch(params.micro_batch, params.batch_size);
    footprint::check(ctx, &config, micro.saturating_mul(config.max_position_embeddings), params.execution)?;
    let context = config.max_position_embeddings;
    let corpus = ctx.input("corpus")?;
    let tokens = rows::are_tokens(corpus).then(|| rows::open(corpus, &tokenizer)).transpose()?;
    let (source, held_out) = match &tokens {
        Some(tokens) => on_disk(params, (&tokenizer, tokens), context, ctx)?,
        None => windows(params, &tokenizer, context, ctx)?,
    };
    let batch = |step: u64| source.batch(params, step);
    let model = Network::drawn(&config, params.seed, ctx.device()).executed(params.execution);
    ctx.log(format!(
        "{} parameters, {} tokens to train on, {} held out",
        config.parameters(),
        source.tokens(),
        held_out.as_ref().map_or(0, HeldOut::targets)
    ));
    let setup = TrainConfig {
        steps: params.steps,
        learning_rate: params.learning_rate,
        schedule: &params.schedule,
        optimizer: &params.optimizer,
        micro_batch: micro,
        eval_every: params.eval_every,
        batch: &batch,
        validate: &|model| {
            held_out.as_ref().map_or_else(|| Ok(Vec::new()), |held| held.measure(model, micro))
        },
        show: &|model, step| show(ctx, model, &tokenizer, params.seed, step),
    };
    let (model, last) = train(ctx, model, &setup)?;
    bundle::save(ctx.output("model")?, &model, &tokenizer, ctx.input("tokenizer")?)?;
    Ok(last.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// What rows are made of.
enum Source<'a> {
    /// A text of which windows are drawn.
    Windows(Windows),
    /// Tokens of which each epoch has every one once, with the number of tokens.
    Epochs(Epochs<'a>, u64),
}

impl Source<'_> {
    fn tokens(&self) -> u64 {
        match self {
            Self::Windows(windows) => windows.tokens() as u64,
            Self::Epochs(_, tokens) => *tokens,
        }
    }

    /// The rows of a step.
    fn batch(&self, params: &Params, step: u64) -> Result<Vec<TokenRow>, DataError> {
        let size = params.batch_size as u64;
        match self {
            Self::Windows(windows) => {
                (0..size).map(|i| windows.row(keyed(params.seed, "pretrain", step, i).random())).collect()
            }
            Self::Epochs(epochs, _) => {
                let rows = (step * size..(step + 1) * size).map(|number| epochs.row(number));
                Ok(rows.collect::<Result<Vec<_>, DataError>>()?.into_iter().flatten().collect())
            }
        }
    }
}

/// Windows of the corpus, and what is held out.
fn windows<'a>(
    params: &Params,
    tokenizer: &Tokenizer,
    time: usize,
    ctx: &Context,
) -> Result<(Source<'a>, Option<HeldOut>), StageError> {
    let (training, held_out) = split(params, tokenizer, time, ctx)?;
    let training = Windows::new(training, time).map_err(|e| {
        StageError::failed(format!("{e} (beside it, {} tokens are held out)", held_out.targets()))
    })?;
    Ok((Source::Windows(training), Some(held_out)))
}

/// Epochs of tokens on disk, and the validation text if one is given.
fn on_disk<'a>(
    params: &Params,
    (tokenizer, tokens): (&Tokenizer, &'a Tokens),
    time: usize,
    ctx: &Context,
) -> Result<(Source<'a>, Option<HeldOut>), StageError> {
    let source = Source::Epochs(Epochs::new(tokens, time + 1, params.seed)?, tokens.tokens());
    let validation = ctx.optional_input("validation");
    if validation.is_none() {
        ctx.warn("nothing of the tokens is held out; give the input `validation` for a validation loss");
    }
    Ok((source, validation.map(|path| validation_text(params, tokenizer, (path, time), ctx)).transpose()?))
}

fn most(params: &Params) -> usize {
    match params.validation_tokens {
        ValidationTokens::Most(most) => most,
        ValidationTokens::Whole(_) => usize::MAX,
    }
}

/// The validation text as rows.
fn validation_text(
    params: &Params,
    tokenizer: &Tokenizer,
    (path, time): (&Path, usize),
    ctx: &Context,
) -> Result<HeldOut, StageError> {
    let tokens = corpus::tokens(tokenizer, &Corpus::open(path)?, ctx.checkpoint())?;
    let held = HeldOut::new(tokenizer, tokens, time, most(params))?;
    match held.targets() {
        0 => Err(StageError::failed(format!("the validation text {} is empty", path.display()))),
        _ => Ok(held),
    }
}

/// The tokens to train on, and what is held out.
fn split(
    params: &Params,
    tokenizer: &Tokenizer,
    time: usize,
    ctx: &Context,
) -> Result<(TokenStore, HeldOut), StageError> {
    let tokens = |corpus: &Corpus| corpus::tokens(tokenizer, corpus, ctx.checkpoint());
    let corpus = Corpus::open(ctx.input("corpus")?)?;
    let Some(path) = ctx.optional_input("validation") else {
        let (training, held) = corpus.split(params.validation_fraction)?;
        let held = HeldOut::new(tokenizer, tokens(&held)?, time, most(params))?;
        return Ok((tokens(&training)?, held));
    };
    let held = validation_text(params, tokenizer, (path, time), ctx)?;
    Ok((tokens(&corpus)?, held))
}

fn show(
    ctx: &Context,
    model: &Network,
    tokenizer: &Tokenizer,
    seed: u64,
    step: u64,
) -> Result<(), StageError> {
    let sampling = Sampling {
        temperature: 0.8,
        max_new_tokens: 40,
        stop: Stop::Tokens(vec![tokenizer.eot()]),
        seed,
        purpose: "show",
        step,
    };
    let made = Generator::new(model).stream(&tokenizer.encode("\n"), &sampling, &mut |_| {})?;
    ctx.sample(step, "", &tokenizer.decode(&made.tokens));
    Ok(())
}
