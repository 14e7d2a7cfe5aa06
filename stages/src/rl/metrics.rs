//! What an iteration of PPO logs.
//!
//! Purpose: the metrics by the names that users of TRL know.
//! Invariant: what is not known is not a number, and left out by who logs.
//! Must not know: models, where the metrics go.

use super::rollout::RolloutStats;
use super::update::UpdateStats;

/// What was measured in an iteration.
pub struct Measured<'a> {
    /// Of the responses.
    pub rollout: &'a RolloutStats,
    /// Of the update.
    pub update: &'a UpdateStats,
    /// Weight of the KL penalty.
    pub kl_coef: f64,
    /// The explained variance of the values.
    pub variance: Option<f64>,
    /// Mean gold reward.
    pub gold: Option<f64>,
    /// Learning rate of the policy.
    pub rate: f64,
}

impl Measured<'_> {
    /// Name and value, for so many responses; `mixes` says that pretraining text is mixed in.
    pub fn metrics(&self, responses: usize, mixes: bool) -> [(&'static str, f64); 24] {
        let (s, u, nan) = (self.rollout, self.update, f64::NAN);
        [
            ("objective/scores", s.score),
            ("objective/gold", self.gold.unwrap_or(nan)),
            ("objective/kl", s.k1),
            ("objective/kl_k3", s.k3),
            ("objective/kl_exact", s.exact_kl.unwrap_or(nan)),
            ("objective/entropy", s.entropy.unwrap_or(nan) * s.length),
            ("objective/rlhf_reward", s.score - self.kl_coef * s.k1),
            ("objective/non_score_reward", -self.kl_coef * s.k1),
            ("objective/beta", self.kl_coef),
            ("policy/approxkl_avg", u.approx_kl),
            ("policy/clipfrac_avg", u.clip_fraction),
            ("policy/entropy_avg", s.entropy.unwrap_or(nan)),
            ("policy/grad_norm", u.grad_norm),
            ("loss/policy_avg", u.policy_loss),
            ("loss/value_avg", u.value_loss),
            ("loss/pretraining_avg", if mixes { u.pretraining_loss } else { nan }),
            ("val/clipfrac_avg", u.value_clip_fraction),
            ("val/ratio", u.ratio),
            ("val/ratio_var", u.ratio_variance),
            ("val/num_eos_tokens", s.finished * responses as f64),
            ("val/explained_variance", self.variance.unwrap_or(nan)),
            ("response/length", s.length),
            ("response/repeats", s.repeats),
            ("lr", self.rate),
        ]
    }
}
