//! Best of n: what a reward model buys without any training.
//!
//! Purpose: the gold reward to expect when the best of n samples by the reward model is taken, for
//! every n up to the number of samples.
//! Invariant: n = 1 gives the mean of all samples, n = N the best one by the proxy.
//! Must not know: which models made samples and scores.

use serde::Serialize;

use super::stats::{Interval, mean_interval};

/// A sample as the reward model (the proxy) and gold score it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The reward model's score.
    pub proxy: f64,
    /// The gold reward.
    pub gold: f64,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Samples to choose from.
    pub n: usize,
    /// The bound of the KL to the sampling policy, in nats.
    pub kl: f64,
    /// The gold reward of the chosen sample, mean over prompts.
    pub gold: Interval,
}

/// The bound log n - (n - 1) / n of the KL of best-of-n to its policy, in nats [Stiennon 2020].
pub fn best_of_n_kl(n: usize) -> f64 {
    let n = n.max(1) as f64;
    n.ln() - (n - 1.0) / n
}

/// The curve over prompts (`samples[p]` are the samples of prompt p) at n = 1, 2, 4, .. and N, the
/// fewest samples of a prompt. None for fewer than two prompts or a prompt without samples.
pub fn best_of_n(samples: &[Vec<Scored>]) -> Option<Vec<CurvePoint>> {
    let most = samples.iter().map(Vec::len).min().filter(|most| *most > 0)?;
    let mut sizes: Vec<usize> = (0..).map(|power| 1usize << power).take_while(|n| *n < most).collect();
    sizes.push(most);
    let point = |n: usize| {
        let golds: Vec<f64> = samples.iter().map(|of_prompt| expected_gold(of_prompt, n)).collect();
        mean_interval(&golds).map(|gold| CurvePoint { n, kl: best_of_n_kl(n), gold })
    };
    sizes.into_iter().map(point).collect()
}

/// The mean gold of the best by proxy over all subsets of n of the samples: with samples sorted by
/// proxy, sum over i of C(i-1, n-1) / C(N, n) gold_(i) [Nakano 2021]. Samples of equal proxy share
/// their mean gold, as if the tie were broken at random.
fn expected_gold(samples: &[Scored], n: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.proxy.total_cmp(&b.proxy));
    let gold = |group: &[Scored]| group.iter().map(|sample| sample.gold).sum::<f64>() / group.len() as f64;
    let golds = sorted.chunk_by(|a, b| a.proxy == b.proxy).flat_map(|group| vec![gold(group); group.len()]);
    golds.zip(weights(sorted.len(), n)).map(|(gold, weight)| gold * weight).sum()
}

/// C(i-1, n-1) / C(N, n) for i = 1 .. N, from the top down: the last is n / N, and the one
/// before i is (i - n) / (i - 1) of that of i.
fn weights(total: usize, n: usize) -> Vec<f64> {
    let mut weights = vec![0.0; total];
    let mut weight = n as f64 / total as f64;
    for i in (n..=total).rev() {
        weights[i - 1] = weight;
        weight *= if i > 1 { (i - n) as f64 / (i - 1) as f64 } else { 0.0 };
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(pairs: &[(f64, f64)]) -> Vec<Scored> {
        pairs.iter().map(|&(proxy, gold)| Scored { proxy, gold }).collect()
    }

    #[test]
    fn the_weights_are_those_by_hand() {
        // N = 4, n = 2: C(0,1) C(1,1) C(2,1) C(3,1) = 0 1 2 3, over C(4,2) = 6.
        let expected = [0.0, 1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0];
        for (weight, expected) in weights(4, 2).iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn the_best_of_two_is_the_mean_over_all_pairs() {
        let three = samples(&[(0.3, 10.0), (0.1, 20.0), (0.2, 60.0)]);
        // Pairs: {.3,.1} -> 10, {.3,.2} -> 10, {.1,.2} -> 60.
        assert!((expected_gold(&three, 2) - 80.0 / 3.0).abs() < 1e-9);
        assert!((expected_gold(&three, 1) - 30.0).abs() < 1e-9);
        assert!((expected_gold(&three, 3) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn equal_proxies_share_their_gold() {
        let tied = samples(&[(1.0, 0.0), (1.0, 1.0)]);
        assert!((expected_gold(&tied, 2) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_kl_bound_is_the_formula() {
        assert_eq!(best_of_n_kl(1), 0.0);
        assert!((best_of_n_kl(4) - (4f64.ln() - 0.75)).abs() < 1e-12);
    }

    #[test]
    fn the_curve_doubles_up_to_the_fewest_samples() {
        let six = samples(&[(0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (0.4, 0.4), (0.5, 0.5), (0.6, 0.6)]);
        let curve = best_of_n(&[six.clone(), six]).unwrap();
        assert_eq!(curve.iter().map(|point| point.n).collect::<Vec<_>>(), [1, 2, 4, 6]);
        assert!((curve[0].gold.value - 0.35).abs() < 1e-12);
        assert!((curve[3].gold.value - 0.6).abs() < 1e-12);
        assert!(curve.windows(2).all(|pair| pair[0].gold.value < pair[1].gold.value));
        assert_eq!(best_of_n(&[vec![], vec![]]), None);
    }

    proptest! {
        #[test]
        fn the_weights_of_any_size_sum_to_one(total in 1usize..400, share in 0.0..1.0f64) {
            let n = 1 + (share * (total - 1) as f64) as usize;
            prop_assert!((weights(total, n).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
