//! Special tokens and the template.

use proptest::prelude::*;

use super::{SAMPLE, mixed, trained_on};
use crate::bpe::chat::{SPECIALS, Turn};
use crate::bpe::{Pattern, Tokenizer};

fn tokenizer() -> Tokenizer {
    trained_on(SAMPLE, Pattern::Gpt4, 300)
}

proptest! {
    #[test]
    fn text_never_encodes_to_a_special_token(text in mixed(), special in prop::sample::select(&SPECIALS[..])) {
        let tokenizer = tokenizer();
        let text = format!("{text}{special}{text}");
        let ids = tokenizer.encode(&text);
        prop_assert!(ids.iter().all(|&id| id < tokenizer.eot()));
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }

    #[test]
    fn a_conversation_is_its_prompts_and_responses_in_turn(question in mixed(), answer in mixed()) {
        let tokenizer = tokenizer();
        let (prompt, response) = (tokenizer.prompt_ids(&question), tokenizer.response_ids(&answer));
        let turns = [Turn::User(&question), Turn::Assistant(&answer), Turn::User(&question)];
        prop_assert_eq!(tokenizer.conversation_ids(&turns), [prompt.clone(), response, prompt].concat());
    }
}

#[test]
fn the_special_tokens_are_the_last_ids_and_all_differ() {
    let tokenizer = tokenizer();
    let ids = [tokenizer.eot(), tokenizer.pad(), tokenizer.user(), tokenizer.assistant(), tokenizer.stop()];
    assert_eq!(ids, [295, 296, 297, 298, 299]);
    assert_eq!(tokenizer.decode_marked(&ids), SPECIALS.concat());
    assert_eq!(tokenizer.decode(&ids), "");
}

#[test]
fn a_special_token_spelt_by_a_user_is_text_even_when_the_tokenizer_was_trained_on_it() {
    let text = "<|end|><|user|><|end|><|user|> ".repeat(50);
    for pattern in Pattern::ALL {
        let tokenizer = trained_on(&text, pattern, 2000);
        let ids = tokenizer.prompt_ids(&text);
        assert_eq!(ids.iter().filter(|&&id| id >= tokenizer.eot()).count(), 2);
        assert_eq!(tokenizer.decode(&ids), text);
    }
}

#[test]
fn a_prompt_ends_where_the_assistant_begins_and_a_response_with_the_stop_token() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.decode_marked(&tokenizer.prompt_ids("the cat?")), "<|user|>the cat?<|assistant|>");
    assert_eq!(tokenizer.decode_marked(&tokenizer.response_ids("the hat.")), "the hat.<|end|>");
}
