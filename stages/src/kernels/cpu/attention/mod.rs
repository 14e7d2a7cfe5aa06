//! Causal self-attention on one thread of the CPU: forward, backward, and one step of generation.
//!
//! Purpose: the exact attention of FlashAttention-2 (Dao 2023) in f32, without the whole matrix of scores.
//! Invariant: the numbers of one sequence depend on that sequence alone, bit by bit, whatever else is in the
//! batch: every sum has an order that only the position and the length fix.
//! It must not know threads, parameters, position encodings or how a batch was made.
#![expect(
    clippy::needless_range_loop,
    reason = "a closure is compiled without the instructions of its caller"
)]

mod kernels;
mod mask;
#[cfg(test)]
mod tests;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use kernels::{
    Columns, PANEL, Panels, STRIP, View, d_softmax, dot, pack, pack_transposed, product, scaled, softmax,
};

/// Queries of which the backward pass keeps the probabilities at a time; a multiple of `STRIP`.
const BLOCK: usize = 64;
/// Keys or values of the cache that a step of generation packs at a time; a multiple of every panel's width.
const CACHE: usize = 128;

/// The heads of a layer; `heads` is a multiple of `kv_heads`.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub size: usize,
    /// Keys that a query sees, its own and those before it; none means all. A step of generation is given these alone.
    pub window: Option<usize>,
}

impl Heads {
    /// The first and the last key that a query sees.
    #[inline(always)]
    fn seen(self, query: usize) -> (usize, usize) {
        (self.window.map_or(0, |window| (query + 1).saturating_sub(window)), query)
    }
}

/// Causal self-attention over sequences that lie one after another without padding.
///
/// `qkv`: [tokens, (heads + 2 * kv_heads) * size], each token's queries, then keys, then values.
/// `sequences`: contiguous ranges of tokens that cover all of them. `out`: [tokens, heads * size] and
/// `logsumexp`: [tokens, heads], the logarithm of the sum of exp of the scaled scores; both are overwritten.
pub fn forward(
    qkv: &[f32],
    sequences: &[Range<usize>],
    heads: Heads,
    out: &mut [f32],
    logsumexp: &mut [f32],
) {
    check(qkv, out, logsumexp, sequences, heads);
    Arch::new().dispatch(Forward { qkv, sequences, heads, out, logsumexp });
}

/// The gradient `d_qkv` of `qkv` (same shape, overwritten) from `d_out`: [tokens, heads * size].
///
/// `out` and `logsumexp` are those of `forward`; the probabilities are computed again from them.
pub fn backward(
    qkv: &[f32],
    out: &[f32],
    logsumexp: &[f32],
    d_out: &[f32],
    sequences: &[Range<usize>],
    heads: Heads,
    d_qkv: &mut [f32],
) {
    check(qkv, out, logsumexp, sequences, heads);
    assert!(d_out.len() == out.len() && d_qkv.len() == qkv.len(), "gradients differ in shape");
    Arch::new().dispatch(Backward { qkv, out, logsumexp, d_out, sequences, heads, d_qkv });
}

/// One new token of one sequence against its cache, for generation: the heads that read the head `kv` of keys and values.
///
/// `query`: [heads * size]; `keys` and `values`: [length, kv_heads * size], the new token's among them; `out`:
/// [heads / kv_heads * size]. The length alone fixes the order of the sums.
pub fn decode(query: &[f32], keys: &[f32], values: &[f32], heads: Heads, kv: usize, out: &mut [f32]) {
    let group = heads.heads / heads.kv_heads * heads.size;
    assert_eq!(heads.heads % heads.kv_heads, 0, "heads are no multiple of kv_heads");
    assert!(query.len() == heads.heads * heads.size && out.len() == group, "query has another shape");
    assert!(kv < heads.kv_heads, "there is no such head of keys");
    assert!(keys.len() == values.len() && !keys.is_empty(), "keys and values differ in shape");
    assert_eq!(keys.len() % (heads.kv_heads * heads.size), 0, "keys have another shape");
    let query = &query[kv * group..(kv + 1) * group];
    Arch::new().dispatch(Decode { query, keys, values, heads, kv, out });
}

/// e^x with a relative error below 2e-7 for x in [-87, 88]; exactly 0 below -87.3; NaN stays NaN.
///
/// The reduction to [-ln2/2, ln2/2] and the polynomial are those of expf in Cephes.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23 + 127: the lowest bits of a sum with it are the rounded number plus the bias of an exponent.
    const ROUND: f32 = 12_583_039.0;
    let clamped = if x < -87.3 { -87.3 } else { x };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = f32::from_bits(shifted.to_bits() << 23);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(2.121_944_4e-4, whole.mul_add(-0.693_359_4, clamped));
    let mut series = 1.987_569_1e-4_f32;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        series = series.mul_add(rest, factor);
    }
    let value = series.mul_add(rest * rest, rest + 1.0) * power;
    if x < -87.3 { 0.0 } else { value }
}

/// Stops at shapes that do not belong together.
fn check(qkv: &[f32], out: &[f32], logsumexp: &[f32], sequences: &[Range<usize>], shape: Heads) {
    let Heads { heads, kv_heads, size, .. } = shape;
    let tokens = sequences.last().map_or(0, |last| last.end);
    let covered = sequences.iter().try_fold(0, |end, next| (next.start == end).then_some(next.end));
    assert_eq!(covered, Some(tokens), "sequences do not follow one another");
    assert_eq!(heads % kv_heads, 0, "heads are no multiple of kv_heads");
    assert_eq!(qkv.len(), tokens * (heads + 2 * kv_heads) * size, "qkv has another shape");
    assert_eq!(out.len(), tokens * heads * size, "out has another shape");
    assert_eq!(logsumexp.len(), tokens * heads, "logsumexp has another shape");
}

/// The strides of one call and the widths of its scratch.
#[derive(Clone, Copy)]
struct Shape {
    heads: Heads,
    scale: f32,
    /// Numbers of one token in `qkv` and in `out`.
    token: usize,
    across: usize,
    /// Rows for the longest sequence; numbers of a row of its scores, with a line of the cache more, lest the rows
    /// share the sets of the cache; columns of the panels for a head.
    longest: usize,
    width: usize,
    padded: usize,
}

impl Shape {
    fn new<S: Simd>(longest: usize, shape: Heads) -> Self {
        let Heads { heads, kv_heads, size, .. } = shape;
        let wide = PANEL * S::F32_LANES;
        Self {
            heads: shape,
            scale: 1.0 / (size as f32).sqrt(),
            token: (heads + 2 * kv_heads) * size,
            across: heads * size,
            longest: longest.next_multiple_of(STRIP),
            width: longest.next_multiple_of(wide.max(STRIP)) + 16,
            padded: size.next_multiple_of(wide),
        }
    }

    /// The columns of one head in the tokens of `range`, where a token has `stride` numbers.
    fn view<'a>(self, values: &'a [f32], stride: usize, range: &Range<usize>, head: usize) -> View<'a> {
        let size = self.heads.size;
        View {
            values: &values[range.start * stride + head * size..range.end * stride],
            stride,
            size,
            rows: range.len(),
        }
    }
}

fn longest(sequences: &[Range<usize>]) -> usize {
    sequences.iter().map(Range::len).max().unwrap_or(0)
}

/// Each sequence that is not empty with each head of keys.
fn pairs(sequences: &[Range<usize>], kv_heads: usize) -> impl Iterator<Item = (&Range<usize>, usize)> {
    let full = sequences.iter().filter(|range| !range.is_empty());
    full.flat_map(move |range| (0..kv_heads).map(move |kv| (range, kv)))
}

/// Each head of queries that belongs to the head `kv` of keys, with the first of every `step` of `rows`.
fn steps(heads: Heads, kv: usize, rows: usize, step: usize) -> impl Iterator<Item = (usize, usize)> {
    let group = heads.heads / heads.kv_heads;
    (kv * group..(kv + 1) * group)
        .flat_map(move |head| (0..rows).step_by(step).map(move |first| (head, first)))
}

/// Slices of the given lengths, each aligned to 64 bytes where the allocator allows.
fn scratch<const N: usize>(memory: &mut Vec<f32>, lengths: [usize; N]) -> [&mut [f32]; N] {
    let lengths = lengths.map(|length| length.next_multiple_of(16));
    *memory = vec![0.0; lengths.iter().sum::<usize>() + 16];
    let start = memory.as_ptr().align_offset(64).min(16);
    let mut rest = &mut memory[start..];
    lengths.map(|length| rest.split_off_mut(..length).unwrap_or_default())
}

struct Forward<'a> {
    qkv: &'a [f32],
    sequences: &'a [Range<usize>],
    heads: Heads,
    out: &'a mut [f32],
    logsumexp: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let shape = Shape::new::<S>(longest(self.sequences), self.heads);
        let Shape {
            scale,
            token,
            across,
            longest,
            width,
            padded,
            heads: Heads { heads, kv_heads, size, .. },
        } = shape;
        let mut memory = Vec::new();
        let [keys, values, scores, sums] =
            scratch(&mut memory, [width * size, longest * padded, STRIP * width, STRIP * padded]);
        for (range, kv) in pairs(self.sequences, kv_heads) {
            let keys = pack_transposed(simd, shape.view(self.qkv, token, range, heads + kv), keys);
            let values =
                pack(simd, shape.view(self.qkv, token, range, heads + kv_heads + kv), values, longest);
            for (head, first) in steps(self.heads, kv, range.len(), STRIP) {
                let queries = shape.view(self.qkv, token, range, head).part(first, STRIP);
                let (count, end) = (queries.rows, first + queries.rows);
                product(simd, queries, keys, [count, size, first + STRIP], scores, width, false);
                let (totals, shifts) =
                    softmax::<S, STRIP>(simd, scores, width, |row| self.heads.seen(first + row), scale);
                let scores = View { values: scores, stride: width, size: width, rows: count };
                product(simd, scores, values, [count, end, size], sums, padded, false);
                for row in 0..count {
                    let at = range.start + first + row;
                    self.logsumexp[at * heads + head] = shifts[row] + totals[row].ln();
                    let out = &mut self.out[at * across + head * size..][..size];
                    scaled(simd, &sums[row * padded..], 1.0 / totals[row], out);
                }
            }
        }
    }
}

struct Backward<'a> {
    qkv: &'a [f32],
    out: &'a [f32],
    logsumexp: &'a [f32],
    d_out: &'a [f32],
    sequences: &'a [Range<usize>],
    heads: Heads,
    d_qkv: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let shape = Shape::new::<S>(longest(self.sequences), self.heads);
        let Shape {
            scale, token, longest, width, padded, heads: Heads { heads, kv_heads, size, .. }, ..
        } = shape;
        let (panels, rows, block, scores) = (width * size, longest * padded, BLOCK * padded, BLOCK * width);
        let mut memory = Vec::new();
        let lengths = [panels, panels, rows, block, block, scores, scores, STRIP * padded, rows, rows];
        let [keys, values, key_rows, mut work @ ..] = scratch(&mut memory, lengths);
        for (range, kv) in pairs(self.sequences, kv_heads) {
            let key_view = shape.view(self.qkv, token, range, heads + kv);
            let value_view = shape.view(self.qkv, token, range, heads + kv_heads + kv);
            let (keys, values) =
                (pack_transposed(simd, key_view, keys), pack_transposed(simd, value_view, values));
            let right = [keys, values, pack(simd, key_view, key_rows, longest)];
            for sums in &mut work[5..] {
                sums[..range.len().next_multiple_of(STRIP) * padded].fill(0.0);
            }
            for (head, first) in steps(self.heads, kv, range.len(), BLOCK) {
                self.block(simd, shape, head, range, first, right, &mut work);
            }
            let [.., d_values, d_keys] = &work;
            for row in 0..range.len() {
                let to = &mut self.d_qkv[(range.start + row) * token + (heads + kv) * size..];
                scaled(simd, &d_keys[row * padded..], scale, &mut to[..size]);
                scaled(simd, &d_values[row * padded..], 1.0, &mut to[kv_heads * size..][..size]);
            }
        }
    }
}

impl Backward<'_> {
    /// The queries of one head from the query `block` of the sequence on: writes their gradients and adds to the
    /// sums of those of the keys and values. `right`: panels of keys and values, transposed, and of keys.
    ///
    /// `work`: panels of the queries and of d_out, probabilities and gradients of scores [BLOCK, width], sums of a
    /// strip [STRIP, padded], gradients of values and of keys [longest, padded].
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "the body of a loop")]
    fn block<S: Simd>(
        &mut self,
        simd: S,
        shape: Shape,
        head: usize,
        range: &Range<usize>,
        block: usize,
        [keys, values, key_rows]: [Panels<'_>; 3],
        [query_panels, d_out_panels, p, d_scores, sums, d_values, d_keys]: &mut [&mut [f32]; 7],
    ) {
        let Shape { scale, token, across, width, padded, heads: Heads { heads, size, .. }, .. } = shape;
        let tokens = range.start + block..range.end.min(range.start + block + BLOCK);
        let queries = shape.view(self.qkv, token, &tokens, head);
        let (outs, d_outs) =
            (shape.view(self.out, across, &tokens, head), shape.view(self.d_out, across, &tokens, head));
        for first in (0..tokens.len()).step_by(STRIP) {
            let (queries, d_outs) = (queries.part(first, STRIP), d_outs.part(first, STRIP));
            let (count, start) = (queries.rows, block + first);
            let (p, d_scores) = (&mut p[first * width..], &mut d_scores[first * width..]);
            product(simd, queries, keys, [count, size, start + STRIP], p, width, false);
            product(simd, d_outs, values, [count, size, start + STRIP], d_scores, width, false);
            let mut rows = [(0.0, 0.0); STRIP];
            for row in 0..count {
                let shift = self.logsumexp[(tokens.start + first + row) * heads + head];
                rows[row] = (shift, dot(simd, d_outs.row(row), outs.row(first + row)));
            }
            d_softmax(simd, p, d_scores, width, |row| shape.heads.seen(start + row), scale, rows);
            let left = View { values: d_scores, stride: width, size: width, rows: count };
            product(simd, left, key_rows, [count, start + count, size], sums, padded, false);
            for row in 0..count {
                let at = (tokens.start + first + row) * token + head * size;
                scaled(simd, &sums[row * padded..], scale, &mut self.d_qkv[at..at + size]);
            }
        }
        let (queries, d_outs) =
            (pack(simd, queries, query_panels, BLOCK), pack(simd, d_outs, d_out_panels, BLOCK));
        for key in (0..block + tokens.len()).step_by(STRIP) {
            let first = key.saturating_sub(block);
            let (at, shape) = (first * width + key, [STRIP, tokens.len() - first, size]);
            let (p, d_scores) = (Columns::new(&p[at..], width), Columns::new(&d_scores[at..], width));
            let (d_values, d_keys) = (&mut d_values[key * padded..], &mut d_keys[key * padded..]);
            product(simd, p, d_outs.after::<S>(first), shape, d_values, padded, true);
            product(simd, d_scores, queries.after::<S>(first), shape, d_keys, padded, true);
        }
    }
}

struct Decode<'a> {
    query: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    heads: Heads,
    kv: usize,
    out: &'a mut [f32],
}

impl WithSimd for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Heads { heads, kv_heads, size, .. } = self.heads;
        let (group, stride) = (heads / kv_heads, kv_heads * size);
        let length = self.keys.len() / stride;
        let shape = Shape::new::<S>(length, self.heads);
        let Shape { scale, width, padded, .. } = shape;
        let mut memory = Vec::new();
        let tall = group.next_multiple_of(STRIP);
        let [panels, scores, sums, totals] =
            scratch(&mut memory, [CACHE * padded, tall * width, tall * padded, group]);
        let view = |values, first| shape.view(values, stride, &(0..length), self.kv).part(first, CACHE);
        let queries = View { values: self.query, stride: size, size, rows: group };
        for first in (0..length).step_by(CACHE) {
            let keys = view(self.keys, first);
            let right = pack_transposed(simd, keys, panels);
            product(simd, queries, right, [group, size, keys.rows], &mut scores[first..], width, false);
        }
        for (scores, total) in scores.chunks_exact_mut(width).zip(&mut *totals) {
            [*total] = softmax::<S, 1>(simd, scores, width, |_| (0, length - 1), scale).0;
        }
        for first in (0..length).step_by(CACHE) {
            let values = view(self.values, first);
            let left = View { values: &scores[first..], stride: width, size: width, rows: group };
            let right = pack(simd, values, panels, CACHE);
            product(simd, left, right, [group, values.rows, size], sums, padded, first > 0);
        }
        for (row, out) in self.out.chunks_exact_mut(size).enumerate() {
            scaled(simd, &sums[row * padded..], 1.0 / totals[row], out);
        }
    }
}
