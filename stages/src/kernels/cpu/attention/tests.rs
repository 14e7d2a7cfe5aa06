//! Attention on the CPU against its definition in f64: values, gradients, generation, independence of the batch.

use std::ops::Range;

use super::{Heads, backward, decode, exp, forward};
use crate::testing::{relative, wide};

/// Numbers between -1 and 1 from a linear congruence, for there are many.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn ranges(lengths: &[usize]) -> Vec<Range<usize>> {
    let ends = (1..=lengths.len()).map(|n| lengths[..n].iter().sum::<usize>());
    ends.zip(lengths).map(|(end, length)| end - length..end).collect()
}

fn token(heads: Heads) -> usize {
    (heads.heads + 2 * heads.kv_heads) * heads.size
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `into += factor * from`.
fn add(into: &mut [f64], factor: f64, from: &[f64]) {
    into.iter_mut().zip(from).for_each(|(x, y)| *x += factor * y);
}

/// `out`, `logsumexp`, `d_qkv` in f64 by the definition.
fn reference(qkv: &[f64], d_out: &[f64], sequences: &[Range<usize>], h: Heads) -> [Vec<f64>; 3] {
    let (size, token, across) = (h.size, token(h), h.heads * h.size);
    let tokens = qkv.len() / token;
    let scale = 1.0 / (size as f64).sqrt();
    let mut out = vec![0.0; tokens * across];
    let mut logsumexp = vec![0.0; tokens * h.heads];
    let mut d = vec![0.0; qkv.len()];
    let each = sequences.iter().flat_map(|range| range.clone().map(|i| (range.start, i)));
    for ((start, i), head) in each.flat_map(|at| (0..h.heads).map(move |head| (at, head))) {
        let kv = head / (h.heads / h.kv_heads);
        let q_at = i * token + head * size;
        let k_at = |j: usize| j * token + (h.heads + kv) * size;
        let v_at = |j: usize| k_at(j) + h.kv_heads * size;
        let at = |start: usize| &qkv[start..start + size];
        let start = h.window.map_or(start, |window| start.max((i + 1).saturating_sub(window)));
        let scores: Vec<f64> = (start..=i).map(|j| dot(at(q_at), at(k_at(j))) * scale).collect();
        let total = scores.iter().map(|s| s.exp()).sum::<f64>();
        logsumexp[i * h.heads + head] = total.ln();
        let p: Vec<f64> = scores.iter().map(|s| s.exp() / total).collect();
        let o_at = i * across + head * size;
        let d_o = &d_out[o_at..o_at + size];
        let d_p: Vec<f64> = (start..=i).map(|j| dot(d_o, at(v_at(j)))).collect();
        let mean = dot(&p, &d_p);
        for (n, j) in (start..=i).enumerate() {
            add(&mut out[o_at..o_at + size], p[n], at(v_at(j)));
            let d_s = p[n] * (d_p[n] - mean) * scale;
            add(&mut d[v_at(j)..v_at(j) + size], p[n], d_o);
            add(&mut d[q_at..q_at + size], d_s, at(k_at(j)));
            add(&mut d[k_at(j)..k_at(j) + size], d_s, at(q_at));
        }
    }
    [out, logsumexp, d]
}

/// The same three by the kernels.
fn run(qkv: &[f32], d_out: &[f32], sequences: &[Range<usize>], h: Heads) -> [Vec<f32>; 3] {
    let tokens = qkv.len() / token(h);
    let mut out = vec![f32::NAN; tokens * h.heads * h.size];
    let mut logsumexp = vec![f32::NAN; tokens * h.heads];
    let mut d_qkv = vec![f32::NAN; qkv.len()];
    forward(qkv, sequences, h, &mut out, &mut logsumexp);
    backward(qkv, &out, &logsumexp, d_out, sequences, h, &mut d_qkv);
    [out, logsumexp, d_qkv]
}

fn heads(heads: usize, kv_heads: usize, size: usize) -> Heads {
    Heads { heads, kv_heads, size, window: None }
}

fn shapes() -> Vec<(Vec<usize>, Heads)> {
    let mut shapes = vec![
        (vec![64; 3], heads(4, 4, 32)),
        (vec![200], heads(9, 3, 64)),
        (vec![30, 80, 47, 64, 33, 71, 55], heads(4, 4, 32)),
        (vec![400], heads(2, 1, 16)),
        (vec![1, 2, 3, 0, 7, 8, 9, 15, 16, 17, 31, 33, 65, 129, 1], heads(6, 2, 20)),
    ];
    shapes.extend([1, 2, 3, 20, 64, 80, 128].map(|size| (vec![1, 5, 12, 67], heads(4, 2, size))));
    let windows = [1, 2, 7, 16, 33, 64, 1000].map(|keys| Heads { window: Some(keys), ..heads(4, 2, 20) });
    shapes.extend(windows.map(|h| (vec![1, 5, 12, 67, 150], h)));
    shapes
}

#[track_caller]
fn assert_near(got: &[f32], wanted: &[f64], what: &str) {
    assert!(got.iter().all(|x| x.is_finite()), "{what}");
    let zero = wanted.iter().all(|&x| x == 0.0);
    let off =
        if zero { wide(got).iter().fold(0.0, |m, x| x.abs().max(m)) } else { relative(&wide(got), wanted) };
    assert!(off < 2e-6, "{what} is off by {off}");
}

#[test]
fn forward_and_backward_agree_with_the_definition_in_f64() {
    for (i, (lengths, h)) in shapes().into_iter().enumerate() {
        let spread = [0.5, 1.0, 4.0][i % 3];
        let sequences = ranges(&lengths);
        let tokens: usize = lengths.iter().sum();
        let qkv: Vec<f32> = numbers(tokens * token(h), 1).iter().map(|x| x * spread).collect();
        let d_out = numbers(tokens * h.heads * h.size, 2);
        let got = run(&qkv, &d_out, &sequences, h);
        let wanted = reference(&wide(&qkv), &wide(&d_out), &sequences, h);
        for (part, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            assert_near(got, wanted, &format!("{lengths:?}, size {}, spread {spread}, part {part}", h.size));
        }
    }
}

#[test]
fn a_long_sequence_agrees_with_the_definition() {
    let h = heads(1, 1, 16);
    let (qkv, d_out) = (numbers(900 * 48, 5), numbers(900 * 16, 6));
    let got = run(&qkv, &d_out, &ranges(&[900]), h);
    let wanted = reference(&wide(&qkv), &wide(&d_out), &ranges(&[900]), h);
    got.iter().zip(&wanted).for_each(|(got, wanted)| assert_near(got, wanted, "900 tokens"));
}

#[test]
fn the_reference_agrees_with_finite_differences() {
    let (h, sequences) = (heads(4, 2, 3), ranges(&[4, 1, 6]));
    let (qkv, d_out) = (wide(&numbers(11 * token(h), 3)), wide(&numbers(11 * 12, 4)));
    let [.., d] = reference(&qkv, &d_out, &sequences, h);
    for index in 0..qkv.len() {
        let moved = |step: f64| {
            let mut qkv = qkv.clone();
            qkv[index] += step;
            dot(&reference(&qkv, &d_out, &sequences, h)[0], &d_out)
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((slope - d[index]).abs() < 1e-8, "{index}: {slope} {}", d[index]);
    }
}

#[test]
fn a_step_of_generation_gives_the_last_token_of_forward() {
    for (lengths, h) in shapes() {
        for &length in lengths.iter().filter(|&&length| length > 0) {
            let (size, across, token) = (h.size, h.heads * h.size, token(h));
            let qkv = numbers(length * token, 7);
            let (mut out, mut logsumexp) = (vec![0.0; length * across], vec![0.0; length * h.heads]);
            forward(&qkv, &ranges(&[length]), h, &mut out, &mut logsumexp);
            let first = h.window.map_or(0, |window| length.saturating_sub(window));
            let part = |from: usize| -> Vec<f32> {
                qkv.chunks(token).skip(first).flat_map(|t| &t[from..][..h.kv_heads * size]).copied().collect()
            };
            let mut last = vec![f32::NAN; across];
            let query = &qkv[(length - 1) * token..][..across];
            for (kv, out) in last.chunks_exact_mut(across / h.kv_heads).enumerate() {
                decode(query, &part(across), &part(across + h.kv_heads * size), h, kv, out);
            }
            assert_near(&last, &wide(&out[(length - 1) * across..]), &format!("{length} of size {size}"));
        }
    }
}

#[test]
fn a_sequence_alone_gives_the_same_bits_as_in_a_batch() {
    for (lengths, h) in shapes() {
        let (sequences, across) = (ranges(&lengths), h.heads * h.size);
        let tokens: usize = lengths.iter().sum();
        let (qkv, d_out) = (numbers(tokens * token(h), 9), numbers(tokens * across, 10));
        let batch = run(&qkv, &d_out, &sequences, h);
        for r in sequences.iter().filter(|r| !r.is_empty()) {
            let cut = |all: &[f32], row: usize| all[r.start * row..r.end * row].to_vec();
            let alone = run(&cut(&qkv, token(h)), &cut(&d_out, across), &ranges(&[r.len()]), h);
            for (part, row) in [across, h.heads, token(h)].into_iter().enumerate() {
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&alone[part]) == bits(&cut(&batch[part], row)), "{lengths:?} {r:?} part {part}");
            }
        }
    }
}

#[test]
fn a_later_token_does_not_change_an_earlier_one() {
    let h = heads(2, 1, 32);
    let mut qkv = numbers(100 * token(h), 11);
    let d_out = numbers(100 * 64, 12);
    let before = run(&qkv, &d_out, &ranges(&[100]), h);
    qkv[50 * token(h)..].iter_mut().for_each(|x| *x = -*x);
    let after = run(&qkv, &d_out, &ranges(&[100]), h);
    assert!(before[0][..50 * 64] == after[0][..50 * 64] && before[1][..100] == after[1][..100]);
}

#[test]
#[should_panic(expected = "sequences do not follow one another")]
fn sequences_with_a_gap_between_them_are_refused() {
    let h = heads(1, 1, 2);
    forward(&numbers(24, 13), &[0..1, 2..4], h, &mut [0.0; 8], &mut [0.0; 4]);
}

#[test]
fn exp_is_exact_to_2e_7_and_zero_far_below() {
    crate::kernels::cpu::simd::hold_exp(exp);
    assert!(exp(f32::NEG_INFINITY) == 0.0 && exp(-1e30) == 0.0);
}
