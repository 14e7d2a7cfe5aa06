//! Learning-rate schedules.
//!
//! Purpose: the learning rate of each step.
//! Invariant: a pure function of the step.
//! Must not know: optimizers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls on a line.
    Linear,
    /// Falls on half a cosine (Loshchilov and Hutter 2017).
    Cosine,
    /// Stays for the first four fifths, then falls on a line (warm-up, stable, decay).
    Wsd,
}

/// A schedule: linear warm-up from 0, then the decay down to a part of the peak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-other-names" = {"floor": "min_lr_ratio", "warmup_steps": "warmup"}))]
pub struct Schedule {
    /// How the rate falls.
    pub decay: Decay,
    /// Steps of warm-up.
    pub warmup: u64,
    /// The rate at the end, as a part of the peak.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_lr_ratio: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { decay: Decay::Cosine, warmup: 0, min_lr_ratio: 0.1 }
    }
}

impl Schedule {
    /// Warns of a warm-up that takes longer than the run.
    pub fn look(&self, ctx: &Context, steps: u64) {
        if self.warmup >= steps {
            let reached = 100.0 * self.at(steps.saturating_sub(1), steps);
            let message = format!(
                "the warm-up of {} steps does not end in a run of {steps}: the learning rate reaches {reached:.0} % of its \
                 peak",
                self.warmup
            );
            ctx.health(
                0,
                "warmup-long",
                message,
                "lower `schedule.warmup`, to a tenth of the steps for example",
            );
        }
    }

    /// The rate of step `step` (from 0) of `total`, for a peak of 1.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup {
            return (step as f64 + 1.0) / (self.warmup as f64 + 1.0);
        }
        let span = total.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / span).min(1.0);
        let left = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Decay::Wsd => ((1.0 - done) / 0.2).min(1.0),
        };
        self.min_lr_ratio + (1.0 - self.min_lr_ratio) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_warms_up_peaks_and_ends_at_its_least() {
        let s = Schedule { decay: Decay::Cosine, warmup: 10, min_lr_ratio: 0.1 };
        assert!((s.at(0, 110) - 1.0 / 11.0).abs() < 1e-12);
        assert!((s.at(10, 110) - 1.0).abs() < 1e-12);
        assert!((s.at(60, 110) - 0.55).abs() < 1e-12);
        assert!((s.at(110, 110) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn the_other_decays_fall_as_named() {
        let at = |decay, step| Schedule { decay, warmup: 0, min_lr_ratio: 0.0 }.at(step, 100);
        assert_eq!(at(Decay::Constant, 99), 1.0);
        assert!((at(Decay::Linear, 25) - 0.75).abs() < 1e-12);
        assert_eq!(at(Decay::Wsd, 79), 1.0);
        assert!((at(Decay::Wsd, 80) - 1.0).abs() < 1e-12);
        assert!((at(Decay::Wsd, 90) - 0.5).abs() < 1e-12);
    }
}
