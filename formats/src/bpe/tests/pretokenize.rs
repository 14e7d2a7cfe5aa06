//! The scanner against the published regular expressions.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

use super::mixed;
use crate::bpe::Pattern;
use crate::bpe::pretokenize::{last_cut, stretches};

/// The matches of the published expression, by the `regex` crate but for the lookahead: the last two
/// alternatives, `\s+(?!\S)|\s+`, become the group `(\s+)` and lose their last character by hand.
fn by_regex(pattern: Pattern, text: &str) -> Vec<&str> {
    static REGEXES: LazyLock<[Regex; 2]> = LazyLock::new(|| {
        Pattern::ALL.map(|pattern| Regex::new(&pattern.regex().replace(r"\s+(?!\S)|\s+", r"(\s+)")).unwrap())
    });
    let regex = &REGEXES[pattern as usize];
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(captures) = regex.captures_at(text, at) {
        let whole = captures.get(0).unwrap();
        assert_eq!(whole.start(), at, "the expression skips nothing");
        let mut end = whole.end();
        let last = whole.as_str().chars().next_back().unwrap().len_utf8();
        if captures.get(1).is_some() && end < text.len() && whole.len() > last {
            end -= last;
        }
        pieces.push(&text[at..end]);
        at = end;
    }
    assert_eq!(at, text.len());
    pieces
}

fn split(pattern: Pattern, text: &str) -> Vec<&str> {
    pattern.pieces(text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_scanner_finds_the_matches_of_the_published_expressions(text in mixed()) {
        for pattern in Pattern::ALL {
            prop_assert_eq!(split(pattern, &text), by_regex(pattern, &text));
        }
    }

    #[test]
    fn stretches_split_into_the_pieces_of_the_whole(text in mixed(), size in 0usize..30) {
        for pattern in Pattern::ALL {
            let parts: Vec<&str> = stretches(&text, size).flat_map(|part| pattern.pieces(part)).collect();
            prop_assert_eq!(parts, split(pattern, &text));
        }
    }

    #[test]
    fn both_sides_of_the_last_cut_split_into_the_pieces_of_the_whole(text in mixed()) {
        if let Some(at) = last_cut(&text) {
            let (head, tail) = text.split_at(at);
            prop_assert!(!head.is_empty() && !tail.is_empty());
            for pattern in Pattern::ALL {
                let parts: Vec<&str> = [head, tail].into_iter().flat_map(|part| pattern.pieces(part)).collect();
                prop_assert_eq!(parts, split(pattern, &text));
            }
        }
    }
}

#[test]
fn text_without_spaces_can_be_cut() {
    assert_eq!(last_cut("これは文です。次の文"), Some("これは文です".len()));
    assert_eq!((last_cut("letters"), last_cut("..., ..."), last_cut("")), (None, None, None));
}

#[test]
fn every_character_is_classed_as_the_expressions_class_it() {
    for pattern in Pattern::ALL {
        let text: String = (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .flat_map(|character| [' ', character, 'a', character, '1', '\'', character, character])
            .collect();
        // In short texts, for the reference is slow on long ones.
        for part in text.as_bytes().chunks(1 << 16).map(String::from_utf8_lossy) {
            assert_eq!(split(pattern, &part), by_regex(pattern, &part));
        }
    }
}

#[test]
fn gpt2_keeps_a_space_with_its_word_and_contractions_apart() {
    assert_eq!(
        split(Pattern::Gpt2, "Hello  world's 1234!!\n\n x'RE "),
        ["Hello", " ", " world", "'s", " 1234", "!!", "\n\n", " x", "'", "RE", " "]
    );
}

#[test]
fn gpt4_splits_numbers_in_threes_and_keeps_newlines_with_punctuation() {
    assert_eq!(
        split(Pattern::Gpt4, "Hello  world's 1234!!\n\n x'RE \n  y"),
        ["Hello", " ", " world", "'s", " ", "123", "4", "!!\n\n", " x", "'RE", " \n", " ", " y"]
    );
}
