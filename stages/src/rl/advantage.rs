//! Rewards, values and advantages of one response.
//!
//! Purpose: generalised advantage estimation (Schulman 2016) and whitening, in f64 on the host.
//! Invariant: returns are computed before whitening; the value after the last token is 0.
//! Must not know: tensors, models.

/// The advantages and returns of one response: `delta_t = r_t + gamma V_{t+1} - V_t`,
/// `A_t = delta_t + gamma lambda A_{t+1}`, `R_t = A_t + V_t`, with `V` 0 after the end.
///
/// `rewards` and `values` have one entry a response token; `values[t]` is read at the state before
/// token t.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    let n = rewards.len();
    let mut advantages = vec![0.0; n];
    let mut following = 0.0;
    for t in (0..n).rev() {
        let next_value = values.get(t + 1).copied().unwrap_or(0.0);
        let delta = rewards[t] + gamma * next_value - values[t];
        following = delta + gamma * lambda * following;
        advantages[t] = following;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// Mean and biased variance.
pub fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

/// `(x - mean) / sqrt(var + 1e-8)` over all entries, biased variance.
pub fn whiten(values: &mut [f64]) {
    let (mean, variance) = moments(values);
    let scale = 1.0 / (variance + 1e-8).sqrt();
    values.iter_mut().for_each(|x| *x = (*x - mean) * scale);
}

/// Per-token rewards: `-beta (logp - logp_ref)`, plus the score at the last token.
pub fn token_rewards(logprobs: &[f32], reference: &[f32], beta: f64, score: f64) -> Vec<f64> {
    let mut rewards: Vec<f64> =
        logprobs.iter().zip(reference).map(|(p, r)| -beta * (f64::from(*p) - f64::from(*r))).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// `1 - var(returns - values) / var(returns)`: 1 when the values predict the returns, 0 when they
/// do no better than their mean. None where returns do not vary.
pub fn explained_variance(returns: &[f64], values: &[f64]) -> Option<f64> {
    let errors: Vec<f64> = returns.iter().zip(values).map(|(r, v)| r - v).collect();
    let total = moments(returns).1;
    (total > 0.0).then(|| 1.0 - moments(&errors).1 / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12), "{a:?} {b:?}");
    }

    #[test]
    fn gae_of_three_tokens_is_as_computed_by_hand() {
        // gamma .5, lambda .5: deltas are 0 + .5*.4 - .2 = 0, .1 + .5*.6 - .4 = 0, 1 + 0 - .6 = .4.
        let (advantages, returns) = gae(&[0.0, 0.1, 1.0], &[0.2, 0.4, 0.6], 0.5, 0.5);
        close(&advantages, &[0.025, 0.1, 0.4]);
        close(&returns, &[0.225, 0.5, 1.0]);
    }

    #[test]
    fn with_gamma_and_lambda_1_the_return_is_the_sum_of_what_follows() {
        let (_, returns) = gae(&[1.0, 2.0, 3.0], &[9.0, -4.0, 0.5], 1.0, 1.0);
        close(&returns, &[6.0, 5.0, 3.0]);
    }

    #[test]
    fn whitening_uses_the_biased_variance() {
        let mut xs = [1.0, 3.0];
        whiten(&mut xs);
        let s = 1.0 / (1.0f64 + 1e-8).sqrt();
        close(&xs, &[-s, s]);
    }

    #[test]
    fn the_score_stands_at_the_last_token_and_the_kl_at_each() {
        close(&token_rewards(&[-1.0, -2.0], &[-1.5, -1.0], 0.5, 3.0), &[-0.25, 3.5]);
    }

    #[test]
    fn explained_variance_is_1_for_perfect_values_and_0_for_the_mean() {
        assert_eq!(explained_variance(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), Some(1.0));
        assert_eq!(explained_variance(&[1.0, 2.0, 3.0], &[2.0, 2.0, 2.0]), Some(0.0));
        assert_eq!(explained_variance(&[1.0, 1.0], &[0.0, 5.0]), None);
    }
}
