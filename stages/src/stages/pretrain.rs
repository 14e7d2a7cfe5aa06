//! `pretrain`: the base model, by next-token prediction on raw text.
//!
//! Purpose: tokenizer and corpus in, checkpoint out.
//! Invariant: the windows of a step depend on (seed, step, row) alone; the held-out part is never
//! trained on.
//! Must not know: what the base model will be asked.
//! Source: Radford 2019.

use kiln_formats::tokenizer::Tokenizer;
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::registry::{Entry, input, optional, output};
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{Corpus, TokenStore};
use crate::generate::{Generator, Sampling, Stop};
use crate::model::{Execution, ModelParams, Network};
use crate::rng::keyed;
use crate::train::corpus::{self, HeldOut, VALIDATION_TOKENS, Windows};
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
        5,
        "trains a base model on raw text by next-token prediction",
        (
            vec![
                input("tokenizer", &["tokenizer"], "how text becomes tokens"),
                input("corpus", &["corpus"], "the text to train on"),
                optional("validation", &["corpus"], "held-out text; else the end of the corpus"),
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
    let (training, held_out) = split(params, &tokenizer, config.max_position_embeddings, ctx)?;
    let training = Windows::new(training, config.max_position_embeddings).map_err(|e| {
        StageError::failed(format!("{e} (beside it, {} tokens are held out)", held_out.targets()))
    })?;
    let batch = |step: u64| {
        let row = |i| training.row(keyed(params.seed, "pretrain", step, i).random());
        (0..params.batch_size as u64).map(row).collect()
    };
    let model = Network::drawn(&config, params.seed, ctx.device()).executed(params.execution);
    ctx.log(format!(
        "{} parameters, {} tokens to train on, {} held out",
        config.parameters(),
        training.tokens(),
        held_out.targets()
    ));
    let setup = TrainConfig {
        steps: params.steps,
        learning_rate: params.learning_rate,
        schedule: &params.schedule,
        optimizer: &params.optimizer,
        micro_batch: micro,
        eval_every: params.eval_every,
        batch: &batch,
        validate: &|model| held_out.measure(model, micro),
        show: &|model, step| show(ctx, model, &tokenizer, params.seed, step),
    };
    let (model, last) = train(ctx, model, &setup)?;
    bundle::save(ctx.output("model")?, &model, &tokenizer, ctx.input("tokenizer")?)?;
    Ok(last.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The tokens to train on, and what is held out.
fn split(
    params: &Params,
    tokenizer: &Tokenizer,
    time: usize,
    ctx: &Context,
) -> Result<(TokenStore, HeldOut), StageError> {
    let most = match params.validation_tokens {
        ValidationTokens::Most(most) => most,
        ValidationTokens::Whole(_) => usize::MAX,
    };
    let tokens = |corpus: &Corpus| corpus::tokens(tokenizer, corpus, ctx.checkpoint());
    let held_out = |corpus: &Corpus| HeldOut::new(tokenizer, tokens(corpus)?, time, most);
    let corpus = Corpus::open(ctx.input("corpus")?)?;
    let Some(path) = ctx.optional_input("validation") else {
        let (training, held) = corpus.split(params.validation_fraction)?;
        return Ok((tokens(&training)?, held_out(&held)?));
    };
    let held = held_out(&Corpus::open(path)?)?;
    if held.targets() == 0 {
        return Err(StageError::failed(format!("the validation text {} is empty", path.display())));
    }
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
