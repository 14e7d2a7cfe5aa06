//! The norms of queries and keys.
//!
//! Purpose: each head of the queries and of the keys through an RMSNorm of its own layer, and the gradients.
//! Invariant: a head's result depends on that head alone.
//! Must not know: RoPE, attention.
//! Source: Dehghani 2023; as Qwen3 has it.

use super::view::View;
use crate::kernels::cpu::{linear, norm};
use crate::model::layout::HalfAt;

/// Normalises the queries and keys in `qkv`, `[tokens, qkv_width]`, and keeps what they were in `before`,
/// `[tokens, attention_width + kv_width]`.
pub fn forward(view: &View, half: &HalfAt, qkv: &mut [f32], before: &mut [f32]) {
    let Some(places) = &half.qk_norm else { return };
    let (queries, width) = widths(view);
    let rows = qkv.chunks_exact_mut(half.first.columns).zip(before.chunks_exact_mut(width));
    for (row, before) in rows {
        before.copy_from_slice(&row[..width]);
        let (q, k) = row[..width].split_at_mut(queries);
        let parts = [(q, &before[..queries]), (k, &before[queries..])];
        for ((out, x), place) in parts.into_iter().zip(places) {
            norm::forward(view.norm(), x, view.at(place), None, out);
        }
    }
}

/// Turns the gradients of the normalised queries and keys in `d_qkv` into those of what they were; gives the gradients of
/// both weights.
pub fn backward(view: &View, half: &HalfAt, d_qkv: &mut [f32], before: &[f32]) -> Option<[Vec<f32>; 2]> {
    let places = half.qk_norm.as_ref()?;
    let (queries, width) = widths(view);
    let mut d_weights = [(); 2].map(|()| vec![0.0; view.config.head_dim]);
    let mut d_x = vec![0.0; width];
    let rows = d_qkv.chunks_exact_mut(half.first.columns).zip(before.chunks_exact(width));
    for (row, before) in rows {
        d_x.fill(0.0);
        let ((d_q, d_k), (x_q, x_k)) = (row[..width].split_at_mut(queries), before.split_at(queries));
        let (into_q, into_k) = d_x.split_at_mut(queries);
        let parts = [(d_q, x_q, into_q), (d_k, x_k, into_k)];
        for (((d_out, x, d_x), place), d_weight) in parts.into_iter().zip(places).zip(&mut d_weights) {
            norm::backward(view.norm(), x, view.at(place), d_out, d_x);
            linear::add_rows(d_weight, d_out);
        }
        row[..width].copy_from_slice(&d_x);
    }
    Some(d_weights)
}

/// Numbers of a token's queries, and of its queries and keys.
fn widths(view: &View) -> (usize, usize) {
    (view.config.attention_width(), view.config.attention_width() + view.config.kv_width())
}
