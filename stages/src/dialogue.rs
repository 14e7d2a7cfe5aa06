//! Prompts and answers as tokens.
//!
//! Purpose: the rows of a prompt with its answer, prompts that have to fit a context, ranked answers and the pairs among
//! them, and samples as text again.
//! Invariant: the marks of the chat template are never cut; what is left out or cut is said.
//! Must not know: models, losses, which stage asks.

use kiln_formats::tokenizer::{Tokenizer, TokenizerError};

use crate::context::{Context, StageError};
use crate::data::{Answer, Chat, Completion, Demonstration, Judged, Message, Prompt};
use crate::generate;
use crate::model::TokenRow;
use crate::rl::pairs::{Pair, pairs};

/// Prompt and answer as one row, the answer's tokens as targets; a finished answer ends with the stop token. A sampled
/// answer keeps the very tokens that were sampled, if this tokenizer spells its text with them.
///
/// # Errors
/// When the chat template cannot be rendered.
pub fn answered(
    tokenizer: &Tokenizer,
    prompt: &[Message],
    answer: &Completion,
) -> Result<TokenRow, TokenizerError> {
    let mut ids = tokenizer.prompt_ids(prompt)?;
    let from = ids.len();
    if !answer.tokens.is_empty() && tokenizer.spells(&answer.tokens, &answer.text, answer.finished) {
        ids.extend(&answer.tokens);
        return Ok(TokenRow::new(ids, from));
    }
    ids.extend(tokenizer.response_ids(&answer.text));
    if !answer.finished {
        ids.pop();
    }
    Ok(TokenRow::new(ids, from))
}

/// A demonstration as a row: of a conversation the assistant's turns are targets, of a text all of it and its end. Says how
/// many turns of the assistant the template keeps from being targets.
///
/// # Errors
/// When the chat template cannot be rendered, or does not say what the assistant says.
pub fn demonstrated(
    tokenizer: &Tokenizer,
    demonstration: &Demonstration,
) -> Result<(TokenRow, usize), TokenizerError> {
    match demonstration {
        Demonstration::Chat(chat) => {
            let masked = tokenizer.conversation(chat)?;
            Ok((TokenRow::masked(masked.ids, &masked.mask), masked.unmarked))
        }
        Demonstration::Text(text) => {
            let (mut ids, _) = tokenizer.page_ids_within(text, usize::MAX);
            ids.push(tokenizer.eot());
            Ok((TokenRow::new(ids, 1), 0))
        }
    }
}

/// Demonstrations as rows of at most `context` tokens, with the place of each among the demonstrations. One that does not fit
/// is left out and never cut; how many are is logged.
///
/// # Errors
/// When the chat template cannot be rendered; when nothing is left.
pub fn demonstrations(
    ctx: &Context,
    tokenizer: &Tokenizer,
    demonstrations: &[Demonstration],
    context: usize,
) -> Result<Vec<(usize, TokenRow)>, StageError> {
    let (mut rows, mut long, mut unmarked) = (Vec::new(), 0, 0);
    for (place, demonstration) in demonstrations.iter().enumerate() {
        let (row, turns) = demonstrated(tokenizer, demonstration)?;
        unmarked += turns;
        long += usize::from(row.ids.len() > context);
        if row.ids.len() <= context && row.targets() > 0 {
            rows.push((place, row));
        }
    }
    let all = demonstrations.len();
    for (count, what) in [
        (long, format!("of {all} demonstrations are longer than {context} tokens: left out")),
        (all - long - rows.len(), format!("of {all} demonstrations have nothing to learn: left out")),
        (
            unmarked,
            "turns of the assistant are not learnt: the chat template renders them otherwise once others follow".to_owned(),
        ),
    ] {
        if count > 0 {
            ctx.warn(format!("{count} {what}"));
        }
    }
    match rows.is_empty() {
        true => Err(StageError::failed("no demonstration fits into the model's context")),
        false => Ok(rows),
    }
}

/// The text of a sampled completion, without its stop token.
pub fn completion(tokenizer: &Tokenizer, made: &generate::Completion) -> Completion {
    let body = if made.finished { &made.tokens[..made.tokens.len() - 1] } else { &made.tokens };
    Completion { text: tokenizer.decode(body), finished: made.finished, tokens: made.tokens.clone() }
}

/// A prompt's ranked answers as rows.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Prompt and answer, a row each; a row that is too long is cut at its end.
    pub rows: Vec<TokenRow>,
    ranks: Vec<u32>,
}

impl Ranked {
    /// Its pairs, as rows of a batch in which its first row is `first`. Equal rows teach nothing: they give no pair.
    pub fn pairs(&self, first: usize) -> Vec<Pair> {
        let ids = |row: usize| &self.rows[row - first].ids;
        let mut pairs = pairs(&self.ranks, first);
        pairs.retain(|pair| ids(pair.better) != ids(pair.worse));
        pairs
    }
}

/// An answer to its prompt as a row.
///
/// # Errors
/// When the chat template cannot be rendered, or does not say where the answer begins.
pub fn judged_row(
    tokenizer: &Tokenizer,
    judged: &Judged,
    answer: &Answer,
) -> Result<TokenRow, TokenizerError> {
    match answer {
        Answer::Completion(completion) => answered(tokenizer, &judged.prompt, completion),
        Answer::Turns(turns) => {
            let messages = [judged.prompt.as_slice(), turns].concat();
            let chat = Chat { messages, prompt_turns: judged.prompt.len(), tools: judged.tools.clone() };
            Ok(demonstrated(tokenizer, &Demonstration::Chat(chat))?.0)
        }
    }
}

/// A ranking as rows of at most `context` tokens. A row in which no token is left to be judged is left out.
fn ranked_item(
    tokenizer: &Tokenizer,
    judged: &Judged,
    context: usize,
    cut: &mut usize,
) -> Result<Ranked, TokenizerError> {
    let mut item = Ranked { rows: Vec::new(), ranks: Vec::new() };
    for (answer, &rank) in judged.answers.iter().zip(&judged.ranks) {
        let mut row = judged_row(tokenizer, judged, answer)?;
        let length = row.ids.len();
        row.truncate(context);
        if row.targets() > 0 {
            *cut += usize::from(row.ids.len() < length);
            item.rows.push(row);
            item.ranks.push(rank);
        }
    }
    Ok(item)
}

/// The rankings that have something to teach; what is left out or cut is logged.
///
/// # Errors
/// When none has; when the chat template cannot be rendered.
pub fn ranked(
    ctx: &Context,
    tokenizer: &Tokenizer,
    rankings: &[Judged],
    context: usize,
) -> Result<Vec<Ranked>, StageError> {
    let mut cut = 0;
    let items = rankings.iter().map(|r| ranked_item(tokenizer, r, context, &mut cut));
    let mut items = items.collect::<Result<Vec<Ranked>, _>>()?;
    let given: usize = rankings.iter().map(|r| r.answers.len()).sum();
    let left: usize = items.iter().map(|item| item.rows.len()).sum();
    let equal: usize = items.iter().map(|i| pairs(&i.ranks, 0).len() - i.pairs(0).len()).sum();
    for (count, what) in [
        (given - left, "completions left out: they are empty, or their prompt fills the context".to_owned()),
        (cut, format!("completions are cut at {context} tokens with their prompt, and have no stop token")),
        (equal, "pairs left out: their completions are equal, as far as the context goes".to_owned()),
    ] {
        if count > 0 {
            ctx.warn(format!("{count} {what}"));
        }
    }
    items.retain(|i| !i.pairs(0).is_empty());
    match items.is_empty() {
        true => Err(StageError::failed(format!(
            "no ranking has two different completions of different rank within {context} tokens"
        ))),
        false => Ok(items),
    }
}

/// The rows of some rankings as one batch, and the pairs among them.
pub fn batch_of<'a>(items: impl Iterator<Item = &'a Ranked>) -> (Vec<TokenRow>, Vec<Pair>) {
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for item in items {
        all.extend(item.pairs(rows.len()));
        rows.extend(item.rows.iter().cloned());
    }
    (rows, all)
}

/// The tokens of a prompt that leave room for a response.
///
/// # Errors
/// When the context has no room for a prompt beside the response.
pub fn room(context: usize, max_new_tokens: usize) -> Result<usize, StageError> {
    /// Two marks and a token between them.
    const LEAST: usize = 3;
    let room = context.saturating_sub(max_new_tokens);
    if room < LEAST {
        return Err(StageError::failed(format!(
            "`max_new_tokens: {max_new_tokens}` leaves no room for a prompt in a context of {context} tokens: lower it"
        )));
    }
    Ok(room)
}

/// The prompts of at most `room` tokens, with their tokens; how many were left out is logged.
///
/// # Errors
/// When none is left; when the chat template cannot be rendered.
pub fn fitting(
    ctx: &Context,
    tokenizer: &Tokenizer,
    prompts: Vec<Prompt>,
    room: usize,
) -> Result<(Vec<Prompt>, Vec<Vec<u32>>), StageError> {
    let all = prompts.len();
    let with_ids = prompts.into_iter().map(|prompt| Ok((tokenizer.prompt_ids(&prompt.prompt)?, prompt)));
    let with_ids = with_ids.collect::<Result<Vec<_>, TokenizerError>>()?.into_iter();
    let (ids, prompts): (Vec<_>, Vec<_>) = with_ids.filter(|(ids, _)| ids.len() <= room).unzip();
    if prompts.is_empty() {
        return Err(StageError::failed(match all {
            0 => "there are no prompts".to_owned(),
            _ => format!(
                "all {all} prompts are longer than {room} tokens, what `max_new_tokens` leaves of the context: lower it, or \
                 shorten the prompts"
            ),
        }));
    }
    if prompts.len() < all {
        ctx.warn(format!("{} of {all} prompts are longer than {room} tokens: left out", all - prompts.len()));
    }
    Ok((prompts, ids))
}

/// The tokens of prompts of which too long ones lose the beginning of their text, never the marks around it; how many
/// did is logged.
///
/// # Errors
/// When the chat template cannot be rendered.
pub fn shortened(
    ctx: &Context,
    tokenizer: &Tokenizer,
    prompts: &[Prompt],
    room: usize,
) -> Result<Vec<Vec<u32>>, StageError> {
    let mut cut = 0;
    let ids = prompts.iter().map(|prompt| {
        let (ids, is_cut) = tokenizer.prompt_ids_within(&prompt.prompt, room)?;
        cut += usize::from(is_cut);
        Ok(ids)
    });
    let ids = ids.collect::<Result<Vec<_>, TokenizerError>>()?;
    log_cut(ctx, cut, prompts.len(), room);
    Ok(ids)
}

/// The tokens of pages of raw text in at most `room` tokens: the mark of a beginning, then the text, of which a long one
/// loses its beginning; how many did is logged.
pub fn pages(ctx: &Context, tokenizer: &Tokenizer, texts: &[String], room: usize) -> Vec<Vec<u32>> {
    let mut cut = 0;
    let ids = texts.iter().map(|text| {
        let (ids, is_cut) = tokenizer.page_ids_within(text, room);
        cut += usize::from(is_cut);
        ids
    });
    let ids = ids.collect();
    log_cut(ctx, cut, texts.len(), room);
    ids
}

fn log_cut(ctx: &Context, cut: usize, all: usize, room: usize) {
    if cut > 0 {
        ctx.warn(format!(
            "{cut} of {all} prompts are longer than {room} tokens: the beginning of each is cut off"
        ));
    }
}

#[cfg(test)]
mod tests;
