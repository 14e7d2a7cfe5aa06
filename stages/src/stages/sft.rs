//! `sft`: supervised fine-tuning on demonstrations.
//!
//! Purpose: checkpoint and demonstrations in, checkpoint out.
//! Invariant: the loss is on response tokens and the stop token only; the order of a pass depends
//! on (seed, pass) alone.
//! Must not know: rankings, rewards.
//! Source: Ouyang 2022.

use kiln_formats::tokenizer::{Tokenizer, TokenizerError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, output};
use crate::adapter;
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Demonstration, Message, hold_out, spoken};
use crate::dialogue;
use crate::generate::{Sampling, Stop, generate};
use crate::model::{Execution, LoraParams, Network};
use crate::rng::pass_batch;
use crate::train::rows::{self, Examples};
use crate::train::run::{TrainConfig, train};
use crate::train::{OptimizerParams, Schedule, lm_loss, micro_batch};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Passes over the demonstrations, where `steps` is not given.
    #[schemars(range(max = 1000000.0), extend("exclusiveMinimum" = 0.0))]
    pub epochs: f64,
    /// Optimizer steps; none means as many as `epochs` need.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Demonstrations a step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Rows that go through the model at once; 0 means all.
    pub micro_batch: usize,
    /// How a batch goes through the model.
    #[serde(flatten)]
    pub execution: Execution,
    /// Trains an adapter of low rank in place of the model's own weights, which are frozen.
    pub lora: Option<LoraParams>,
    /// The peak learning rate.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub learning_rate: f64,
    /// How the rate runs.
    pub schedule: Schedule,
    /// The optimizer and its numbers.
    pub optimizer: OptimizerParams,
    /// The part of the demonstrations, at their end, that is held out.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub validation_fraction: f64,
    /// Steps between validations; 0 means only at the end.
    pub eval_every: u64,
    /// The seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            epochs: 3.0,
            steps: None,
            batch_size: 24,
            micro_batch: 0,
            execution: Execution::default(),
            lora: None,
            learning_rate: 1e-3,
            schedule: Schedule { warmup: 20, ..Schedule::default() },
            optimizer: OptimizerParams { weight_decay: 0.0, ..OptimizerParams::default() },
            validation_fraction: 0.05,
            eval_every: 100,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "sft",
        5,
        "fine-tunes a checkpoint on demonstrations, loss on responses only",
        (
            vec![
                input("model", &["checkpoint", "policy"], "the base model"),
                input(
                    "demonstrations",
                    &["demonstrations", "tokens"],
                    "what to learn to say: conversations, prompts with ideal responses, texts",
                ),
            ],
            vec![output("model", "checkpoint", "the SFT model")],
        ),
        run,
    )
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let (model, tokenizer) = bundle::load(ctx.input("model")?, ctx.device())?;
    let model = adapter::start(model, params.lora.as_ref(), params.seed)?.executed(params.execution);
    let context = model.config().max_position_embeddings;
    let (examples, shown) = examples(ctx, &tokenizer, context)?;
    let mut places: Vec<usize> = (0..examples.len()).collect();
    let held_out =
        hold_out(&mut places, params.validation_fraction, "demonstrations").map_err(StageError::failed)?;
    let held_out = examples.rows(held_out)?;
    let rows = places.len();
    let batches = rows.div_ceil(params.batch_size) as u64;
    let steps = params.steps.unwrap_or((params.epochs * batches as f64).ceil().max(1.0) as u64);
    let batch = |step: u64| examples.rows(pass_batch(params.seed, "sft", step, rows, params.batch_size));
    let micro = micro_batch(params.micro_batch, params.batch_size);
    let validate = |model: &Network| {
        if held_out.is_empty() {
            return Ok(Vec::new());
        }
        let (sum, count) = lm_loss(model, &held_out, micro)?;
        Ok(vec![("val/loss", sum / count as f64)])
    };
    let setup = TrainConfig {
        steps,
        learning_rate: params.learning_rate,
        schedule: &params.schedule,
        optimizer: &params.optimizer,
        micro_batch: micro,
        eval_every: params.eval_every,
        batch: &batch,
        validate: &validate,
        show: &|model, step| show(ctx, model, &tokenizer, &shown, params.seed, step),
    };
    let (model, last) = train(ctx, model, &setup)?;
    bundle::save(ctx.output("model")?, &model, &tokenizer, ctx.input("model")?)?;
    Ok(last.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The rows to learn from, and what to show answers to: the last demonstrations where these are no tokens.
fn examples(
    ctx: &Context,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<(Examples, Vec<Vec<Message>>), StageError> {
    let path = ctx.input("demonstrations")?;
    if rows::are_tokens(path) {
        let tokens = rows::open(path, tokenizer)?;
        let all = tokens.documents();
        let (examples, long) = Examples::fitting(tokens, context)?;
        if long > 0 {
            ctx.warn(format!("{long} of {all} demonstrations are longer than {context} tokens: left out"));
        }
        return Ok((examples, Vec::new()));
    }
    let demonstrations: Vec<Demonstration> = data::read(path)?;
    let rows = dialogue::demonstrations(ctx, tokenizer, &demonstrations, context)?;
    let last = rows.iter().rev().take(3).filter_map(|(place, _)| asked(&demonstrations[*place]));
    let shown = last.map(<[Message]>::to_vec).collect();
    Ok((Examples::Rows(rows.into_iter().map(|(_, row)| row).collect()), shown))
}

fn show(
    ctx: &Context,
    model: &Network,
    tokenizer: &Tokenizer,
    shown: &[Vec<Message>],
    seed: u64,
    step: u64,
) -> Result<(), StageError> {
    let context = model.config().max_position_embeddings;
    let max_new_tokens = 40.min(context / 2);
    let prompt = |turns: &Vec<Message>| tokenizer.prompt_ids_within(turns, context - max_new_tokens);
    let prompts =
        shown.iter().map(|turns| Ok(prompt(turns)?.0)).collect::<Result<Vec<_>, TokenizerError>>()?;
    let samples: Vec<u64> = (0..prompts.len() as u64).collect();
    let sampling = Sampling {
        temperature: 0.8,
        max_new_tokens,
        stop: Stop::Tokens(tokenizer.stops()),
        seed,
        purpose: "show",
        step,
    };
    for (turns, made) in shown.iter().zip(generate(model, &prompts, &samples, 8, &sampling)?) {
        ctx.sample(step, &spoken(turns), &tokenizer.decode(&made.tokens));
    }
    Ok(())
}

/// What a demonstration's last turn answers; none of a text.
fn asked(demonstration: &Demonstration) -> Option<&[Message]> {
    match demonstration {
        Demonstration::Chat(chat) => Some(&chat.messages[..chat.messages.len().saturating_sub(1)]),
        Demonstration::Text(_) => None,
    }
    .filter(|turns| !turns.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Chat;
    use crate::model::TokenRow;
    use crate::testing::{context, tokenizer};

    fn demonstrations(n: usize) -> Vec<Demonstration> {
        let messages = |i| {
            vec![
                Message::user(format!("the sun {i}")),
                Message::assistant(format!("over{}", " the hill".repeat(i))),
            ]
        };
        (0..n)
            .map(|i| Demonstration::Chat(Chat { messages: messages(i), prompt_turns: 1, tools: None }))
            .collect()
    }

    fn rows_of(demonstrations: &[Demonstration], longest: usize) -> Vec<TokenRow> {
        let folder = tempfile::tempdir().unwrap();
        let ctx = context(folder.path(), &Default::default());
        let rows = dialogue::demonstrations(&ctx, &tokenizer(), demonstrations, longest).unwrap();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn the_targets_are_the_response_and_the_stop_token() {
        let (tokenizer, demonstrations) = (tokenizer(), demonstrations(3));
        for (row, d) in rows_of(&demonstrations, 100).iter().zip(&demonstrations) {
            let Demonstration::Chat(chat) = d else { panic!("{d:?}") };
            let response = &chat.messages[1].content;
            assert_eq!(row.ids[..row.from], tokenizer.prompt_ids(&chat.messages[..1]).unwrap());
            assert_eq!(tokenizer.decode(&row.ids[row.from..row.ids.len() - 1]), *response);
            assert_eq!(row.ids.last(), Some(&tokenizer.stop()));
            assert_eq!(row.targets(), tokenizer.encode(response).len() + 1);
        }
    }

    #[test]
    fn of_a_conversation_every_turn_of_the_assistant_is_learnt_and_of_a_text_all() {
        let tokenizer = tokenizer();
        let said = ["the sun", "rose", "the birds", "sang"];
        let turn = |(i, text)| if i % 2 == 0 { Message::user(text) } else { Message::assistant(text) };
        let messages: Vec<Message> = said.into_iter().enumerate().map(turn).collect();
        let chat = Demonstration::Chat(Chat { messages, prompt_turns: 0, tools: None });
        let rows = rows_of(&[chat, Demonstration::Text("the hill".into())], 100);
        let targets: Vec<u32> = rows[0].places().map(|place| rows[0].ids[place]).collect();
        assert_eq!(targets, [tokenizer.response_ids("rose"), tokenizer.response_ids("sang")].concat());
        assert_eq!(rows[1].ids, [tokenizer.encode("the hill"), vec![tokenizer.eot()]].concat());
        assert_eq!(rows[1].targets(), rows[1].ids.len() - 1);
    }

    #[test]
    fn a_demonstration_that_does_not_fit_is_left_out_and_never_cut() {
        let demonstrations = demonstrations(3);
        let longest = rows_of(&demonstrations, 100).iter().map(|r| r.ids.len()).max().unwrap();
        assert_eq!(rows_of(&demonstrations, longest).len(), 3);
        let left = rows_of(&demonstrations, longest - 1);
        assert!(left.len() < 3 && left.iter().all(|r| r.ids.last() == Some(&tokenizer().stop())));
    }

    #[test]
    fn a_pass_visits_every_demonstration_once_in_an_order_of_its_own() {
        let rows = Examples::Rows(rows_of(&demonstrations(10), 200));
        let batch =
            |size: usize, seed: u64, step: u64| rows.rows(pass_batch(seed, "sft", step, 10, size)).unwrap();
        let pass = |seed: u64, pass: u64| -> Vec<TokenRow> {
            (pass * 3..(pass + 1) * 3).flat_map(|step| batch(4, seed, step)).collect()
        };
        for i in 0..4 {
            let seen = pass(1, i);
            assert!((0..10).all(|place| seen.contains(&rows.row(place).unwrap())) && seen.len() == 10);
            assert_ne!(seen, pass(1, i + 1));
            assert_ne!(seen, pass(2, i));
            assert_eq!(seen, pass(1, i));
        }
        assert_eq!(batch(4, 1, 2).len(), 2, "the last batch of a pass is ragged");
    }
}
