//! Tests of reward modelling and PPO: their formulas, on real models.

mod cuts;
mod health;
mod reward;
mod rollout;
mod update;

use crate::generate::{Sampling, Stop};
use crate::model::{ModelConfig, Network, Readout, TokenRow};
use crate::rl::RewardModel;
use crate::rl::rollout::{Models, RewardConfig, Rollout, rollout};
use crate::rl::update::{Learners, PpoConfig};
use crate::testing::{cpu, lively, tokens, wide};
use crate::train::state::Saved;
use crate::train::{OptimizerParams, Trainer};

/// The four models of PPO; the policy has moved away from the reference.
#[derive(Clone)]
struct Setting {
    policy: Network,
    reference: Network,
    value: Network,
    reward: RewardModel,
    prompts: Vec<Vec<u32>>,
    /// Ends about half of the responses.
    stop: u32,
}

const MAX_TOKENS: usize = 9;
const REWARDS: RewardConfig = RewardConfig {
    kl_coef: 0.3,
    gamma: 0.9,
    gae_lambda: 0.8,
    missing_eos_reward: Some(-1.0),
    batches: [8, 3],
    whiten: false,
};
const PPO: PpoConfig = PpoConfig {
    epochs: 2,
    minibatches: 2,
    cliprange: 0.2,
    cliprange_value: 0.2,
    value_coef: 0.1,
    temperature: 1.0,
    micro_batch: 4,
    learning_rate: 1e-3,
    value_learning_rate: 1e-3,
    seed: 3,
    iteration: 0,
};

impl Setting {
    fn new(config: &ModelConfig) -> Self {
        let scorer = |seed| lively(config, seed, &cpu()).with_value_head(seed);
        let prompt = |(i, &n): (usize, &usize)| tokens(&format!("prompt {i}"), n, config.vocab);
        let mut setting = Self {
            policy: lively(config, 1, &cpu()),
            reference: lively(config, 2, &cpu()),
            value: scorer(3),
            reward: RewardModel(scorer(4)),
            prompts: [3, 11, 1, 6, 6, 2, 8, 4].iter().enumerate().map(prompt).collect(),
            stop: u32::MAX,
        };
        let made = setting.rollout(1.0, &REWARDS).completions;
        let holds = |token: &u32| made.iter().filter(|c| c.tokens.contains(token)).count();
        let stop = (0..config.vocab as u32).find(|token| (3..=5).contains(&holds(token)));
        setting.stop = stop.expect("some token ends about half of the responses");
        setting
    }

    fn models(&self) -> Models<'_> {
        Models { policy: &self.policy, reference: &self.reference, value: &self.value, reward: &self.reward }
    }

    fn sampling(&self, temperature: f64) -> Sampling<'static> {
        Sampling {
            temperature,
            max_new_tokens: MAX_TOKENS,
            stop: Stop::Tokens(vec![self.stop]),
            seed: 5,
            purpose: "rollout",
            step: 0,
        }
    }

    fn rollout(&self, temperature: f64, config: &RewardConfig) -> Rollout {
        let keys: Vec<u64> = (0..self.prompts.len() as u64).collect();
        rollout(&self.models(), &self.prompts, &keys, &self.sampling(temperature), config).unwrap()
    }

    /// Experience for an update of this configuration.
    fn experience(&self, ppo: &PpoConfig) -> Rollout {
        let size = self.prompts.len().div_ceil(ppo.minibatches);
        let config = RewardConfig { batches: [size, ppo.micro_batch], whiten: true, ..REWARDS };
        self.rollout(ppo.temperature, &config)
    }

    /// The policy and the value model, ready to learn.
    fn learners(&self) -> Learners {
        let params = OptimizerParams { eps: 1e-5, weight_decay: 0.0, ..OptimizerParams::default() };
        let trainer = |model: &Network| Trainer::new(model.clone(), &params);
        Learners { policy: trainer(&self.policy), value: trainer(&self.value) }
    }
}

/// What is asked of rows, in f64.
fn outputs(model: &Network, rows: &[TokenRow], readout: Readout) -> Vec<f64> {
    wide(&model.outputs(rows, readout))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Everything that learners consist of: the bits of their tensors, and their counters.
fn contents(learners: &Learners) -> (Vec<(String, Vec<u32>)>, String) {
    let mut saved = Saved::default();
    learners.policy.save("policy", &mut saved);
    learners.value.save("value", &mut saved);
    let tensors = saved.tensors.iter().map(|(name, values)| (name.clone(), bits(values)));
    (tensors.collect(), serde_json::to_string(&saved.counters).unwrap())
}
