//! The pairwise ranking loss.
//!
//! Purpose: which pairs a ranking gives, and the loss over their score differences.
//! Invariant: `-1/C(K,2) * sum over i better than j of log sigmoid(r_i - r_j)` a prompt, the mean
//! over prompts; ties give no pair.
//! Must not know: models.
//! Source: Ouyang 2022, equation 1.

use std::cmp::Ordering;

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A pair of rows of a batch, the first ranked better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The better row.
    pub better: usize,
    /// The worse row.
    pub worse: usize,
    /// The weight of the pair's loss: `1 / C(K,2)`.
    pub weight: f64,
    /// How far apart the ranks are.
    pub gap: u32,
}

/// The pairs of one prompt's ranking (1 is best), whose rows start at `first`.
pub fn pairs(ranks: &[u32], first: usize) -> Vec<Pair> {
    let k = ranks.len();
    let weight = 2.0 / (k * k.saturating_sub(1)).max(1) as f64;
    let mut out = Vec::new();
    for (i, &better) in ranks.iter().enumerate() {
        for (j, &worse) in ranks.iter().enumerate() {
            if better < worse {
                out.push(Pair { better: first + i, worse: first + j, weight, gap: worse - better });
            }
        }
    }
    out
}

/// The loss of scores `[rows]` under pairs; `prompts` is what the mean runs over.
pub fn loss(scores: Tensor<1>, pairs: &[Pair], prompts: usize) -> Tensor<1> {
    let device = scores.device();
    let better = index(pairs.iter().map(|p| p.better), &device);
    let worse = index(pairs.iter().map(|p| p.worse), &device);
    let weights: Vec<f32> = pairs.iter().map(|p| (p.weight / prompts.max(1) as f64) as f32).collect();
    let weights = Tensor::<1>::from_data(TensorData::new(weights, [pairs.len()]), &device);
    let margins = scores.clone().select(0, better) - scores.select(0, worse);
    (log_sigmoid(margins) * weights).sum().neg()
}

/// The part of the pairs whose better row has the higher score; equal scores count half, as a guess does.
pub fn accuracy(scores: &[f32], pairs: &[Pair]) -> f64 {
    let right = |p: &Pair| match scores[p.better].partial_cmp(&scores[p.worse]) {
        Some(Ordering::Greater) => 1.0,
        Some(Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    pairs.iter().map(right).sum::<f64>() / pairs.len().max(1) as f64
}

/// The mean difference of the scores of a pair.
pub fn margin(scores: &[f32], pairs: &[Pair]) -> f64 {
    let margins = pairs.iter().map(|p| f64::from(scores[p.better] - scores[p.worse]));
    margins.sum::<f64>() / pairs.len().max(1) as f64
}

/// The gain, from 0 to 4, at which margins (better less worse, weight) are as likely as can be: the least
/// of the mean of `-log sigmoid(gain * margin)`, which is convex. (Guo 2017, temperature scaling.)
pub fn best_gain(margins: &[(f64, f64)]) -> f64 {
    // Falls from its value at 0 while a larger gain makes them likelier.
    let pull =
        |gain: f64| margins.iter().map(|(m, weight)| weight * m / (1.0 + (gain * m).exp())).sum::<f64>();
    let (mut low, mut high) = (0.0, 4.0);
    if pull(low) <= 0.0 {
        return low;
    }
    if pull(high) >= 0.0 {
        return high;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if pull(middle) > 0.0 { low = middle } else { high = middle }
    }
    low
}

fn index(rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.map(|r| r as i64).collect();
    let n = rows.len();
    Tensor::from_data(TensorData::new(rows, [n]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_gives_every_ordered_pair_once_and_ties_give_none() {
        let found = pairs(&[1, 2, 2], 10);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|p| p.better == 10 && (p.weight - 1.0 / 3.0).abs() < 1e-12 && p.gap == 1));
    }

    #[test]
    fn scores_that_say_nothing_are_right_half_of_the_time() {
        let pairs = pairs(&[1, 2, 3], 0);
        assert_eq!(accuracy(&[0.0; 3], &pairs), 0.5);
        assert_eq!(accuracy(&[3.0, 2.0, 2.0], &pairs), 2.5 / 3.0);
        assert_eq!(accuracy(&[f32::NAN, 1.0, 2.0], &pairs), 0.0);
    }

    #[test]
    fn the_best_gain_makes_a_margin_the_log_odds_of_being_right() {
        // Right three times out of four by one: log 3.
        let margins = |scale: f64| [scale, scale, scale, -scale].map(|m| (m, 0.5));
        assert!((best_gain(&margins(1.0)) - 3f64.ln()).abs() < 1e-9);
        assert!((best_gain(&margins(2.0)) - 3f64.ln() / 2.0).abs() < 1e-9);
        assert_eq!(best_gain(&[(1.0, 1.0), (-1.0, 1.0)]), 0.0, "pairs that say nothing");
        assert_eq!(best_gain(&[(-1.0, 1.0)]), 0.0, "never turned round");
        assert_eq!(best_gain(&[(1.0, 1.0)]), 4.0, "never without end");
    }

    #[test]
    fn the_loss_of_three_scores_is_as_computed_by_hand() {
        let device = Device::flex();
        let scores = Tensor::<1>::from_floats([2.0, 1.0, 0.0], &device);
        let got: f32 = loss(scores, &pairs(&[1, 2, 3], 0), 1).into_scalar();
        let term = |x: f64| (1.0 + (-x).exp()).ln();
        let wanted = (term(1.0) + term(2.0) + term(1.0)) / 3.0;
        assert!((f64::from(got) - wanted).abs() < 1e-6, "{got} {wanted}");
    }
}
