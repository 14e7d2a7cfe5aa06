//! Tests of the tokenizer against its definition, written out the slow way.

mod chat;
mod encode;
mod file;
mod pretokenize;
mod train;

use proptest::prelude::*;

use super::{Pattern, Tokenizer, TrainOptions};

#[rustfmt::skip]
const FRAGMENTS: &[&str] = &[
    "a", "Z", "é", "ſ", "ß", "日本", "e\u{301}", "ǅ", "1", "234", "٣", "²", "Ⅷ", " ", "  ", "\t", "\n",
    "\r", "\r\n", "\u{a0}", "\u{3000}", "\u{85}", "\u{200b}", "\u{1c}", "\u{b}", "'", "'s", "'S", "'ſ",
    "'re", "'LL", "'vE", "'d", "'x", "’s", "!", "...", "<|end|>", "_", "😀", "👩‍👧", "\0", "\u{fffd}",
    "the", " and", "The",
];

/// Text that goes through every alternative of the patterns and meets at every border.
fn mixed() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        20 => prop::sample::select(FRAGMENTS).prop_map(String::from),
        1 => any::<String>(),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(fragment, 0..40).prop_map(|parts| parts.concat())
}

/// A tokenizer that knows `text` by heart.
fn trained_on(text: &str, pattern: Pattern, vocab_size: usize) -> Tokenizer {
    let options = TrainOptions { vocab_size, pattern, min_count: 1 };
    Tokenizer::train([text], &options).unwrap().tokenizer
}

const SAMPLE: &str = "the cat sat on the mat, and the other cat sat there; they'll say: the hat's that.\n\n\
    The 1234 cats, the 99 hats   and\tthe rest. 日本語の日本 é é ééé 😀😀 aaaaaaaaaaaa abababab\r\n";
