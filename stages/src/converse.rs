//! `converse`: a loaded model that answers prompts one after another.
//!
//! Purpose: what `kiln generate` and `kiln chat` talk to.
//! Invariant: the same model, seed and sequence of prompts give the same answers.
//! Must not know: terminals.

use std::collections::VecDeque;
use std::io::BufRead;

use kiln::protocol::{ConverseRequest, Event, ReplyEnd, Turn};
use kiln_formats::records::Message;
use kiln_formats::tokenizer::{Tokenizer, TokenizerError};

use crate::bundle;
use crate::context::{StageError, emit};
use crate::device;
use crate::generate::{Generator, Sampling, Stop};

/// The prompts so far, and their replies.
type Past = VecDeque<(String, String)>;

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
    let mut past = VecDeque::new();
    for (i, line) in lines.enumerate() {
        let turn: Turn = parse(&line.map_err(StageError::failed)?)?;
        let reply = answer((&model, context), &tokenizer, &request, (&mut past, &turn.prompt), i as u64)?;
        if request.chat && !request.raw {
            past.push_back((turn.prompt, reply));
        }
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
    (past, prompt): (&mut Past, &str),
    turn: u64,
) -> Result<String, StageError> {
    /// Two marks and a token between them.
    const LEAST: usize = 3;
    if context <= LEAST {
        return Err(StageError::failed(format!(
            "the context of this model, {context} tokens, has no room for a prompt and a reply"
        )));
    }
    let wanted = (request.max_tokens as usize).min(context / 2).min(context - LEAST);
    let ids = ids(tokenizer, past, prompt, request.raw, context - wanted)?;
    let mut stops = tokenizer.stops();
    if request.raw {
        // A page of our own tokenizer may well quote the end of an answer.
        stops.retain(|_| tokenizer.own().is_none());
        stops.push(tokenizer.eot());
    }
    let sampling = Sampling {
        temperature: request.temperature,
        max_new_tokens: request.max_tokens as usize,
        stop: Stop::Tokens(stops.clone()),
        seed: request.seed,
        purpose: "converse",
        step: turn,
    };
    let mut decoder = tokenizer.stream_decoder();
    let mut text = String::new();
    let made = model.stream(&ids, &sampling, &mut |token| {
        if !stops.contains(&token) {
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
    emit(&Event::Reply { text: text.clone(), finished, tokens, end: Some(end) });
    Ok(text)
}

/// The tokens of a prompt, at most `room`, after what was said before it; says so when something does not fit.
fn ids(
    tokenizer: &Tokenizer,
    past: &mut Past,
    prompt: &str,
    is_raw: bool,
    room: usize,
) -> Result<Vec<u32>, TokenizerError> {
    let warn = |message: String| emit(&Event::Log { level: "warn".to_owned(), message });
    let all = past.len();
    if let Some(ids) = conversation(tokenizer, past, prompt, room)? {
        if past.len() < all {
            warn(format!(
                "the context has no room for the whole conversation: its first {} are left out",
                turns(all - past.len())
            ));
        }
        return Ok(ids);
    }
    let (ids, is_cut) = match is_raw {
        true => tokenizer.page_ids_within(prompt, room),
        false => tokenizer.prompt_ids_within(&[Message::user(prompt)], room)?,
    };
    if is_cut {
        warn(format!("the prompt is longer than {room} tokens: its beginning is cut off"));
    }
    Ok(ids)
}

fn turns(n: usize) -> String {
    if n == 1 { "prompt and reply".to_owned() } else { format!("{n} prompts and replies") }
}

/// The tokens of a prompt and of as much as fits of what was said before it, of which the oldest is forgotten first; none
/// when nothing of it fits.
fn conversation(
    tokenizer: &Tokenizer,
    past: &mut Past,
    prompt: &str,
    room: usize,
) -> Result<Option<Vec<u32>>, TokenizerError> {
    while !past.is_empty() {
        let before =
            past.iter().flat_map(|(prompt, reply)| [Message::user(prompt), Message::assistant(reply)]);
        let said: Vec<_> = before.chain([Message::user(prompt)]).collect();
        let ids = tokenizer.prompt_ids(&said)?;
        if ids.len() <= room {
            return Ok(Some(ids));
        }
        past.pop_front();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tokenizer;

    #[test]
    fn a_conversation_goes_on_and_loses_its_oldest_turns_when_it_gets_too_long() {
        let tokenizer = tokenizer();
        let turns = [("the sun", "rose"), ("the birds", "sang"), ("the hill", "stood")];
        let all: Past = turns.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let whole = [
            Message::user("the sun"),
            Message::assistant("rose"),
            Message::user("the birds"),
            Message::assistant("sang"),
            Message::user("the hill"),
            Message::assistant("stood"),
            Message::user("again"),
        ];
        for kept in (0..=3).rev() {
            let wanted = tokenizer.prompt_ids(&whole[2 * (3 - kept)..]).unwrap();
            let mut past = all.clone();
            let ids = conversation(&tokenizer, &mut past, "again", wanted.len()).unwrap();
            assert_eq!(past.len(), kept);
            assert_eq!(ids, (kept > 0).then_some(wanted));
        }
    }
}
