//! PPO's losses.
//!
//! Purpose: the clipped surrogate and the clipped value loss over the valid tokens of a minibatch.
//! Invariant: means run over all valid tokens of the whole minibatch (the caller says how many, so
//! that micro-batches add up).
//! Must not know: rollouts, models.
//! Source: Schulman 2017; Huang 2024 for the details.

use burn::tensor::Tensor;

/// A loss to take the gradient of, `[1]`, and what to log of it.
pub struct PolicyLoss {
    /// `sum max(-A ratio, -A clip(ratio, 1 +- c)) / tokens`.
    pub loss: Tensor<1>,
    /// `exp(logp - logp_old)` of each token, `[n]`.
    pub ratio: Tensor<1>,
    /// The tokens whose clipped term is the larger one, so that they give no gradient.
    pub clipped: f64,
}

/// The loss of the values, and what to log of it.
pub struct ValueLoss {
    /// `1/2 sum max((V - R)^2, (clip(V, V_old +- c) - R)^2) / tokens`.
    pub loss: Tensor<1>,
    /// The tokens whose clipped term is the larger one.
    pub clipped: f64,
}

/// The larger of two terms a token, `[n]`, and how often that is the clipped one.
fn larger(plain: Tensor<1>, clipped: Tensor<1>) -> (Tensor<1>, f64) {
    let is_clipped = clipped.clone().detach().greater(plain.clone().detach());
    let count = is_clipped.float().sum().into_scalar::<f32>();
    (plain.max_pair(clipped), f64::from(count))
}

/// The clipped surrogate. All tensors `[n]`; `tokens` is the number of tokens of the minibatch.
pub fn policy_loss(
    logprobs: Tensor<1>,
    old: Tensor<1>,
    advantages: Tensor<1>,
    clip: f64,
    tokens: usize,
) -> PolicyLoss {
    let ratio = (logprobs - old).exp();
    let plain = advantages.clone().neg() * ratio.clone();
    let clipped = advantages.neg() * ratio.clone().clamp(1.0 - clip, 1.0 + clip);
    let (larger, clipped) = larger(plain, clipped);
    PolicyLoss { loss: larger.sum() / tokens as f64, ratio: ratio.detach(), clipped }
}

/// The clipped loss of the values. All tensors `[n]`; `tokens` is the number of tokens of the minibatch.
pub fn value_loss(
    values: Tensor<1>,
    old: Tensor<1>,
    returns: Tensor<1>,
    clip: f64,
    tokens: usize,
) -> ValueLoss {
    let moved = (values.clone() - old.clone()).clamp(-clip, clip) + old;
    let plain = (values - returns.clone()).square();
    let clipped = (moved - returns).square();
    let (larger, clipped) = larger(plain, clipped);
    ValueLoss { loss: larger.sum() * 0.5 / tokens as f64, clipped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex().autodiff())
    }

    #[test]
    fn the_surrogate_of_three_tokens_is_as_computed_by_hand() {
        // Ratios e^.5 (clipped to 1.2 for a gain), e^-.5 (clipped to .8 for a loss), and 1.
        let out =
            policy_loss(tensor(&[0.5, -0.5, 0.0]), tensor(&[0.0; 3]), tensor(&[1.0, -1.0, 2.0]), 0.2, 3);
        // The gain beyond 1.2 and the loss below .8.
        assert_eq!(out.clipped, 2.0);
        let got: f32 = out.loss.into_scalar();
        assert!((f64::from(got) - (-1.2 + 0.8 - 2.0) / 3.0).abs() < 1e-6, "{got}");
    }

    #[test]
    fn a_token_that_its_clipped_term_does_not_hold_back_is_not_counted() {
        // Ratios beyond the range, where the advantage draws them back into it.
        let out = policy_loss(tensor(&[0.5, -0.5]), tensor(&[0.0; 2]), tensor(&[-1.0, 1.0]), 0.2, 2);
        assert_eq!(out.clipped, 0.0);
    }

    #[test]
    fn a_clipped_token_gives_no_gradient() {
        let logprobs = tensor(&[0.5, 0.0]).require_grad();
        let grads =
            policy_loss(logprobs.clone(), tensor(&[0.0; 2]), tensor(&[1.0, 1.0]), 0.2, 2).loss.backward();
        let grad = crate::kernels::host(logprobs.grad(&grads).unwrap());
        assert_eq!(grad, [0.0, -0.5]);
    }

    #[test]
    fn the_value_loss_takes_the_worse_of_plain_and_clipped() {
        // V 1, old 0, R 1: plain 0, clipped (.2 - 1)^2 = .64. V .1, old 0, R 0: both .01.
        let out = value_loss(tensor(&[1.0, 0.1]), tensor(&[0.0; 2]), tensor(&[1.0, 0.0]), 0.2, 2);
        assert_eq!(out.clipped, 1.0);
        let got: f32 = out.loss.into_scalar();
        assert!((f64::from(got) - 0.5 * (0.64 + 0.01) / 2.0).abs() < 1e-6, "{got}");
    }
}
