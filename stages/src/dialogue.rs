//! Prompts and answers as tokens.
//!
//! Purpose: the rows of a prompt with its answer, prompts that have to fit a context, ranked answers and the pairs among
//! them, and samples as text again.
//! Invariant: the marks of the chat template are never cut; what is left out or cut is said.
//! Must not know: models, losses, which stage asks.

use kiln_formats::tokenizer::{Tokenizer, TokenizerError};

use crate::context::{Context, StageError};
use crate::data::{Completion, Prompt, Ranking};
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
    prompt: &str,
    answer: &Completion,
) -> Result<TokenRow, TokenizerError> {
    let mut ids = tokenizer.prompt_ids(prompt)?;
    let from = ids.len();
    if !answer.tokens.is_empty() && tokenizer.spells(&answer.tokens, &answer.text, answer.finished) {
        ids.extend(&answer.tokens);
        return Ok(TokenRow { ids, from });
    }
    ids.extend(tokenizer.response_ids(&answer.text));
    if !answer.finished {
        ids.pop();
    }
    Ok(TokenRow { ids, from })
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

/// A ranking as rows of at most `context` tokens. A row in which no token is left to be judged is left out.
fn ranked_item(
    tokenizer: &Tokenizer,
    ranking: &Ranking,
    context: usize,
    cut: &mut usize,
) -> Result<Ranked, TokenizerError> {
    let mut item = Ranked { rows: Vec::new(), ranks: Vec::new() };
    for (completion, &rank) in ranking.completions.iter().zip(&ranking.ranks) {
        let mut row = answered(tokenizer, &ranking.prompt, completion)?;
        let length = row.ids.len();
        row.ids.truncate(context);
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
    rankings: &[Ranking],
    context: usize,
) -> Result<Vec<Ranked>, StageError> {
    let mut cut = 0;
    let items = rankings.iter().map(|r| ranked_item(tokenizer, r, context, &mut cut));
    let mut items = items.collect::<Result<Vec<Ranked>, _>>()?;
    let given: usize = rankings.iter().map(|r| r.completions.len()).sum();
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
mod tests {
    use super::*;
    use crate::testing::{context, tokenizer};

    fn prompts(texts: &[&str]) -> Vec<Prompt> {
        texts.iter().map(|text| Prompt { prompt: (*text).to_owned(), response: None }).collect()
    }

    #[test]
    fn a_finished_answer_ends_with_its_stop_token_and_an_unfinished_one_with_its_text() {
        let tokenizer = tokenizer();
        let made = |finished| {
            answered(
                &tokenizer,
                "the sun",
                &Completion { text: "rose".to_owned(), finished, tokens: Vec::new() },
            )
            .unwrap()
        };
        let (finished, unfinished) = (made(true), made(false));
        assert_eq!(finished.ids.last(), Some(&tokenizer.stop()));
        assert_eq!(finished.ids[..finished.ids.len() - 1], unfinished.ids);
        assert_eq!(finished.ids[..finished.from], tokenizer.prompt_ids("the sun").unwrap());
        assert_eq!(finished.targets(), tokenizer.encode("rose").len() + 1);
        assert_eq!(tokenizer.decode(&unfinished.ids[unfinished.from..]), "rose");
    }

    #[test]
    fn a_long_prompt_keeps_its_marks_and_its_end() {
        let (tokenizer, folder) = (tokenizer(), tempfile::tempdir().unwrap());
        let ctx = context(folder.path(), &Default::default());
        let text = "the sun rose over the hill and the birds sang";
        let (whole, own) = (tokenizer.prompt_ids(text).unwrap(), tokenizer.own().unwrap());
        for room in 3..whole.len() + 2 {
            let ids = shortened(&ctx, &tokenizer, &prompts(&[text]), room).unwrap().remove(0);
            assert_eq!(ids.len(), room.min(whole.len()));
            assert_eq!((ids[0], ids.last()), (own.user(), Some(&own.assistant())));
            assert!(whole.ends_with(&ids[1..]));
        }
    }

    #[test]
    fn prompts_that_do_not_fit_are_left_out_and_none_left_is_an_error() {
        let (tokenizer, folder) = (tokenizer(), tempfile::tempdir().unwrap());
        let ctx = context(folder.path(), &Default::default());
        let all = prompts(&["the sun", "the sun rose over the hill and the birds sang"]);
        let room = tokenizer.prompt_ids("the sun").unwrap().len();
        let (kept, ids) = fitting(&ctx, &tokenizer, all.clone(), room).unwrap();
        assert_eq!((kept.len(), ids), (1, vec![tokenizer.prompt_ids("the sun").unwrap()]));
        for (given, said) in [(all, "all 2 prompts are longer than 2 tokens"), (Vec::new(), "no prompts")] {
            let error = fitting(&ctx, &tokenizer, given, 2).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_ranked_row_never_exceeds_the_context() {
        let completions = ["the birds sang ".repeat(20), "rose".to_owned()];
        let completion = |text: String| Completion { text, finished: true, tokens: Vec::new() };
        let ranking = Ranking {
            prompt: "the sun".to_owned(),
            completions: completions.map(completion).to_vec(),
            ranks: vec![1, 2],
            annotator: String::new(),
            seconds: 0.0,
            flags: Vec::new(),
        };
        let mut cut = 0;
        assert_eq!(ranked_item(&tokenizer(), &ranking, 16, &mut cut).unwrap().rows[0].ids.len(), 16);
        assert_eq!(cut, 1, "the one that was cut is counted");
    }

    #[test]
    fn an_empty_completion_leaves_the_others_of_its_ranking() {
        let completion =
            |text: &str, finished| Completion { text: text.to_owned(), finished, tokens: Vec::new() };
        let ranking = Ranking {
            prompt: "the sun".to_owned(),
            completions: vec![completion("rose", true), completion("", false), completion("", true)],
            ranks: vec![2, 3, 1],
            annotator: String::new(),
            seconds: 0.0,
            flags: Vec::new(),
        };
        let item = ranked_item(&tokenizer(), &ranking, 100, &mut 0).unwrap();
        assert_eq!((item.rows.len(), item.pairs(0).len()), (2, 1));
        assert_eq!((item.pairs(0)[0].better, item.pairs(0)[0].worse), (1, 0));
    }

    #[test]
    fn the_pairs_of_a_batch_name_the_rows_of_their_own_prompt() {
        let item_of = |prompt: &str, ranks: &[u32]| {
            let completion = |r: &u32| Completion { text: r.to_string(), finished: true, tokens: Vec::new() };
            let ranking = Ranking {
                prompt: prompt.to_owned(),
                completions: ranks.iter().map(completion).collect(),
                ranks: ranks.to_vec(),
                annotator: String::new(),
                seconds: 0.0,
                flags: Vec::new(),
            };
            ranked_item(&tokenizer(), &ranking, 100, &mut 0).unwrap()
        };
        let items = [item_of("a", &[2, 1]), item_of("b", &[1, 1, 3])];
        let (rows, pairs) = batch_of(items.iter());
        assert_eq!(rows.len(), 5);
        let named: Vec<(usize, usize)> = pairs.iter().map(|p| (p.better, p.worse)).collect();
        assert_eq!(named, [(1, 0), (2, 4), (3, 4)]);
        assert_eq!(crate::rl::pairs::accuracy(&[0.0, 1.0, 0.5, -2.0, -1.0], &pairs), 2.0 / 3.0);
    }

    #[test]
    fn a_sampled_answer_keeps_its_tokens_where_they_spell_its_text() {
        let tokenizer = tokenizer();
        // Byte by byte: another way to spell than the tokenizer's own.
        let mut tokens: Vec<u32> = "rose".bytes().map(u32::from).collect();
        tokens.push(tokenizer.stop());
        let answer = |text: &str, finished, tokens: &[u32]| {
            let completion = Completion { text: text.to_owned(), finished, tokens: tokens.to_vec() };
            let row = answered(&tokenizer, "the sun", &completion).unwrap();
            row.ids[row.from..].to_vec()
        };
        assert_eq!(answer("rose", true, &tokens), tokens);
        let own = tokenizer.response_ids("rose");
        assert_ne!(own, tokens, "the two ways must differ for this to show anything");
        assert_eq!(answer("rose", true, &tokens[..4]), own, "the stop token is missing");
        assert_eq!(answer("sang", true, &tokens), tokenizer.response_ids("sang"), "another text");
        assert_eq!(answer("rose", true, &[u32::MAX, tokenizer.stop()]), own, "no token of this tokenizer");
    }
}
