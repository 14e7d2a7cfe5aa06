//! Our own artifacts of several answers.
//!
//! Purpose: rows of `completions` and `rankings`.
//! Invariant: a row that was read has passed its check.
//! Must not know: where they come from.

use super::super::error::Fault;
use super::super::example::{Completion, CompletionSet, Ranking};
use super::super::json::Json;
use super::super::row::Row;
use super::asked;
use super::fields::{kind, list, needed, optional_number, string};

/// A row of `completions`.
pub(super) fn completions(row: &mut Row) -> Result<CompletionSet, Fault> {
    let prompt = asked::needed(row, "prompt")?;
    let completions = answers(row)?;
    if completions.is_empty() {
        return Err(Fault::new("completions", "it is empty"));
    }
    Ok(CompletionSet { prompt, completions })
}

/// A row of `rankings`.
pub(super) fn ranking(row: &mut Row) -> Result<Ranking, Fault> {
    let prompt = asked::needed(row, "prompt")?;
    let completions = answers(row)?;
    let (field, value) = needed(row, &["ranks"])?;
    let ranks = list(value, field)?.into_iter().enumerate();
    let ranks: Result<Vec<u32>, Fault> =
        ranks.map(|(place, rank)| whole(&rank, &format!("{field}[{place}]"))).collect();
    let (ranks, k) = (ranks?, completions.len());
    if ranks.len() != k {
        return Err(Fault::new(field, format!("{} ranks for {k} completions", ranks.len())));
    }
    if k < 2 {
        return Err(Fault::new("completions", "a ranking needs at least two completions"));
    }
    if let Some(place) = ranks.iter().position(|&rank| rank == 0 || rank as usize > k) {
        let what = format!("rank {} is not between 1 and {k}", ranks[place]);
        return Err(Fault::new(format!("ranks[{place}]"), what));
    }
    let seconds = optional_number(row, "seconds")?.unwrap_or(0.0);
    if seconds < 0.0 {
        return Err(Fault::new("seconds", format!("it is {seconds}, and no time is below 0")));
    }
    let annotator = row.take("annotator").map_or(Ok(String::new()), |value| string(value, "annotator"))?;
    let flags =
        row.take("flags").map_or(Ok(Vec::new()), |flags| list(flags, "flags"))?.into_iter().enumerate();
    let flags: Result<_, Fault> =
        flags.map(|(place, flag)| string(flag, &format!("flags[{place}]"))).collect();
    Ok(Ranking { prompt, completions, ranks, annotator, seconds, flags: flags? })
}

fn answers(row: &mut Row) -> Result<Vec<Completion>, Fault> {
    let (field, value) = needed(row, &["completions"])?;
    let answers = list(value, field)?.into_iter().enumerate();
    answers.map(|(place, value)| answer(value, &format!("{field}[{place}]"))).collect()
}

/// `{"text", "finished", "tokens"}`, or a string, which counts as finished.
fn answer(value: Json, field: &str) -> Result<Completion, Fault> {
    let mut answer = match value {
        Json::String(text) => return Ok(Completion { text, finished: true, tokens: Vec::new() }),
        Json::Object(answer) => answer,
        other => {
            let what = format!(
                "a completion is a string or {{\"text\", \"finished\", \"tokens\"}}, found {}",
                kind(&other)
            );
            return Err(Fault::new(field, what));
        }
    };
    let text = answer.take("text");
    let text = text.ok_or_else(|| Fault::new(format!("{field}.text"), "it is missing"))?;
    let finished = match answer.take("finished").unwrap_or_default() {
        Json::Null => true,
        Json::Bool(finished) => finished,
        other => {
            let what = format!("expected true or false, found {}", kind(&other));
            return Err(Fault::new(format!("{field}.finished"), what));
        }
    };
    let tokens = match answer.take("tokens").unwrap_or_default() {
        Json::Null => Vec::new(),
        tokens => list(tokens, &format!("{field}.tokens"))?,
    };
    let tokens = tokens.iter().enumerate();
    let tokens: Result<Vec<u32>, Fault> =
        tokens.map(|(place, token)| whole(token, &format!("{field}.tokens[{place}]"))).collect();
    Ok(Completion { text: string(text, &format!("{field}.text"))?, finished, tokens: tokens? })
}

/// A whole number of 32 bits.
fn whole(value: &Json, field: &str) -> Result<u32, Fault> {
    let number = match value {
        Json::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        _ => None,
    };
    number
        .ok_or_else(|| Fault::new(field, format!("expected a whole number from 0 on, found {}", kind(value))))
}
