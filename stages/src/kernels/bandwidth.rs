//! How fast this machine reads its memory.
//!
//! Purpose: the limit of everything that reads a model once and does little with it, such as generation in small batches.
//! Invariant: nothing is read twice before everything else was read, as it is with the weights of a model.
//! Must not know: models.

use std::time::Instant;

use super::cpu::memory::{self, zeros};
use super::workers;

/// Numbers that are read in a round: 512 MiB, more than the caches of most machines hold.
const NUMBERS: usize = 128 << 20;
/// Rounds, of which the median counts.
const ROUNDS: usize = 15;

/// Bytes a second, by all threads of the stage together.
pub fn measure() -> f64 {
    let mut values = zeros(NUMBERS);
    values.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 7) as f32);
    let share = NUMBERS.div_ceil(workers::threads());
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let sums = workers::run(values.chunks(share).collect(), |_, part| memory::sum(part));
            std::hint::black_box(sums);
            size_of_val(values.as_slice()) as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}
