//! `converse`: a loaded model that answers prompts one after another.
//!
//! Purpose: what `kiln generate` and `kiln chat` talk to.
//! Invariant: the same model, seed and sequence of prompts give the same answers.
//! Must not know: terminals.

use std::io::BufRead;

use kiln::protocol::{ConverseRequest, Event, Turn};

use crate::bpe::Tokenizer;
use crate::bundle;
use crate::context::{StageError, emit};
use crate::device;
use crate::generate::{Sampling, Stop, generate_batch};
use crate::model::Decoder;

/// Answers the turns on stdin until it ends.
///
/// # Errors
/// When the request, the model or a turn cannot be read.
pub fn converse() -> Result<(), StageError> {
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().ok_or_else(|| StageError::failed("no request on stdin"))?;
    let request: ConverseRequest = parse(&first.map_err(StageError::failed)?)?;
    device::set_threads(request.threads);
    let device = device::resolve(&request.device).map_err(StageError::Failed)?;
    let (model, tokenizer) = bundle::load(&request.model, &device)?;
    for (i, line) in lines.enumerate() {
        let turn: Turn = parse(&line.map_err(StageError::failed)?)?;
        answer(&model, &tokenizer, &request, &turn.prompt, i as u64);
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, StageError> {
    serde_json::from_str(line).map_err(|e| StageError::failed(format!("stdin: {e}")))
}

fn answer(model: &Decoder, tokenizer: &Tokenizer, request: &ConverseRequest, prompt: &str, turn: u64) {
    let mut ids = if request.raw {
        [vec![tokenizer.eot()], tokenizer.encode(prompt)].concat()
    } else {
        tokenizer.prompt_ids(prompt)
    };
    let wanted = (request.max_tokens as usize).min(model.config().context / 2);
    let longest = model.config().context - wanted;
    ids.drain(..ids.len().saturating_sub(longest));
    let sampling = Sampling {
        temperature: request.temperature,
        max_tokens: request.max_tokens as usize,
        stop: Stop::Token(if request.raw { tokenizer.eot() } else { tokenizer.stop() }),
        seed: request.seed,
        purpose: "converse",
        step: turn,
        banned: &[],
    };
    let mut decoder = tokenizer.stream_decoder();
    let mut text = String::new();
    let stop = if request.raw { tokenizer.eot() } else { tokenizer.stop() };
    let made = generate_batch(model, &[ids], &[0], &sampling, &mut |_, token| {
        if token != stop {
            let piece = decoder.push(token);
            if !piece.is_empty() {
                text.push_str(&piece);
                emit(&Event::Token { text: piece });
            }
        }
    });
    text.push_str(&decoder.finish());
    let finished = made[0].finished;
    emit(&Event::Reply { text, finished, tokens: made[0].tokens.len() as u64 });
}
