//! Means, differences and win rates with 95 % intervals.
//!
//! Purpose: the statistics of the evaluation as plain functions.
//! Invariants: an interval holds its value; too few values for an interval give none.
//! Must not know: what the numbers measure.

use rand::Rng;
use serde::Serialize;

use crate::rng::keyed;

/// The standard normal's 97.5 % point.
const Z: f64 = 1.959_963_984_540_054;
/// Resamples of the bootstrap.
const RESAMPLES: u64 = 2000;

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// How often one model's answer beats another's to the same prompt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WinRate {
    /// (wins + ties / 2) / all, with Wilson's score interval.
    pub rate: Interval,
    /// Prompts where the first is better.
    pub wins: usize,
    /// Prompts where they are equal.
    pub ties: usize,
    /// Prompts where the second is better.
    pub losses: usize,
}

/// The mean with Student's interval; none for fewer than two values.
pub fn mean_interval(values: &[f64]) -> Option<Interval> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let value = mean(values);
    let variance = values.iter().map(|x| (x - value).powi(2)).sum::<f64>() / (n - 1) as f64;
    let half = t_quantile(n - 1) * (variance / n as f64).sqrt();
    Some(Interval { value, low: value - half, high: value + half })
}

/// The mean of a - b over pairs, with the percentile interval of a bootstrap over the pairs (2000
/// resamples, keyed by `seed`); none for fewer than two pairs or unequal lengths.
pub fn paired_difference(a: &[f64], b: &[f64], seed: u64) -> Option<Interval> {
    let n = a.len();
    if n < 2 || n != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let resampled = |number| {
        let mut rng = keyed(seed, "evaluate/bootstrap", number, 0);
        (0..n).map(|_| differences[rng.random_range(0..n as u64) as usize]).sum::<f64>() / n as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(resampled).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    let value = mean(&differences);
    Some(Interval { value, low: at(0.025).min(value), high: at(0.975).max(value) })
}

/// How often a beats b; none without pairs or with unequal lengths.
pub fn win_rate(a: &[f64], b: &[f64]) -> Option<WinRate> {
    if a.is_empty() || a.len() != b.len() {
        return None;
    }
    let count = |holds: fn(&f64, &f64) -> bool| a.iter().zip(b).filter(|(a, b)| holds(a, b)).count();
    let (wins, losses) = (count(|a, b| a > b), count(|a, b| a < b));
    let ties = a.len() - wins - losses;
    let rate = wilson((wins as f64 + ties as f64 / 2.0) / a.len() as f64, a.len());
    Some(WinRate { rate, wins, ties, losses })
}

/// Wilson's score interval of a share seen in n trials.
fn wilson(share: f64, n: usize) -> Interval {
    let n = n as f64;
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { value: share, low: (middle - half).clamp(0.0, share), high: (middle + half).clamp(share, 1.0) }
}

/// The mean; of no values, 0.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The 97.5 % point of Student's t with `freedom` degrees of freedom, to three digits: a table for
/// the first, then the expansion in 1 / freedom (Abramowitz and Stegun 26.7.5).
fn t_quantile(freedom: usize) -> f64 {
    const FIRST: [f64; 4] = [12.706_205, 4.302_653, 3.182_446, 2.776_445];
    if let Some(&value) = freedom.checked_sub(1).and_then(|index| FIRST.get(index)) {
        return value;
    }
    let z = Z;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
        (79.0 * z.powi(9) + 776.0 * z.powi(7) + 1482.0 * z.powi(5) - 1920.0 * z.powi(3) - 945.0 * z)
            / 92160.0,
    ];
    z + terms.iter().enumerate().map(|(i, term)| term / (freedom as f64).powi(i as i32 + 1)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() < within, "{a} is not {b}");
    }

    #[test]
    fn students_points_are_those_of_the_tables() {
        for (freedom, expected) in
            [(1, 12.706), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (255, 1.969), (100_000, 1.960)]
        {
            close(t_quantile(freedom), expected, 1e-3);
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_the_one_by_hand() {
        // Mean 3, deviation sqrt(2.5), standard error sqrt(.5) = .7071, t(4) = 2.7764.
        let interval = mean_interval(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        close(interval.value, 3.0, 1e-12);
        close(interval.high - interval.value, 1.9633, 1e-3);
        close(interval.value - interval.low, 1.9633, 1e-3);
        assert_eq!(mean_interval(&[1.0]), None);
    }

    #[test]
    fn wilsons_interval_is_the_one_by_hand() {
        // 8 of 10: (.8 + .19207) / 1.38415 = .71674; half 1.96 / 1.38415 * sqrt(.016 + .0096037).
        let interval = wilson(0.8, 10);
        close(interval.low, 0.4902, 1e-3);
        close(interval.high, 0.9433, 1e-3);
        let all = wilson(1.0, 10);
        close(all.low, 0.7225, 1e-3);
        assert_eq!(all.high, 1.0);
    }

    #[test]
    fn a_tie_is_half_a_win() {
        let rate = win_rate(&[1.0, 2.0, 3.0, 4.0], &[0.0, 2.0, 3.0, 9.0]).unwrap();
        assert_eq!((rate.wins, rate.ties, rate.losses), (1, 2, 1));
        assert_eq!(rate.rate.value, 0.5);
        assert_eq!(win_rate(&[1.0], &[]), None);
    }

    #[test]
    fn pairing_takes_out_what_prompts_have_in_common() {
        // The scores scatter by 10, their differences by .1: only the paired interval sees the gap.
        let b: Vec<f64> = (0..50).map(|i| f64::from(i % 10)).collect();
        let a: Vec<f64> = b.iter().enumerate().map(|(i, b)| b + 0.5 + 0.1 * (i % 3) as f64).collect();
        let difference = paired_difference(&a, &b, 7).unwrap();
        assert!(difference.low > 0.5 && difference.high < 0.7, "{difference:?}");
        assert!(mean_interval(&a).unwrap().low < mean_interval(&b).unwrap().high);
        assert_eq!(paired_difference(&a, &b, 7), Some(difference));
    }

    #[test]
    fn the_bootstrap_is_about_as_wide_as_students_interval() {
        let b = vec![0.0; 200];
        let a: Vec<f64> = (0..200).map(|i| f64::from((i * 37) % 101) / 101.0).collect();
        let (boot, student) = (paired_difference(&a, &b, 1).unwrap(), mean_interval(&a).unwrap());
        close((boot.high - boot.low) / (student.high - student.low), 1.0, 0.1);
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_value(a in proptest::collection::vec(-1.0..1.0f64, 2..40), seed in 0..9u64) {
            let b: Vec<f64> = a.iter().rev().copied().collect();
            let all = [mean_interval(&a), paired_difference(&a, &b, seed), win_rate(&a, &b).map(|win| win.rate)];
            for interval in all.into_iter().flatten() {
                prop_assert!(interval.low <= interval.value && interval.value <= interval.high);
            }
        }
    }
}
