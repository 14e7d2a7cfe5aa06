//! Patterns, as Oniguruma reads them.
//!
//! The expected matches are those of Python's `tokenizers`; `formats/tests/foreign.py` compares more of them on random texts.

use proptest::prelude::*;

use super::super::regex::{Fuel, Regex};
use super::{QWEN, mixed};

fn found(pattern: &str, text: &str) -> Vec<String> {
    let regex = Regex::new(pattern).unwrap();
    let places = regex.find_all(text, &Fuel::for_text(text.len()));
    places.into_iter().map(|(start, end)| text[start..end].to_owned()).collect()
}

fn error(pattern: &str) -> String {
    Regex::new(pattern).unwrap_err().to_string()
}

#[test]
fn a_repetition_in_braces_can_be_repeated() {
    assert_eq!(found(r"\d{3}+", "12345678901"), ["123456789"]);
    assert_eq!(found(r"\A\d{1,2}(?=\d{3}+\z)", "12345678"), ["12"]);
    assert_eq!(found(r"\d{1,2}?", "123"), ["1", "2", "3"]);
    assert_eq!(found(r"a{2}?", "aaa"), ["aa", ""]);
    assert_eq!(found(r"a{,2}b", "aaab"), ["aab"]);
    assert_eq!(found(r"a{x}|b{", "a{x}b{"), ["a{x}", "b{"]);
}

#[test]
fn anchors_are_those_of_lines() {
    assert_eq!(found(r"^b|b$", "ab\nb\nbc"), ["b", "b", "b"]);
    assert_eq!(found(r"\s+$", "a  \nb  "), ["  ", "  "]);
    assert_eq!(found(r"a\Z|a\z", "a\na\n"), ["a"]);
}

#[test]
fn words_and_classes_are_those_of_oniguruma() {
    assert_eq!(found(r"\w+", "a²\u{200d}_٣"), ["a²", "_٣"]);
    assert_eq!(found(r"[\w]+", "a²_"), ["a", "_"]);
    assert_eq!(found(r"[[:alpha:]]+", "aé1"), ["aé"]);
    assert_eq!(found(r"(?m:a.)(?:.|\n)", "a\nb"), ["a\nb"]);
    assert_eq!(found(r"[a-c&&[^b]]+", "abc"), ["a", "c"]);
    assert_eq!(found(r"(?i:'s)", "'S 'ſ"), ["'S", "'ſ"]);
    assert_eq!(found(r"\h+\R", "fAg0\r\n"), ["0\r\n"]);
    assert_eq!(found(r"[]<>]+", "a]<"), ["]<"]);
}

#[test]
fn look_around_groups_and_references_work() {
    assert_eq!(found(r"(?<=a+)b(?!c)", "aabc aab b"), ["b"]);
    assert_eq!(found(r"(?>a+)ab|a++a|b", "aab"), ["b"]);
    assert_eq!(found(r"(a|b)\1", "abba"), ["bb"]);
    assert_eq!(found(r"(?=(\d{3})+(?!\d))", "1234567"), ["", ""]);
    assert_eq!(found(r"(?:a*)*?b", "aab"), ["aab"]);
    assert_eq!(found("", "ab"), ["", "", ""]);
}

#[test]
fn what_is_not_understood_is_an_error_with_its_place() {
    assert!(error(r"ab\q").starts_with("at byte 2 of the pattern"));
    for pattern in [
        "(",
        ")",
        "[",
        "[a",
        "*a",
        "a|+",
        "(?",
        "(?x)a b",
        "(?<n>a)",
        "(?P<n>a)",
        r"\p",
        r"\pL",
        r"\p{Nothing}",
        r"\x",
        r"\x{110000}",
        r"\xE9",
        r"\u12",
        r"\k<a>",
        r"\G",
        r"\K",
        r"\1",
        r"(a)\2",
        r"\0",
        "[a--b]",
        "[z-a]",
        "[[:nothing:]]",
        r"[\b]",
        "a*****",
        "{2}",
        "a{3,2}",
        "\\",
        "(?~a)",
        "(?(1)a|b)",
        "a(?i)b",
        "(?s:.)",
    ] {
        assert!(!error(pattern).is_empty(), "{pattern}");
    }
}

proptest! {
    #[test]
    fn patterns_of_random_signs_never_panic(pattern in r"[ab()\[\]{}|*+?^$.\\dpLsw:=!<>1,&-]{0,24}", text in "[ab1 \n]{0,12}") {
        if let Ok(regex) = Regex::new(&pattern) {
            let places = regex.find_all(&text, &Fuel::for_text(text.len()));
            prop_assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        }
    }

    #[test]
    fn easy_patterns_match_as_those_of_the_crate_regex(text in mixed()) {
        for pattern in [r"\p{L}+|\p{N}{1,3}", r"[^\s\p{L}]+\s?", r"(?:ab|a)(?:c|bcd)?", r"(?i:'ll|'s)|\S+?"] {
            let theirs = ::regex::Regex::new(pattern).unwrap();
            let expected: Vec<&str> = theirs.find_iter(&text).map(|found| found.as_str()).collect();
            prop_assert_eq!(found(pattern, &text), expected);
        }
    }

    #[test]
    fn the_pattern_of_qwen_covers_every_text(text in mixed()) {
        prop_assert_eq!(found(QWEN, &text).concat(), text);
    }
}
