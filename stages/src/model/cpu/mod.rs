//! A decoder on the host's memory: forward pass, gradients, generation.
//!
//! Purpose: the whole decoder as one operation with a hand-written gradient, made of the kernels for the CPU. A batch is cut
//! into shards, each worked on by one thread (`workers`); their gradients are added in order (`turns`).
//! Invariant: what is computed depends on the batch and the number of shards, never on the number of threads.
//! Must not know: losses, optimizers, files, tensors of any library.

mod backward;
pub mod decode;
mod forward;
mod head;
mod lora;
mod qk_norm;
pub mod tape;
mod turns;
mod view;

pub use tape::{Keep, Tape};
pub use view::{AdapterView, Spare, View};

use super::batch::{Batch, Readout, TokenRow};
use super::config::ModelConfig;
use super::layout::Layout;
use crate::kernels::workers;
use backward::Sink;
use turns::Turns;

/// The outputs of rows in order, and, if something is to be kept, what [`backward`] needs.
pub fn forward(view: &View, rows: &[TokenRow], readout: Readout, keep: Keep) -> (Vec<f32>, Vec<Tape>) {
    let made = workers::run(shards(rows, view.shards), |_, rows| {
        let mut tape = Tape::new(view, Batch::new(rows, readout), readout, keep);
        forward::layers(view, &mut tape);
        (head::forward(view, &mut tape), tape)
    });
    let (outputs, mut tapes): (Vec<Vec<f32>>, Vec<Tape>) = made.into_iter().unzip();
    if keep == Keep::Nothing {
        tapes.drain(..).for_each(|tape| tape.give_back(view));
    }
    (outputs.concat(), tapes)
}

/// The log-probabilities of all targets of rows in order, as [`forward`] gives them, and their logits `[n, vocab]`.
pub fn logprobs_and_logits(view: &View, rows: &[TokenRow], temperature: f32) -> (Vec<f32>, Vec<f32>) {
    let readout = Readout::LogProbs { temperature };
    let made = workers::run(shards(rows, view.shards), |_, rows| {
        let mut tape = Tape::new(view, Batch::new(rows, readout), readout, Keep::Nothing);
        forward::layers(view, &mut tape);
        let logprobs = head::forward(view, &mut tape);
        let logits = head::logits(view, &mut tape);
        tape.give_back(view);
        (logprobs, logits)
    });
    let (logprobs, logits): (Vec<Vec<f32>>, Vec<Vec<f32>>) = made.into_iter().unzip();
    (logprobs.concat(), logits.concat())
}

/// Adds the gradients of the parameters to `grads`, given those of the outputs.
pub fn backward(view: &View, tapes: Vec<Tape>, d_outputs: &[f32], grads: &mut [f32]) {
    let mut rest = d_outputs;
    let jobs = tapes.into_iter().map(|tape| {
        let (mine, others) = rest.split_at(tape.outputs());
        rest = others;
        (tape, mine)
    });
    let jobs = jobs.collect();
    let head = head::parts(view);
    let turns = Turns::new(grads, &[head.as_slice(), &backward::parts(view)].concat());
    let done = workers::run(jobs, |worker, (mut tape, d_outputs)| {
        let _guard = Release(&turns);
        let sink = Sink { turns: &turns, worker, first: 0 };
        let mut d_x = head::backward(view, &mut tape, d_outputs, sink);
        backward::layers(view, &mut tape, &mut d_x, Sink { first: head.len(), ..sink });
        (tape, d_x)
    });
    for (tape, d_x) in done {
        backward::embeddings(view, &tape.batch, &d_x, grads);
        tape.give_back(view);
    }
}

/// Lets the other workers go when one panics.
struct Release<'a>(&'a Turns<'a>);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.release();
        }
    }
}

/// Rows cut into at most `count` runs of about as many tokens.
fn shards(rows: &[TokenRow], count: usize) -> Vec<&[TokenRow]> {
    let all: usize = rows.iter().map(|row| row.ids.len()).sum();
    let (mut start, mut seen, mut cuts) = (0, 0, Vec::new());
    for (i, row) in rows.iter().enumerate() {
        seen += row.ids.len();
        // Where the tokens so far reach the next part of all.
        if seen * count >= all * (cuts.len() + 1) {
            cuts.push(&rows[start..=i]);
            start = i + 1;
        }
    }
    cuts
}
