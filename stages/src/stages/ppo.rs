//! `ppo`: the policy, by proximal policy optimisation against a reward model.
//!
//! Purpose: SFT model, reward model and prompts in, policy out.
//! Invariant: prompts, responses and minibatches of an iteration depend on (seed, iteration) alone;
//! the first ratio is asserted to be 1; killed after any iteration and started again, it ends with the same bytes.
//! Must not know: who made the reward model.
//! Source: Schulman 2017, Ouyang 2022, Huang 2024.

use kiln_formats::tokenizer::Tokenizer;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registry::{Entry, input, optional, output};
use crate::context::{Context, StageError, Summary};
use crate::data::{self, Corpus, Prompt, last_said, spoken};
use crate::dialogue::{self, completion};
use crate::generate::{Sampling, Stop};
use crate::gold::{Gold, GoldOptions, Reply, Rule};
use crate::model::{Dtype, Execution, LoraParams, Network};
use crate::rl::advantage::{explained_variance, moments};
use crate::rl::health::Health;
use crate::rl::metrics::Measured;
use crate::rl::rollout::{Models, RewardConfig, Rollout, rollout};
use crate::rl::update::{Learners, PpoConfig, Pretraining, UpdateStats, update};
use crate::rl::{RewardModel, kl};
use crate::rng::permutation;
use crate::train::corpus::{Windows, tokens};
use crate::train::state::{self, Reader, Saved, State};
use crate::train::{Decay, OptimizerParams, Schedule, Trainer, micro_batch};
use crate::{adapter, bundle};

/// The kind's params.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Rollouts, each followed by an update.
    #[schemars(range(min = 1))]
    pub iterations: u64,
    /// Prompts a rollout.
    #[schemars(range(min = 1, max = 1048576))]
    pub prompts_per_batch: usize,
    /// The most tokens of a response.
    #[schemars(range(min = 1))]
    pub max_new_tokens: usize,
    /// The logits are divided by this, in rollouts and in training.
    #[schemars(range(min = 0.01, max = 1000.0))]
    pub temperature: f64,
    /// Passes over a rollout.
    #[schemars(range(min = 1))]
    pub epochs: u64,
    /// Minibatches a pass.
    #[schemars(range(min = 1))]
    pub minibatches: usize,
    /// Rows that go through a model at once; 0 means all of a minibatch.
    pub micro_batch: usize,
    /// How a batch goes through the model.
    #[serde(flatten)]
    pub execution: Execution,
    /// Trains an adapter of low rank in place of the model's own weights, which are frozen.
    pub lora: Option<LoraParams>,
    /// The policy's peak learning rate.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub learning_rate: f64,
    /// The value model's; none means the policy's.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub value_learning_rate: Option<f64>,
    /// How the rates run.
    pub schedule: Schedule,
    /// AdamW's numbers, for both models.
    pub optimizer: OptimizerParams,
    /// Weight of the KL penalty (beta).
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub kl_coef: f64,
    /// Adapts the weight so that the KL stays near this (Ziegler 2019); none means a fixed weight.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0.0))]
    pub kl_target: Option<f64>,
    /// Discount.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: f64,
    /// Trace decay of the advantages.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gae_lambda: f64,
    /// Clip range of the ratio.
    #[schemars(range(min = 0.0, max = 1000000.0))]
    pub cliprange: f64,
    /// Clip range of the values.
    #[schemars(range(min = 0.0, max = 1000000.0))]
    pub cliprange_value: f64,
    /// Weight of the value loss.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub value_coef: f64,
    /// Whether advantages are whitened.
    pub whiten_advantages: bool,
    /// Replaces the score of a response without stop token; null lets the reward model judge it too.
    #[schemars(range(min = -1000.0, max = 1000.0))]
    pub missing_eos_reward: Option<f64>,
    /// Weight of the loss on pretraining text (gamma of Ouyang 2022), where there is such an input.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub ptx_coef: f64,
    /// Rows of pretraining text a minibatch.
    #[schemars(range(min = 1, max = 1048576))]
    pub pretraining_rows: usize,
    /// The gold rule that is logged beside the reward, where it is `format` or there is a `lexicon` input.
    pub gold: GoldOptions,
    /// Iterations between samples of fixed prompts.
    pub eval_every: u64,
    /// The seed of every draw.
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            iterations: 50,
            prompts_per_batch: 64,
            max_new_tokens: 40,
            temperature: 1.0,
            epochs: 4,
            minibatches: 1,
            micro_batch: 0,
            execution: Execution::default(),
            lora: None,
            learning_rate: 1e-4,
            value_learning_rate: None,
            schedule: Schedule { decay: Decay::Linear, warmup: 0, min_lr_ratio: 0.0 },
            optimizer: OptimizerParams {
                eps: 1e-5,
                weight_decay: 0.0,
                beta2: 0.999,
                ..OptimizerParams::default()
            },
            kl_coef: 0.05,
            kl_target: None,
            gamma: 1.0,
            gae_lambda: 0.95,
            cliprange: 0.2,
            cliprange_value: 0.2,
            value_coef: 0.1,
            whiten_advantages: true,
            missing_eos_reward: Some(-1.0),
            ptx_coef: 1.0,
            pretraining_rows: 8,
            gold: GoldOptions::default(),
            eval_every: 10,
            seed: 1337,
        }
    }
}

/// The kind's entry.
pub fn entry() -> Entry {
    Entry::new(
        "ppo",
        4,
        "trains a policy against a reward model with PPO",
        (
            vec![
                input("model", &["checkpoint", "policy"], "the SFT model: start and reference"),
                input("reward", &["reward"], "the reward model; the value model starts from it"),
                input("prompts", &["prompts"], "what to respond to"),
                optional("pretraining", &["corpus"], "text whose loss is mixed in, to keep the language"),
                optional("lexicon", &["corpus"], "the text of the gold rule `verse`, which is only logged"),
            ],
            vec![output("policy", "policy", "the policy")],
        ),
        run,
    )
    .checked(check)
}

/// What changes while training.
#[derive(Clone)]
struct TrainState {
    learners: Learners,
    kl_coef: f64,
    health: Health,
}

impl State for TrainState {
    fn values(&self) -> usize {
        self.learners.policy.values() + self.learners.value.values()
    }

    fn save<'a>(&'a self, saved: &mut Saved<'a>) {
        self.learners.policy.save("policy", saved);
        self.learners.value.save("value", saved);
        saved.counter("kl_coef", self.kl_coef);
        saved.counter("health", &self.health);
    }

    fn restore(&mut self, from: &mut Reader) -> Result<(), String> {
        self.learners.policy.restore("policy", from)?;
        self.learners.value.restore("value", from)?;
        self.kl_coef = from.counter("kl_coef")?;
        self.health = from.counter("health")?;
        Ok(())
    }
}

/// What does not change while training.
struct PpoContext<'a> {
    params: &'a Params,
    ctx: &'a Context,
    tokenizer: &'a Tokenizer,
    reference: Network,
    reward: RewardModel,
    prompts: Vec<Prompt>,
    ids: Vec<Vec<u32>>,
    gold: Option<Gold>,
    pretraining: Option<Pretraining>,
}

/// What the schema cannot say.
fn check(params: &Params) -> Result<(), String> {
    let (rows, parts) = (params.prompts_per_batch, params.minibatches);
    let told = || {
        format!("`minibatches: {parts}` does not divide `prompts_per_batch: {rows}`: updates would differ")
    };
    rows.is_multiple_of(parts).then_some(()).ok_or_else(told)?;
    params.gold.check()
}

fn run(params: &Params, ctx: &Context) -> Result<Summary, StageError> {
    let device = ctx.device();
    let (policy, tokenizer) = bundle::load(ctx.input("model")?, device)?;
    let policy = adapter::start(policy, params.lora.as_ref(), params.seed)?.executed(params.execution);
    let context = policy.config().max_position_embeddings;
    let RewardModel(reward) = bundle::load_reward(ctx.input("reward")?, (&tokenizer, context), device)?;
    // What scores is not trained, and scores as it was published.
    let reward = reward.executed(Execution { dtype: Dtype::Float32, ..params.execution });
    let prompts: Vec<Prompt> = data::read(ctx.input("prompts")?)?;
    let room = dialogue::room(context, params.max_new_tokens)?;
    let (prompts, ids) = dialogue::fitting(ctx, &tokenizer, prompts, room)?;
    let (found, rows, room) = (prompts.len(), params.prompts_per_batch, params.max_new_tokens);
    if found < rows {
        let why = format!("{found} prompts leave room for {room} tokens, a rollout wants {rows}");
        return Err(StageError::failed(why));
    }
    let has_gold = ctx.optional_input("lexicon").is_some() || params.gold.rule == Rule::Format;
    let gold = has_gold.then(|| super::rank::gold(&params.gold, ctx)).transpose()?;
    let pretraining = pretraining(params, ctx, &tokenizer, context)?;
    let learners = Learners {
        policy: Trainer::new(policy.clone(), &params.optimizer),
        value: Trainer::new(reward.clone().executed(params.execution), &params.optimizer),
    };
    let reward = RewardModel(reward);
    let tokenizer = &tokenizer;
    let run =
        PpoContext { params, ctx, tokenizer, reference: policy, reward, prompts, ids, gold, pretraining };
    let (policy, summary) = run.train(learners)?;
    bundle::save(ctx.output("policy")?, &policy, tokenizer, ctx.input("model")?)?;
    Ok(summary)
}

fn pretraining(
    params: &Params,
    ctx: &Context,
    tokenizer: &Tokenizer,
    time: usize,
) -> Result<Option<Pretraining>, StageError> {
    let path = ctx.optional_input("pretraining").filter(|_| params.ptx_coef > 0.0);
    let Some(path) = path else { return Ok(None) };
    let tokens = tokens(tokenizer, &Corpus::open(path)?, ctx.checkpoint())?;
    let text = Windows::new(tokens, time).map_err(StageError::failed)?;
    Ok(Some(Pretraining { ptx_coef: params.ptx_coef, text, rows: params.pretraining_rows }))
}

impl PpoContext<'_> {
    /// The iterations. Each is, in this order: prompts and responses (`generate`); scores, log-probabilities, values
    /// (`rl/rollout`); rewards, advantages and returns (`rl/advantage`); passes over minibatches (`rl/update`) with their
    /// losses (`rl/losses`); the weight of the KL (`rl/kl`); signs that something goes wrong (`rl/health`).
    fn train(&self, learners: Learners) -> Result<(Network, Summary), StageError> {
        let params = self.params;
        params.schedule.look(self.ctx, params.iterations);
        let mut summary = Summary::new();
        let start = TrainState { learners, kl_coef: params.kl_coef, health: Health::default() };
        let end = state::run(self.ctx, start, params.iterations, |state, i| {
            let failed = |e: String| StageError::failed(format!("iteration {i}: {e}"));
            let batch = self.rollout(state, i).map_err(failed)?;
            let config = self.config(i, params.schedule.at(i, params.iterations));
            let mix = self.pretraining.as_ref();
            let stats = update(&mut state.learners, &batch, &config, mix).map_err(failed)?;
            summary = self.report(i + 1, &batch, &stats, state, config.learning_rate);
            if let Some(target) = params.kl_target {
                state.kl_coef = kl::adapted(state.kl_coef, batch.stats.k1, target, batch.rows.len());
            }
            Ok(())
        })?;
        Ok((end.learners.policy.model, summary))
    }

    /// Rows of a minibatch, and rows of it that go through a model at once.
    fn batches(&self) -> [usize; 2] {
        let size = self.params.prompts_per_batch.div_ceil(self.params.minibatches);
        [size, micro_batch(self.params.micro_batch, size)]
    }

    /// The responses of an iteration, to prompts that go round in keyed permutations.
    fn rollout(&self, state: &TrainState, iteration: u64) -> Result<Rollout, String> {
        let p = self.params;
        let prompts: Vec<Vec<u32>> = self.chosen(iteration).iter().map(|&i| self.ids[i].clone()).collect();
        let keys: Vec<u64> = (0..prompts.len() as u64).collect();
        let sampling = Sampling {
            temperature: p.temperature,
            max_new_tokens: p.max_new_tokens,
            stop: Stop::Tokens(self.tokenizer.stops()),
            seed: p.seed,
            purpose: "rollout",
            step: iteration,
        };
        let config = RewardConfig {
            kl_coef: state.kl_coef,
            gamma: p.gamma,
            gae_lambda: p.gae_lambda,
            missing_eos_reward: p.missing_eos_reward,
            batches: self.batches(),
            whiten: p.whiten_advantages,
        };
        let models = Models {
            policy: &state.learners.policy.model,
            reference: &self.reference,
            value: &state.learners.value.model,
            reward: &self.reward,
        };
        rollout(&models, &prompts, &keys, &sampling, &config)
    }

    fn chosen(&self, iteration: u64) -> Vec<usize> {
        let (n, size) = (self.ids.len() as u64, self.params.prompts_per_batch as u64);
        (iteration * size..(iteration + 1) * size)
            .scan((u64::MAX, Vec::new()), |(pass, order), at| {
                if *pass != at / n {
                    *pass = at / n;
                    *order = permutation(self.params.seed, "ppo-prompts", *pass, n as usize);
                }
                Some(order[(at % n) as usize])
            })
            .collect()
    }

    fn config(&self, iteration: u64, rate: f64) -> PpoConfig {
        let p = self.params;
        PpoConfig {
            epochs: p.epochs,
            minibatches: p.minibatches,
            cliprange: p.cliprange,
            cliprange_value: p.cliprange_value,
            value_coef: p.value_coef,
            temperature: p.temperature,
            micro_batch: self.batches()[1],
            learning_rate: p.learning_rate * rate,
            value_learning_rate: p.value_learning_rate.unwrap_or(p.learning_rate) * rate,
            seed: p.seed,
            iteration,
        }
    }

    /// Logs iteration `i` (from 1) under the names of TRL; returns the numbers for the summary.
    fn report(
        &self,
        i: u64,
        batch: &Rollout,
        stats: &UpdateStats,
        state: &mut TrainState,
        rate: f64,
    ) -> Summary {
        let (s, gold) = (&batch.stats, self.gold_mean(batch, i));
        let variance = explained_variance(&batch.returns.concat(), &batch.values.concat());
        let measured = Measured { rollout: s, update: stats, kl_coef: state.kl_coef, variance, gold, rate };
        self.ctx.metric(i, &measured.metrics(batch.rows.len(), self.pretraining.is_some()));
        for (code, message, advice) in state.health.look(s, stats, variance, self.params.max_new_tokens) {
            self.ctx.health(i, code, message, advice);
        }
        self.ctx.progress(i, self.params.iterations, || {
            let gold = gold.map(|gold| format!("  gold {gold:.3}")).unwrap_or_default();
            format!("score {:.2}  KL {:.2}{gold}  length {:.0}", s.score, s.k1, s.length)
        });
        let summary = [("score", s.score), ("KL", s.k1)].into_iter().chain(gold.map(|gold| ("gold", gold)));
        summary.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Mean gold reward of the rollout, and its first responses as samples now and then.
    fn gold_mean(&self, batch: &Rollout, iteration: u64) -> Option<f64> {
        let chosen = self.chosen(iteration - 1);
        let made: Vec<_> = batch.completions.iter().map(|c| completion(self.tokenizer, c)).collect();
        let prompt = |i: usize| &self.prompts[chosen[i]].prompt;
        if self.params.eval_every > 0 && iteration.is_multiple_of(self.params.eval_every) {
            let shown = made.iter().take(3).enumerate();
            shown.for_each(|(i, c)| self.ctx.sample(iteration, &spoken(prompt(i)), &c.text));
        }
        let pairs = made.iter().enumerate();
        let reply =
            pairs.map(|(i, c)| Reply { prompt: last_said(prompt(i)), text: &c.text, finished: c.finished });
        Some(moments(&self.gold.as_ref()?.score_all(&reply.collect::<Vec<_>>())).0)
    }
}

#[cfg(test)]
mod tests;
