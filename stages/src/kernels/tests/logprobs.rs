//! Log-probabilities, entropy and KL on the CPU.

use super::{assert_near, differences, dot};
use crate::kernels::cpu::logprobs::{Softmax, backward, entropy_and_kl, forward, largest_finite};
use crate::testing::{assert_close, narrow, numbers, tokens, wide};

/// All log-probabilities of one row.
fn log_softmax(row: &[f64], temperature: f64) -> Vec<f64> {
    let top = row.iter().fold(f64::MIN, |top, &x| top.max(x)) / temperature;
    let total = row.iter().map(|x| (x / temperature - top).exp()).sum::<f64>().ln() + top;
    row.iter().map(|x| x / temperature - total).collect()
}

fn by_hand(logits: &[f64], targets: &[u32], temperature: f64) -> Vec<f64> {
    let rows = logits.chunks(logits.len() / targets.len()).zip(targets);
    rows.map(|(row, &target)| log_softmax(row, temperature)[target as usize]).collect()
}

fn logits(n: usize, vocab: usize) -> Vec<f64> {
    let drawn: Vec<f64> = numbers("logits", n * vocab).iter().map(|x| 4.0 * x).collect();
    wide(&narrow(&drawn))
}

/// The columns of a block.
fn columns(logits: &[f32], vocab: usize, block: std::ops::Range<usize>) -> Vec<f32> {
    logits.chunks(vocab).flat_map(|row| &row[block.clone()]).copied().collect()
}

/// Log-probabilities and the gradients of the logits, given those of the log-probabilities, in blocks of so many columns.
fn run(
    logits: &[f32],
    targets: &[u32],
    temperature: f32,
    d_out: &[f32],
    width: usize,
) -> (Vec<f32>, Vec<f32>) {
    let (n, vocab) = (targets.len(), logits.len() / targets.len());
    let blocks = || (0..vocab).step_by(width).map(|first| first..(first + width).min(vocab));
    let (mut top, mut total, mut target) = (vec![f32::NEG_INFINITY; n], vec![0.0; n], vec![f32::NAN; n]);
    for block in blocks() {
        let mut state = Softmax { top: &mut top, total: &mut total, target: &mut target };
        forward(&columns(logits, vocab, block.clone()), block.start, targets, temperature, &mut state);
    }
    let totals: Vec<f32> = top.iter().zip(&total).map(|(top, total)| top + total.ln()).collect();
    let mut d_logits = vec![f32::NAN; logits.len()];
    for block in blocks() {
        let mut part = columns(logits, vocab, block.clone());
        backward(&mut part, block.start, targets, temperature, &totals, d_out);
        for (to, from) in d_logits.chunks_mut(vocab).zip(part.chunks(block.len())) {
            to[block.clone()].copy_from_slice(from);
        }
    }
    (target.iter().zip(&totals).map(|(target, total)| target - total).collect(), d_logits)
}

#[test]
fn log_probabilities_and_their_gradients_are_the_plain_formula_in_one_block_and_in_several() {
    for (n, vocab) in [(1, 1), (1, 7), (5, 2), (3, 16), (4, 101)] {
        let (logits, targets) = (logits(n, vocab), tokens("targets", n, vocab));
        let d_out = wide(&narrow(&numbers("d_out", n)));
        for temperature in [1.0f32, 0.5, 3.0] {
            let t = f64::from(temperature);
            let wanted = by_hand(&logits, &targets, t);
            let wanted_grad = differences(&logits, &|l| dot(&by_hand(l, &targets, t), &d_out));
            for width in [vocab, 1, 5, 40] {
                let what = format!("{n} of {vocab} at {temperature} in blocks of {width}");
                let (got, grad) = run(&narrow(&logits), &targets, temperature, &narrow(&d_out), width);
                assert_close(&wide(&got), &wanted, 1e-6, &what);
                assert_close(&wide(&grad), &wanted_grad, 2e-6, &format!("{what}, gradient"));
            }
        }
    }
}

#[test]
fn huge_logits_give_finite_log_probabilities_and_gradients() {
    let logits = [3e4f32, -3e4, 0.0];
    for width in [3, 1] {
        for (target, wanted) in [(0, 0.0), (1, -6e4), (2, -3e4)] {
            let (got, grad) = run(&logits, &[target], 1.0, &[1.0], width);
            assert_close(&wide(&got), &[wanted], 1e-6, "log-probability");
            let mut wanted = [-1.0, 0.0, 0.0];
            wanted[target as usize] += 1.0;
            assert_close(&wide(&grad), &wanted, 1e-6, "gradient");
        }
    }
}

#[test]
fn a_row_is_the_same_bytes_alone_and_among_others() {
    let (n, vocab) = (6, 77);
    let (logits, targets, d_out) =
        (narrow(&logits(n, vocab)), tokens("targets", n, vocab), narrow(&numbers("d_out", n)));
    let (together, grads) = run(&logits, &targets, 1.0, &d_out, vocab);
    for i in 0..n {
        let row = i * vocab..(i + 1) * vocab;
        let alone = run(&logits[row.clone()], &targets[i..=i], 1.0, &d_out[i..=i], vocab);
        assert_eq!((alone.0[0], &*alone.1), (together[i], &grads[row]));
    }
}

#[test]
fn entropy_and_kl_are_their_definitions_summed_over_rows() {
    for (n, vocab) in [(1, 1), (2, 7), (5, 101)] {
        let ours = logits(n, vocab);
        let theirs: Vec<f64> = numbers("reference", n * vocab).iter().map(|x| 2.0 * x).collect();
        let theirs = wide(&narrow(&theirs));
        for temperature in [1.0f32, 2.0] {
            let (mut entropy, mut kl) = (0.0, 0.0);
            for (ours, theirs) in ours.chunks(vocab).zip(theirs.chunks(vocab)) {
                let [p, q] = [ours, theirs].map(|row| log_softmax(row, f64::from(temperature)));
                entropy -= p.iter().map(|p| p.exp() * p).sum::<f64>();
                kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            }
            let got = entropy_and_kl(&narrow(&ours), &narrow(&theirs), vocab, temperature);
            assert_close(&[got.0, got.1], &[entropy, kl], 2e-6, &format!("{n} of {vocab} at {temperature}"));
            let (_, none) = entropy_and_kl(&narrow(&ours), &narrow(&ours), vocab, temperature);
            assert_eq!(none, 0.0, "from itself");
        }
    }
}

#[test]
fn the_entropy_of_equal_logits_is_the_logarithm_of_their_number() {
    let (entropy, _) = entropy_and_kl(&[0.5; 300], &[0.0; 300], 100, 0.7);
    assert_near(&[entropy as f32], &[3.0 * 100f64.ln()], 1e-6, "entropy");
}

#[test]
fn the_largest_of_finite_logits_is_found_wherever_it_stands() {
    for n in [1, 2, 15, 16, 17, 40] {
        let logits = narrow(&numbers("largest", n));
        for at in 0..n {
            let mut row = logits.clone();
            row[at] = 9.0;
            assert_eq!(largest_finite(&row), Some(9.0));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                row[at] = bad;
                assert_eq!(largest_finite(&row), None, "{bad} at {at} of {n}");
            }
        }
        let below: Vec<f32> = logits.iter().map(|x| x - 9.0).collect();
        let wanted = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert_eq!(largest_finite(&below), Some(wanted));
    }
}
