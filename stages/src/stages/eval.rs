//! `eval`: what every model of the ladder is worth, on held-out prompts.
//!
//! Purpose: base, SFT model, policy and people answer the same prompts; the gold rule scores them.
//! Invariant: nothing that was trained on is asked; answer i of a model depends on (seed, i) alone.
//! Must not know: how the models came about.
//! Source: Gao 2022 (best of n).

use std::path::Path;

use kiln_formats::tokenizer::Tokenizer;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, optional, output};
use crate::bundle;
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Completion, Corpus, Prompt, last_said, spoken};
use crate::dialogue::{self, completion};
use crate::evaluate::{Answers, Evaluation, Report, Scored, ValidationLoss, write_report};
use crate::generate::{self, Generator, Sampling, Stop, generate};
use crate::gold::{Gold, GoldOptions, Reply};
use crate::model::{Network, TokenRow};
use crate::train::corpus::{HeldOut, VALIDATION_TOKENS, tokens};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Takes only the first so many held-out prompts.
    #[schemars(range(min = 2))]
    pub prompts: usize,
    /// The most tokens of an answer.
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// The logits are divided by this; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub temperature: f64,
    /// Samples a prompt for the best-of-n curve of the SFT model; 0 leaves it out.
    #[schemars(range(max = 4096))]
    pub best_of: usize,
    /// The rule that scores answers.
    pub gold: GoldOptions,
    /// Prompts that the report shows with all answers.
    pub shown: usize,
    /// Rows that go through a model at once.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// The seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            prompts: 256,
            max_new_tokens: 40,
            temperature: 1.0,
            best_of: 8,
            gold: GoldOptions::default(),
            shown: 8,
            batch_size: 64,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "eval",
        5,
        "compares base, SFT model and policy on held-out prompts",
        (
            vec![
                input("sft", &["checkpoint", "policy"], "the SFT model"),
                input("prompts", &["prompts"], "held-out prompts, with people's answers where known"),
                optional("lexicon", &["corpus"], "the text of the gold rule `verse`"),
                optional(
                    "base",
                    &["checkpoint", "policy"],
                    "the base model; without a chat template, asked with a page that ends where its speech begins",
                ),
                optional("policy", &["policy"], "the policy"),
                optional("reward", &["reward"], "the reward model, for the best-of-n curve"),
                optional("validation", &["corpus"], "held-out text, for loss and bits per byte"),
            ],
            vec![output("report", "report", "report.json and report.md")],
        ),
        run,
    )
    .checked(|params: &Params| params.gold.check())
}

/// What all models are asked and how.
struct EvalContext<'a> {
    params: &'a Params,
    ctx: &'a Context,
    prompts: Vec<Prompt>,
    gold: Gold,
    validation: Option<Corpus>,
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let context = EvalContext::new(params, ctx)?;
    let models = [("base", "base"), ("sft", "sft"), ("policy", "policy")];
    let present: Vec<_> =
        models.iter().filter_map(|(name, port)| Some((*name, ctx.optional_input(port)?))).collect();
    let steps = present.len() as u64 + 1;
    let mut answers = Vec::new();
    for (i, (name, folder)) in present.iter().enumerate() {
        if ctx.should_stop() {
            return Err(StageError::Interrupted);
        }
        let made = context.evaluate(name, folder);
        answers.push(made.map_err(|e| match e {
            StageError::Failed(message) => StageError::Failed(format!("{name}: {message}")),
            StageError::Interrupted => e,
        })?);
        ctx.progress(i as u64 + 1, steps, || format!("{name} has answered"));
    }
    if let Some(people) = context.people() {
        answers.push(people);
    }
    let best_of_n = context.best_of_n()?;
    let evaluation = Evaluation {
        prompts: context.prompts.iter().map(|p| spoken(&p.prompt)).collect(),
        answers,
        best_of_n,
        shown: params.shown,
        seed: params.seed,
    };
    let report = Report::new(&evaluation).map_err(StageError::failed)?;
    write_report(ctx.output("report")?, &report).map_err(StageError::failed)?;
    ctx.progress(steps, steps, || "report written".to_owned());
    let metrics: Vec<(&str, f64)> = report.metrics.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    ctx.metric(0, &metrics);
    let shown = ["gold/base", "gold/sft", "gold/policy"];
    let named = |name: &&str| report.metrics.get(*name).map(|v| ((*name).to_owned(), *v));
    Ok(shown.iter().filter_map(named).collect())
}

impl<'a> EvalContext<'a> {
    fn new(params: &'a Params, ctx: &'a Context) -> Result<Self, StageError> {
        let gold = super::rank::gold(&params.gold, ctx)?;
        let mut prompts: Vec<Prompt> = data::read(ctx.input("prompts")?)?;
        prompts.truncate(params.prompts);
        let validation = ctx.optional_input("validation").map(Corpus::open).transpose()?;
        Ok(Self { params, ctx, prompts, gold, validation })
    }

    /// A model's answers, scored.
    fn evaluate(&self, name: &str, folder: &Path) -> Result<Answers, StageError> {
        let (model, tokenizer) = bundle::load(folder, self.ctx.device())?;
        // Somebody else's model may well know a chat template before it is tuned here.
        let replies = if name == "base" && !tokenizer.has_template_of_its_own() {
            self.continued_pages(&model, &tokenizer)?
        } else {
            self.replies(&model, &tokenizer, &self.chat_prompts(&tokenizer, &model)?)?
        };
        for (prompt, reply) in self.prompts.iter().zip(&replies).take(3) {
            self.ctx.sample(0, &spoken(&prompt.prompt), &format!("{name}: {}", reply.text));
        }
        Ok(Answers { loss: self.loss(&model, &tokenizer)?, ..self.scored(name, replies) })
    }

    fn chat_prompts(&self, tokenizer: &Tokenizer, model: &Network) -> Result<Vec<Vec<u32>>, StageError> {
        let room = dialogue::room(model.config().max_position_embeddings, self.params.max_new_tokens)?;
        // Everybody must answer every prompt.
        dialogue::shortened(self.ctx, tokenizer, &self.prompts, room)
    }

    fn replies(
        &self,
        model: &Network,
        tokenizer: &Tokenizer,
        ids: &[Vec<u32>],
    ) -> Result<Vec<Completion>, StageError> {
        let keys: Vec<u64> = (0..ids.len() as u64).collect();
        let sampling = self.sampling(Stop::Tokens(tokenizer.stops()), "eval");
        let made = generate(model, ids, &keys, self.params.batch_size, &sampling)?;
        Ok(made.iter().map(|c| completion(tokenizer, c)).collect())
    }

    fn sampling(&self, stop: Stop<'a>, purpose: &'static str) -> Sampling<'a> {
        Sampling {
            temperature: self.params.temperature,
            max_new_tokens: self.params.max_new_tokens,
            stop,
            seed: self.params.seed,
            purpose,
            step: 0,
        }
    }

    /// The base model knows no chat template: it is given a page of dialogue that ends where its
    /// speech begins, and is stopped at the blank line that ends a speech.
    fn continued_pages(&self, model: &Network, tokenizer: &Tokenizer) -> Result<Vec<Completion>, StageError> {
        let room = dialogue::room(model.config().max_position_embeddings, self.params.max_new_tokens)?;
        let texts: Vec<String> = self.prompts.iter().map(|p| format!("{}\n\n", spoken(&p.prompt))).collect();
        let pages = dialogue::pages(self.ctx, tokenizer, &texts, room);
        let eot = tokenizer.eot();
        let ends = |tokens: &[u32]| tokens.last() == Some(&eot) || tokenizer.decode(tokens).contains("\n\n");
        let keys: Vec<u64> = (0..pages.len() as u64).collect();
        let sampling = Sampling {
            temperature: self.params.temperature,
            max_new_tokens: self.params.max_new_tokens,
            stop: Stop::When(&ends),
            seed: self.params.seed,
            purpose: "eval",
            step: 0,
        };
        let made = generate(model, &pages, &keys, self.params.batch_size, &sampling)?;
        let text = |tokens: &[u32]| {
            let body = tokens.strip_suffix(&[eot]).unwrap_or(tokens);
            tokenizer.decode(body).split("\n\n").next().unwrap_or("").trim().to_owned()
        };
        Ok(made
            .iter()
            .map(|c| Completion { text: text(&c.tokens), finished: c.finished, tokens: Vec::new() })
            .collect())
    }

    fn scored(&self, name: &str, replies: Vec<Completion>) -> Answers {
        let asked: Vec<Reply> = self
            .prompts
            .iter()
            .zip(&replies)
            .map(|(p, r)| Reply { prompt: last_said(&p.prompt), text: &r.text, finished: r.finished })
            .collect();
        let gold = self.gold.score_all(&asked);
        let all = self.gold.parts_of_all(&asked);
        let mut parts: Vec<(String, f64)> = Vec::new();
        if let Some(first) = all.first() {
            for (i, (part, _)) in first.iter().enumerate() {
                let mean = all.iter().map(|p| p[i].1).sum::<f64>() / all.len() as f64;
                parts.push(((*part).to_owned(), mean));
            }
        }
        Answers { name: name.to_owned(), replies, gold, parts, loss: None }
    }

    fn people(&self) -> Option<Answers> {
        let reply =
            |p: &Prompt| Some(Completion { text: p.response.clone()?, finished: true, tokens: Vec::new() });
        let replies: Option<Vec<Completion>> = self.prompts.iter().map(reply).collect();
        Some(self.scored("human", replies?))
    }

    fn loss(&self, model: &Network, tokenizer: &Tokenizer) -> Result<Option<ValidationLoss>, StageError> {
        let Some(text) = &self.validation else { return Ok(None) };
        let tokens = tokens(tokenizer, text, self.ctx.checkpoint())?;
        let time = model.config().max_position_embeddings;
        let held_out = HeldOut::new(tokenizer, tokens, time, VALIDATION_TOKENS)?;
        if held_out.targets() == 0 {
            return Err(StageError::failed("the validation text is empty"));
        }
        let (nats, tokens, bytes) = held_out.sums(model, self.params.batch_size)?;
        Ok(Some(ValidationLoss {
            nats_per_token: nats / tokens as f64,
            tokens: tokens as u64,
            bytes: bytes as u64,
        }))
    }

    /// Samples of the SFT model, scored by the reward model and by gold.
    fn best_of_n(&self) -> Result<Vec<Vec<Scored>>, StageError> {
        let Some(reward) = self.ctx.optional_input("reward") else { return Ok(Vec::new()) };
        if self.params.best_of == 0 {
            return Ok(Vec::new());
        }
        let (model, tokenizer) = bundle::load(self.ctx.input("sft")?, self.ctx.device())?;
        let scorer = bundle::load_reward(
            reward,
            (&tokenizer, model.config().max_position_embeddings),
            self.ctx.device(),
        )?;
        let prompts = self.chat_prompts(&tokenizer, &model)?;
        let generator = Generator::new(&model);
        let mut out = vec![Vec::with_capacity(self.params.best_of); prompts.len()];
        for n in 0..self.params.best_of {
            if self.ctx.should_stop() {
                return Err(StageError::Interrupted);
            }
            let keys: Vec<u64> = (0..prompts.len()).map(|i| (i * self.params.best_of + n) as u64).collect();
            let sampling = self.sampling(Stop::Tokens(tokenizer.stops()), "best-of-n");
            let made = generator.generate(&prompts, &keys, self.params.batch_size, &sampling)?;
            // The very tokens that the model was asked with and answered.
            let row = |(prompt, made): (&Vec<u32>, &generate::Completion)| {
                TokenRow::new([prompt.as_slice(), &made.tokens].concat(), prompt.len())
            };
            let proxies = scorer.score_all(&prompts.iter().zip(&made).map(row).collect::<Vec<_>>())?;
            let gold = self.scored("", made.iter().map(|c| completion(&tokenizer, c)).collect()).gold;
            for (i, slot) in out.iter_mut().enumerate() {
                slot.push(Scored { proxy: f64::from(proxies[i]), gold: gold[i] });
            }
        }
        Ok(out)
    }
}
