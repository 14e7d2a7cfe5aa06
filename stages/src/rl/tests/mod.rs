//! Tests of reward modelling and PPO: their formulas, on real models.

mod health;
mod reward;
mod rollout;
mod update;

use crate::generate::{Sampling, Stop};
use crate::model::{Decoder, ModelConfig};
use crate::rl::rollout::{Models, Rollout, Shaping, rollout};
use crate::rl::scorer::Scorer;
use crate::testing::{cpu, lively, tokens};

/// The four models of PPO; the policy has moved away from the reference.
#[derive(Clone)]
struct Setting {
    policy: Decoder,
    reference: Decoder,
    value: Scorer,
    reward: Scorer,
    prompts: Vec<Vec<u32>>,
    /// Ends about half of the responses.
    stop: u32,
}

const MAX_TOKENS: usize = 9;
const SHAPING: Shaping =
    Shaping { beta: 0.3, gamma: 0.9, lambda: 0.8, missing_stop: Some(-1.0), micro_batch: 3, whiten: false };

impl Setting {
    fn new(config: &ModelConfig) -> Self {
        let scorer = |seed| Scorer::new(lively(config, seed, &cpu()), seed);
        let prompt = |(i, &n): (usize, &usize)| tokens(&format!("prompt {i}"), n, config.vocab);
        let mut setting = Self {
            policy: lively(config, 1, &cpu()),
            reference: lively(config, 2, &cpu()),
            value: scorer(3),
            reward: scorer(4),
            prompts: [3, 11, 1, 6, 6, 2, 8, 4].iter().enumerate().map(prompt).collect(),
            stop: u32::MAX,
        };
        let made = setting.rollout(1.0, &SHAPING).completions;
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
            max_tokens: MAX_TOKENS,
            stop: Stop::Token(self.stop),
            seed: 5,
            purpose: "rollout",
            step: 0,
            banned: &[],
        }
    }

    fn rollout(&self, temperature: f64, shaping: &Shaping) -> Rollout {
        let keys: Vec<u64> = (0..self.prompts.len() as u64).collect();
        rollout(&self.models(), &self.prompts, &keys, &self.sampling(temperature), shaping).unwrap()
    }
}
