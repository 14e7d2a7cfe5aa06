//! The KL divergence from the reference: estimates, and the coefficient that weighs it.
//!
//! Purpose: k1, k2, k3 over samples of the policy; the adaptive controller.
//! Invariant: the estimates are sums over the tokens of one response. (`advantage` takes k1 into the reward.)
//! Must not know: models.
//! Source: Schulman 2020 (estimators); Ziegler 2019 (controller).

/// Sums over one response's tokens of the three estimates, with `l = logp - logp_ref`: `k1 = l`,
/// `k2 = l^2 / 2`, `k3 = exp(-l) - 1 + l`.
pub fn estimates(logprobs: &[f32], reference: &[f32]) -> [f64; 3] {
    logprobs.iter().zip(reference).fold([0.0; 3], |[k1, k2, k3], (p, r)| {
        let l = f64::from(*p) - f64::from(*r);
        [k1 + l, k2 + l * l / 2.0, k3 + (-l).exp() - 1.0 + l]
    })
}

/// The adaptive controller: `e = clip(KL / target - 1, +-0.2)`, `beta *= 1 + e n / 10000` for `n`
/// episodes, of which no more than 10,000 count, so that the weight stays above 0.
pub fn adapted(beta: f64, kl: f64, target: f64, episodes: usize) -> f64 {
    let error = (kl / target - 1.0).clamp(-0.2, 0.2);
    beta * (1.0 + error * episodes.min(10_000) as f64 / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimates_are_as_computed_by_hand() {
        let [k1, k2, k3] = estimates(&[-1.0, -3.0], &[-2.0, -2.0]);
        assert_eq!(k1, 0.0);
        assert_eq!(k2, 1.0);
        assert!((k3 - ((-1.0f64).exp() + 1.0f64.exp() - 2.0)).abs() < 1e-12);
    }

    #[test]
    fn the_controller_moves_beta_by_at_most_a_fifth_of_the_episodes_share() {
        assert!((adapted(0.1, 12.0, 6.0, 1000) - 0.102).abs() < 1e-12);
        assert!((adapted(0.1, 0.0, 6.0, 1000) - 0.098).abs() < 1e-12);
        assert!((adapted(0.1, 6.6, 6.0, 1000) - 0.101).abs() < 1e-9);
    }
}
