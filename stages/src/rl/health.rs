//! Signs that RL goes wrong, in plain words.
//!
//! Purpose: watches an update's numbers and says what was seen and what to try.
//! Invariant: watching changes nothing; what must outlast a kill is in `Health` and saved.
//! Must not know: models, tensors.
//! Source: Huang 2024.

use serde::{Deserialize, Serialize};

use super::rollout::RolloutStats;
use super::update::UpdateStats;

/// Updates in a row before a KL outside its range is a sign.
const PATIENCE: u32 = 20;

/// What has been seen so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Health {
    high_kl: u32,
    negative_kl: u32,
    poor_values: u32,
    first_length: Option<f64>,
    said: Vec<String>,
}

/// A sign: its code, what was seen, what to try.
pub type Sign = (&'static str, String, &'static str);

impl Health {
    /// Looks at an update; returns each sign once a run.
    pub fn look(
        &mut self,
        rollout: &RolloutStats,
        update: &UpdateStats,
        explained_variance: Option<f64>,
        max_new_tokens: usize,
    ) -> Vec<Sign> {
        let count = |n: u32, seen: bool| if seen { n + 1 } else { 0 };
        self.high_kl = count(self.high_kl, rollout.k1 > 10.0);
        self.negative_kl = count(self.negative_kl, rollout.k1 < 0.0);
        self.poor_values = count(self.poor_values, explained_variance.is_some_and(|v| v < 0.0));
        let first = *self.first_length.get_or_insert(rollout.length);
        let mut signs = self.of_kl(rollout);
        signs.extend(of_update(update));
        if rollout.length > 0.95 * max_new_tokens as f64 && rollout.length > 1.5 * first {
            let text = format!(
                "responses grew from {first:.0} to {:.0} tokens, the limit is {max_new_tokens}",
                rollout.length
            );
            signs.push(("length-exploding", text, "raise kl_coef, or look at what the reward model likes"));
        }
        if let Some(variance) = explained_variance.filter(|_| self.poor_values >= PATIENCE) {
            let text = format!(
                "explained variance {variance:.2} below 0 for {PATIENCE} updates: the values predict less than their mean"
            );
            signs.push(("values-poor", text, "raise value_learning_rate, or warm the value model up"));
        }
        signs.retain(|(code, ..)| !self.said.iter().any(|s| s == code));
        self.said.extend(signs.iter().map(|(code, ..)| (*code).to_owned()));
        signs
    }

    fn of_kl(&self, rollout: &RolloutStats) -> Vec<Sign> {
        let mut signs: Vec<Sign> = Vec::new();
        if self.high_kl >= PATIENCE {
            let text =
                format!("KL {:.1} above 10 for {PATIENCE} updates: the policy is leaving SFT", rollout.k1);
            signs.push(("kl-high", text, "raise kl_coef, or lower learning_rate"));
        }
        if self.negative_kl >= PATIENCE {
            let text = format!(
                "KL {:.2} below 0 for {PATIENCE} updates: sampling and log-probabilities differ",
                rollout.k1
            );
            signs.push(("kl-negative", text, "set temperature to 1, and report this"));
        }
        signs
    }
}

fn of_update(update: &UpdateStats) -> Vec<Sign> {
    let mut signs: Vec<Sign> = Vec::new();
    if (update.ratio - 1.0).abs() > 0.2 {
        let text = format!("the mean ratio is {:.2}", update.ratio);
        signs.push(("ratio-far", text, "lower learning_rate or epochs"));
    }
    if update.clip_fraction > 0.3 {
        let text = format!("{:.0} % of the tokens are clipped", update.clip_fraction * 100.0);
        signs.push(("clip-high", text, "lower learning_rate or epochs"));
    }
    signs
}
