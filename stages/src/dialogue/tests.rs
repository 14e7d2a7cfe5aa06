//! Prompts and answers as rows.

use super::*;
use crate::testing::{context, tokenizer};

fn prompts(texts: &[&str]) -> Vec<Prompt> {
    texts.iter().map(|text| Prompt { prompt: vec![Message::user(*text)], response: None }).collect()
}

fn judged(prompt: &str, completions: Vec<Completion>, ranks: &[u32]) -> Judged {
    let answers = completions.into_iter().map(Answer::Completion).collect();
    Judged { prompt: vec![Message::user(prompt)], tools: None, answers, ranks: ranks.to_vec() }
}

#[test]
fn a_preference_is_two_rows_with_the_tokens_of_a_completion() {
    let tokenizer = tokenizer();
    let turns = |texts: &[&str]| {
        let turn = |(i, text): (usize, &&str)| match i % 2 {
            0 => Message::assistant(*text),
            _ => Message::user(*text),
        };
        Answer::Turns(texts.iter().enumerate().map(turn).collect())
    };
    let answers = vec![turns(&["rose"]), turns(&["sang", "again", "stood"])];
    let pair = Judged { prompt: vec![Message::user("the sun")], tools: None, answers, ranks: vec![2, 1] };
    let item = ranked_item(&tokenizer, &pair, 100, &mut 0).unwrap();
    let same = Completion { text: "rose".into(), finished: true, tokens: Vec::new() };
    assert_eq!(item.rows[0], answered(&tokenizer, &pair.prompt, &same).unwrap());
    let learnt: Vec<u32> = item.rows[1].places().map(|place| item.rows[1].ids[place]).collect();
    assert_eq!(learnt, [tokenizer.response_ids("sang"), tokenizer.response_ids("stood")].concat());
    assert_eq!((item.pairs(0)[0].better, item.pairs(0)[0].worse), (1, 0));
}

#[test]
fn a_finished_answer_ends_with_its_stop_token_and_an_unfinished_one_with_its_text() {
    let tokenizer = tokenizer();
    let made = |finished| {
        answered(
            &tokenizer,
            &[Message::user("the sun")],
            &Completion { text: "rose".to_owned(), finished, tokens: Vec::new() },
        )
        .unwrap()
    };
    let (finished, unfinished) = (made(true), made(false));
    assert_eq!(finished.ids.last(), Some(&tokenizer.stop()));
    assert_eq!(finished.ids[..finished.ids.len() - 1], unfinished.ids);
    assert_eq!(finished.ids[..finished.from], tokenizer.prompt_ids(&[Message::user("the sun")]).unwrap());
    assert_eq!(finished.targets(), tokenizer.encode("rose").len() + 1);
    assert_eq!(tokenizer.decode(&unfinished.ids[unfinished.from..]), "rose");
}

#[test]
fn a_long_prompt_keeps_its_marks_and_its_end() {
    let (tokenizer, folder) = (tokenizer(), tempfile::tempdir().unwrap());
    let ctx = context(folder.path(), &Default::default());
    let text = "the sun rose over the hill and the birds sang";
    let (whole, own) = (tokenizer.prompt_ids(&[Message::user(text)]).unwrap(), tokenizer.own().unwrap());
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
    let room = tokenizer.prompt_ids(&[Message::user("the sun")]).unwrap().len();
    let (kept, ids) = fitting(&ctx, &tokenizer, all.clone(), room).unwrap();
    assert_eq!((kept.len(), ids), (1, vec![tokenizer.prompt_ids(&[Message::user("the sun")]).unwrap()]));
    for (given, said) in [(all, "all 2 prompts are longer than 2 tokens"), (Vec::new(), "no prompts")] {
        let error = fitting(&ctx, &tokenizer, given, 2).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_ranked_row_never_exceeds_the_context() {
    let completions = ["the birds sang ".repeat(20), "rose".to_owned()];
    let completion = |text: String| Completion { text, finished: true, tokens: Vec::new() };
    let ranking = judged("the sun", completions.map(completion).to_vec(), &[1, 2]);
    let mut cut = 0;
    assert_eq!(ranked_item(&tokenizer(), &ranking, 16, &mut cut).unwrap().rows[0].ids.len(), 16);
    assert_eq!(cut, 1, "the one that was cut is counted");
}

#[test]
fn an_empty_completion_leaves_the_others_of_its_ranking() {
    let completion =
        |text: &str, finished| Completion { text: text.to_owned(), finished, tokens: Vec::new() };
    let ranking = judged(
        "the sun",
        vec![completion("rose", true), completion("", false), completion("", true)],
        &[2, 3, 1],
    );
    let item = ranked_item(&tokenizer(), &ranking, 100, &mut 0).unwrap();
    assert_eq!((item.rows.len(), item.pairs(0).len()), (2, 1));
    assert_eq!((item.pairs(0)[0].better, item.pairs(0)[0].worse), (1, 0));
}

#[test]
fn the_pairs_of_a_batch_name_the_rows_of_their_own_prompt() {
    let item_of = |prompt: &str, ranks: &[u32]| {
        let completion = |r: &u32| Completion { text: r.to_string(), finished: true, tokens: Vec::new() };
        let ranking = judged(prompt, ranks.iter().map(completion).collect(), ranks);
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
        let row = answered(&tokenizer, &[Message::user("the sun")], &completion).unwrap();
        row.ids[row.from..].to_vec()
    };
    assert_eq!(answer("rose", true, &tokens), tokens);
    let own = tokenizer.response_ids("rose");
    assert_ne!(own, tokens, "the two ways must differ for this to show anything");
    assert_eq!(answer("rose", true, &tokens[..4]), own, "the stop token is missing");
    assert_eq!(answer("sang", true, &tokens), tokenizer.response_ids("sang"), "another text");
    assert_eq!(answer("rose", true, &[u32::MAX, tokenizer.stop()]), own, "no token of this tokenizer");
}
