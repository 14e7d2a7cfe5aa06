//! `converse`: a loaded model that answers prompts one after another.
//!
//! Purpose: what `kiln generate` and `kiln chat` talk to.
//! Invariant: the same model, seed and sequence of prompts give the same answers.
//! Must not know: terminals.

use std::io::BufRead;

use kiln::protocol::{ConverseRequest, Event, ReplyEnd, Turn};

use crate::bpe::Tokenizer;
use crate::bundle;
use crate::context::{StageError, emit};
use crate::device;
use crate::generate::{Generator, Sampling, Stop};

/// Answers the turns on stdin until it ends.
///
/// # Errors
/// When the request, the model or a turn cannot be read.
pub fn converse() -> Result<(), StageError> {
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().ok_or_else(|| StageError::failed("no request on stdin"))?;
    let request: ConverseRequest = parse(&first.map_err(StageError::failed)?)?;
    if !(request.temperature.is_finite() && request.temperature >= 0.0) {
        let wrong = request.temperature;
        return Err(StageError::failed(format!("the temperature must be 0 or more, not {wrong}")));
    }
    device::set_threads(request.threads);
    let device = device::resolve(&request.device).map_err(StageError::Failed)?;
    let (model, tokenizer) = bundle::load(&request.model, &device)?;
    let context = model.config().max_position_embeddings;
    let model = Generator::new(&model);
    for (i, line) in lines.enumerate() {
        let turn: Turn = parse(&line.map_err(StageError::failed)?)?;
        answer((&model, context), &tokenizer, &request, &turn.prompt, i as u64)?;
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(line: &str) -> Result<T, StageError> {
    serde_json::from_str(line).map_err(|e| StageError::failed(format!("stdin: {e}")))
}

fn answer(
    (model, context): (&Generator, usize),
    tokenizer: &Tokenizer,
    request: &ConverseRequest,
    prompt: &str,
    turn: u64,
) -> Result<(), StageError> {
    /// Two marks and a token between them.
    const LEAST: usize = 3;
    if context <= LEAST {
        return Err(StageError::failed(format!(
            "the context of this model, {context} tokens, has no room for a prompt and a reply"
        )));
    }
    let wanted = (request.max_tokens as usize).min(context / 2).min(context - LEAST);
    let ids = ids(tokenizer, prompt, request.raw, context - wanted);
    let stop = if request.raw { tokenizer.eot() } else { tokenizer.stop() };
    let sampling = Sampling {
        temperature: request.temperature,
        max_new_tokens: request.max_tokens as usize,
        stop: Stop::Token(stop),
        seed: request.seed,
        purpose: "converse",
        step: turn,
    };
    let mut decoder = tokenizer.stream_decoder();
    let mut text = String::new();
    let made = model.stream(&ids, &sampling, &mut |token| {
        if token != stop {
            let piece = decoder.push(token);
            if !piece.is_empty() {
                text.push_str(&piece);
                emit(&Event::Token { text: piece });
            }
        }
    })?;
    text.push_str(&decoder.finish());
    let (finished, tokens) = (made.finished, made.tokens.len() as u64);
    let end = match finished {
        true => ReplyEnd::Stop,
        false if tokens < u64::from(request.max_tokens) => ReplyEnd::Context,
        false => ReplyEnd::MaxTokens,
    };
    emit(&Event::Reply { text, finished, tokens, end: Some(end) });
    Ok(())
}

/// The tokens of a prompt, at most `room`; says so when the beginning of its text is cut off.
fn ids(tokenizer: &Tokenizer, prompt: &str, is_raw: bool, room: usize) -> Vec<u32> {
    let (ids, is_cut) = match is_raw {
        true => tokenizer.page_ids_within(prompt, room),
        false => tokenizer.prompt_ids_within(prompt, room),
    };
    if is_cut {
        let message = format!("the prompt is longer than {room} tokens: its beginning is cut off");
        emit(&Event::Log { level: "warn".to_owned(), message });
    }
    ids
}
