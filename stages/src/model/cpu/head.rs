//! From the residual stream to the outputs, and back.
//!
//! Purpose: the last norm, and log-probabilities by the vocabulary's head or numbers by the scalar head.
//! Invariant: the head goes through the vocabulary in blocks, in a fixed order; logits of all tokens over a large vocabulary are
//! in memory at once only where they are few beside what the layers keep.
//! Must not know: layers.

use std::ops::Range;

use super::Readout;
use super::backward::{Region, Sink, frozen_norm};
use super::tape::{Last, Tape};
use super::view::View;
use crate::kernels::cpu::linear::{self, Matrix, product};
use crate::kernels::cpu::logprobs::{self, Softmax};
use crate::kernels::cpu::{memory, norm};
use crate::model::layout::LinearAt;

/// Tokens of the vocabulary in a block.
const BLOCK: usize = 4096;

/// The parts of the gradients that the head adds to, in the order of their places: the blocks of its weight, then the last
/// norm with the scalar head.
pub fn parts(view: &View) -> Vec<Range<usize>> {
    if let Some(adapter) = view.adapter {
        // The places of a scalar head, before those of the layers; none without it.
        let head = adapter.layout.value_head.as_ref().map(|head| head.weight.len() + 1);
        return std::iter::once(0..head.unwrap_or(0)).collect();
    }
    let blocks = blocks(view).map(|block| place(view, &block));
    blocks.chain([view.layout.last.clone()]).collect()
}

fn blocks(view: &View) -> impl Iterator<Item = Range<usize>> {
    let vocab = view.config.vocab;
    (0..vocab).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(vocab))
}

/// Where the rows of a block stand.
fn place(view: &View, block: &Range<usize>) -> Range<usize> {
    let (start, d) = (view.layout.head.start, view.config.hidden_size);
    start + block.start * d..start + block.end * d
}

/// The outputs of a tape whose layers are filled.
pub fn forward(view: &View, tape: &mut Tape) -> Vec<f32> {
    let Tape { batch, readout, last, .. } = tape;
    normalise(view, last);
    match readout {
        Readout::LogProbs { temperature } => logprobs(view, last, &batch.labels, *temperature),
        Readout::Values | Readout::Scores => values(view, last),
    }
}

fn normalise(view: &View, last: &mut Last) {
    let place = &view.layout.norm;
    last.normed = vec![0.0; last.stream.len()];
    norm::forward(
        view.norm(),
        &last.stream,
        view.at(&place.weight),
        view.option(&place.bias),
        &mut last.normed,
    );
}

fn values(view: &View, last: &Last) -> Vec<f32> {
    let mut out = vec![0.0; last.read.len()];
    if let Some((_, head)) = view.value_head() {
        linear::forward(&head, &last.normed, &mut out, false);
    }
    out
}

fn logprobs(view: &View, last: &mut Last, labels: &[u32], temperature: f32) -> Vec<f32> {
    assert!(
        labels.iter().all(|&label| (label as usize) < view.config.vocab),
        "a label beyond the vocabulary"
    );
    let n = last.read.len();
    let (mut top, mut total, mut target) = (vec![f32::NEG_INFINITY; n], vec![0.0; n], vec![0.0; n]);
    last.make_room(view);
    for block in blocks(view) {
        let place = last.place(&block);
        let logits = &mut last.logits[place];
        block_logits(view, &block, &last.normed, logits);
        let state = &mut Softmax { top: &mut top, total: &mut total, target: &mut target };
        logprobs::forward(logits, block.start, labels, temperature, state);
    }
    last.logsumexp = top.iter().zip(total).map(|(top, total)| top + total.ln()).collect();
    target.iter().zip(&last.logsumexp).map(|(logit, total)| logit - total).collect()
}

impl Last {
    /// Room for the logits of all blocks, or of one after the other.
    fn make_room(&mut self, view: &View) {
        let vocab = view.config.vocab;
        let size = self.read.len() * if self.keeps_logits { vocab } else { vocab.min(BLOCK) };
        if self.logits.len() < size {
            self.logits = memory::zeros(size);
        }
    }

    /// The place of a block's logits.
    fn place(&self, block: &Range<usize>) -> Range<usize> {
        let (n, first) = (self.read.len(), if self.keeps_logits { block.start } else { 0 });
        n * first..n * (first + block.len())
    }
}

fn block_logits(view: &View, block: &Range<usize>, normed: &[f32], out: &mut [f32]) {
    let d = view.config.hidden_size;
    product(out, Matrix::new(normed, d), Matrix::new(view.at(&place(view, block)), d).t(), false);
}

/// All logits at the places that are read, `[n, vocab]`, after [`forward`].
pub fn logits(view: &View, tape: &mut Tape) -> Vec<f32> {
    let (vocab, last) = (view.config.vocab, &mut tape.last);
    let is_there = last.keeps_logits || vocab <= BLOCK;
    let mut out = vec![0.0; last.read.len() * vocab];
    for block in blocks(view) {
        let place = last.place(&block);
        let logits = &mut last.logits[place];
        if !is_there {
            block_logits(view, &block, &last.normed, logits);
        }
        for (row, part) in out.chunks_exact_mut(vocab).zip(logits.chunks_exact(block.len())) {
            row[block.clone()].copy_from_slice(part);
        }
    }
    out
}

/// Given the gradients of the outputs, the gradient of the residual stream after the last layer, `[tokens, hidden_size]`.
pub fn backward(view: &View, tape: &mut Tape, d_outputs: &[f32], sink: Sink) -> Vec<f32> {
    let Tape { batch, readout, last, .. } = tape;
    let d = view.config.hidden_size;
    let mut d_normed = vec![0.0; last.stream.len()];
    match readout {
        Readout::LogProbs { temperature } => {
            logprobs_backward(view, last, (&batch.labels, *temperature, d_outputs), &mut d_normed, sink);
        }
        Readout::Values | Readout::Scores => {
            if let Some((_, head)) = view.value_head() {
                linear::backward_input(&head, d_outputs, &mut d_normed);
            }
        }
    }
    let mut d_stream = vec![0.0; last.stream.len()];
    let (part, start) =
        if view.adapter.is_some() { (0, 0) } else { (blocks(view).count(), view.layout.last.start) };
    sink.add(part, |grads| {
        let mut region = Region { grads, start };
        if let (Some((head, _)), Readout::Values | Readout::Scores) = (view.value_head(), &*readout) {
            // Scores count by their differences alone, in which a bias is nothing but rounding.
            let bias = head.bias.clone().filter(|_| *readout == Readout::Values);
            region.linear(&LinearAt { bias, ..head.clone() }, &last.normed, d_outputs);
        }
        if view.adapter.is_none() {
            region.norm(view, &view.layout.norm, &last.stream, &mut d_normed, &mut d_stream);
        }
    });
    if view.adapter.is_some() {
        frozen_norm(view, &view.layout.norm, &last.stream, &mut d_normed, &mut d_stream);
    }
    let mut d_x = vec![0.0; batch.input_ids.len() * d];
    for (&t, d_row) in last.read.iter().zip(d_stream.chunks_exact(d)) {
        d_x[t * d..(t + 1) * d].copy_from_slice(d_row);
    }
    d_x
}

fn logprobs_backward(
    view: &View,
    last: &mut Last,
    (labels, temperature, d_outputs): (&[u32], f32, &[f32]),
    d_normed: &mut [f32],
    sink: Sink,
) {
    let (d, count) = (view.config.hidden_size, blocks(view).count());
    for (i, block) in blocks(view).enumerate() {
        let place_of_logits = last.place(&block);
        let Last { normed, logits, logsumexp, keeps_logits, .. } = last;
        let logits = &mut logits[place_of_logits];
        // The only block's logits are still there.
        if !*keeps_logits && count > 1 {
            block_logits(view, &block, normed, logits);
        }
        logprobs::backward(logits, block.start, labels, temperature, logsumexp, d_outputs);
        let (normed, d_logits) = (Matrix::new(normed, d), Matrix::new(logits, block.len()));
        product(d_normed, d_logits, Matrix::new(view.at(&place(view, &block)), d), i > 0);
        if view.adapter.is_none() {
            sink.add(i, |grads| product(grads, d_logits.t(), normed, true));
        }
    }
}
