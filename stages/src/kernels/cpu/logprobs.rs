//! Log-probabilities of tokens from logits.
//!
//! Purpose: `log_softmax(logits / temperature)[target]` and its gradient; entropy and KL over a whole vocabulary.
//! Invariant: a row's result depends on that row alone.
//! Must not know: models.

use super::simd::{LANES, exp, sum};

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let mut top = f32::NEG_INFINITY;
    for &x in lanes.iter().chain(rest) {
        top = if x > top { x } else { top };
    }
    top
}

/// The logarithm of the sum of `exp(x / temperature)`.
#[inline(always)]
fn logsumexp(row: &[f32], inverse: f32) -> f32 {
    let top = largest(row) * inverse;
    top + sum(row.len(), |i| exp(row[i] * inverse - top)).ln()
}

simd! {
    /// The largest of some logits; nothing if one is not finite.
    pub fn largest_finite(logits: &[f32]) -> Option<f32> {
        let mut finite = true;
        for logit in logits {
            finite &= logit.is_finite();
        }
        if finite { Some(largest(logits)) } else { None }
    }
}

/// What is known of each row after some blocks of its logits.
pub struct Softmax<'a> {
    /// The largest logit over the temperature, `[n]`; minus infinity at first.
    pub top: &'a mut [f32],
    /// The sum of `exp(logit / temperature - top)`, `[n]`; 0 at first.
    pub total: &'a mut [f32],
    /// The target's logit over the temperature, `[n]`.
    pub target: &'a mut [f32],
}

simd! {
    /// Takes the next block of columns into account. Shapes: logits `[n, width]`, the block's first column is `first`;
    /// targets `[n]`. (Milakov and Gimelshein 2018.)
    pub fn forward(logits: &[f32], first: usize, targets: &[u32], temperature: f32, state: &mut Softmax) {
        let width = logits.len() / targets.len().max(1);
        let inverse = 1.0 / temperature;
        for (i, row) in logits.chunks_exact(width.max(1)).enumerate() {
            let old = state.top[i];
            let largest = largest(row) * inverse;
            let top = if largest > old { largest } else { old };
            state.total[i] = state.total[i] * exp(old - top) + sum(width, |j| exp(row[j] * inverse - top));
            state.top[i] = top;
            let column = (targets[i] as usize).wrapping_sub(first);
            if column < width {
                state.target[i] = row[column] * inverse;
            }
        }
    }

    /// Turns a block of logits, in place, into their gradients
    /// `d_out (onehot(target) - exp(logit / temperature - logsumexp)) / temperature`.
    pub fn backward(logits: &mut [f32], first: usize, targets: &[u32], temperature: f32, logsumexp: &[f32], d_out: &[f32]) {
        let width = logits.len() / targets.len().max(1);
        let inverse = 1.0 / temperature;
        for (i, row) in logits.chunks_exact_mut(width.max(1)).enumerate() {
            let (total, weight) = (logsumexp[i], d_out[i] * inverse);
            for x in row.iter_mut() {
                *x = -weight * exp(*x * inverse - total);
            }
            let column = (targets[i] as usize).wrapping_sub(first);
            if column < width {
                row[column] += weight;
            }
        }
    }

    /// The entropy of each row's distribution, and its KL from that of the same row of `reference`, summed over rows.
    /// Shapes: both `[n, vocab]`. Sums over rows are in f64.
    pub fn entropy_and_kl(logits: &[f32], reference: &[f32], vocab: usize, temperature: f32) -> (f64, f64) {
        let inverse = 1.0 / temperature;
        let (mut entropy, mut kl) = (0.0, 0.0);
        for (row, theirs) in logits.chunks_exact(vocab).zip(reference.chunks_exact(vocab)) {
            let (total, their_total) = (logsumexp(row, inverse), logsumexp(theirs, inverse));
            let log = |i: usize| row[i] * inverse - total;
            entropy -= f64::from(sum(vocab, |i| exp(log(i)) * log(i)));
            kl += f64::from(sum(vocab, |i| exp(log(i)) * (log(i) - (theirs[i] * inverse - their_total))));
        }
        (entropy, kl)
    }
}
