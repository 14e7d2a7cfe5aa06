//! Keyed randomness.
//!
//! Purpose: every random draw of every stage comes from here, keyed by (seed, purpose, step,
//! sample), so that resuming needs no hidden state and a sample does not depend on what it was
//! batched with.
//! Invariant: the same key gives the same draws on every machine and in every process.
//! Must not know: what the draws are for.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator for one key. Purposes are short fixed words such as `init` or `rollout`.
pub fn keyed(seed: u64, purpose: &str, step: u64, sample: u64) -> ChaCha8Rng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update((purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    hasher.update(step.to_le_bytes());
    hasher.update(sample.to_le_bytes());
    ChaCha8Rng::from_seed(hasher.finalize().into())
}

/// A standard normal draw (Box-Muller, in f64).
pub fn normal(rng: &mut impl Rng) -> f64 {
    // 1 - u lies in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// A uniform draw from [0, 1).
pub fn uniform(rng: &mut impl Rng) -> f64 {
    rng.random()
}

/// The order in which `len` items are visited in pass `epoch`: a permutation by Fisher-Yates.
pub fn permutation(seed: u64, purpose: &str, epoch: u64, len: usize) -> Vec<usize> {
    let mut rng = keyed(seed, purpose, epoch, 0);
    let mut order: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}

/// The indices of a step's batch: pass after pass over a keyed permutation of `n`, the last batch of a pass ragged.
pub fn pass_batch(seed: u64, purpose: &str, step: u64, n: usize, size: usize) -> Vec<usize> {
    let per_pass = n.div_ceil(size) as u64;
    let order = permutation(seed, purpose, step / per_pass, n);
    let start = (step % per_pass) as usize * size;
    order[start..(start + size).min(n)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gives_the_same_draws_and_another_gives_others() {
        let draw = |s, p, t, n| keyed(s, p, t, n).random::<u64>();
        assert_eq!(draw(1, "a", 2, 3), draw(1, "a", 2, 3));
        for other in [draw(2, "a", 2, 3), draw(1, "b", 2, 3), draw(1, "a", 3, 3), draw(1, "a", 2, 4)] {
            assert_ne!(draw(1, "a", 2, 3), other);
        }
    }

    #[test]
    fn normal_draws_have_mean_0_and_variance_1() {
        let mut rng = keyed(1, "test", 0, 0);
        let xs: Vec<f64> = (0..100_000).map(|_| normal(&mut rng)).collect();
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let var = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut p = permutation(1, "p", 0, 100);
        assert_ne!(p, permutation(1, "p", 1, 100));
        p.sort_unstable();
        assert_eq!(p, (0..100).collect::<Vec<_>>());
    }
}
