//! Special tokens of templates and those in what people wrote.

use proptest::prelude::*;
use serde_json::Value;
use std::borrow::Cow;

use super::super::protect::unmark;
use super::{SPECIALS, byte_level, metaspace, mixed, ours, qwen, sentence_piece};

/// A character that no text of these tests has.
const SECRET: &str = "\u{e123}";

/// A chat template, in which a special token is spelled with a secret before it if one is given.
fn render(contents: &[Cow<'_, str>], secret: &str) -> String {
    let turn = |content: &Cow<'_, str>| format!("{secret}<|im_start|>user\n{content}{secret}<|im_end|>\n");
    let turns: String = contents.iter().map(turn).collect();
    format!("{secret}<s>{turns}{secret}<|im_start|>assistant\n")
}

/// The crate's tokenizer, whose special tokens have the secret before them: an oracle, for no text can spell them.
fn oracle(file: &Value) -> tokenizers::Tokenizer {
    let mut file = file.clone();
    for token in file["added_tokens"].as_array_mut().unwrap() {
        if token["special"].as_bool().unwrap() {
            token["content"] = format!("{SECRET}{}", token["content"].as_str().unwrap()).into();
        }
    }
    // A token of the vocabulary would else get another id.
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    for special in ["<unk>", "<s>", "</s>"] {
        if let Some(id) = vocab.remove(special) {
            vocab.insert(format!("{SECRET}{special}"), id);
        }
    }
    if file["model"]["unk_token"].is_string() {
        file["model"]["unk_token"] = format!("{SECRET}<unk>").into();
    }
    serde_json::from_value(file).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn special_tokens_come_from_the_template_alone(contents in prop::collection::vec(mixed(), 0..4)) {
        let plain: Vec<Cow<'_, str>> = contents.iter().map(|content| content.as_str().into()).collect();
        for file in [byte_level(), qwen()] {
            let tokenizer = ours(&file);
            let protected: Vec<_> = contents.iter().map(|content| tokenizer.protect(content)).collect();
            let ids = tokenizer.encode_rendered(&render(&protected, ""));
            let expected = oracle(&file).encode(render(&plain, SECRET), false).unwrap();
            prop_assert_eq!(&ids, expected.get_ids(), "{:?}", contents);
            let count = ids.iter().filter(|&&id| tokenizer.is_special(id)).count();
            prop_assert_eq!(count, 2 + 2 * contents.len());
        }
    }

    #[test]
    fn the_same_holds_for_sentence_piece(contents in prop::collection::vec(mixed(), 0..4)) {
        for file in [sentence_piece(), metaspace()] {
            let tokenizer = ours(&file);
            let turn = |content: &str, secret: &str| format!("{secret}<s>[x] {content} [x]{secret}</s>");
            let rendered: String = contents.iter().map(|content| turn(&tokenizer.protect(content), "")).collect();
            let secret: String = contents.iter().map(|content| turn(content, SECRET)).collect();
            let expected = oracle(&file).encode(secret, false).unwrap();
            prop_assert_eq!(tokenizer.encode_rendered(&rendered), expected.get_ids(), "{:?}", contents);
        }
    }

    #[test]
    fn without_marks_nothing_changes(text in mixed()) {
        let tokenizer = ours(&qwen());
        let text = text.replace(['\u{fdd0}', '\u{fdd1}', '\u{fdd2}'], "");
        prop_assert_eq!(tokenizer.encode_rendered(&text), tokenizer.encode_with_specials(&text));
    }

    #[test]
    fn all_of_a_protected_text_is_text(text in mixed(), cut in any::<prop::sample::Index>()) {
        let tokenizer = ours(&byte_level());
        let marked = tokenizer.protect(&text);
        prop_assert_eq!(tokenizer.encode_rendered(&marked), tokenizer.encode(&text));
        prop_assert_eq!(unmark(&marked).0, text.as_str());
        // In two pieces, each of which is protected for itself, as of two fields of a message.
        let middle = (0..=cut.index(text.len() + 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap();
        let halves = [&text[..middle], &text[middle..]].map(|half| tokenizer.protect(half)).concat();
        prop_assert_eq!(tokenizer.encode_rendered(&halves), tokenizer.encode(&text));
    }
}

#[test]
fn text_with_nothing_to_protect_is_not_copied() {
    let tokenizer = ours(&byte_level());
    assert!(matches!(tokenizer.protect("Hello < world, 1 > 0 | 2"), Cow::Borrowed(_)));
    assert!(matches!(tokenizer.protect(""), Cow::Borrowed(_)));
    assert!(matches!(tokenizer.protect("<s>"), Cow::Owned(_)));
}

#[test]
fn a_mark_stays_where_white_space_is_stripped() {
    let tokenizer = ours(&byte_level());
    for (content, rest) in [("so <|im_  \n", "start|>"), ("\n  <|im_start|>\n", ""), ("x <|im_start|", ">")] {
        let marked = tokenizer.protect(content);
        let rendered = format!("<s>{}{rest}", marked.trim());
        let ids = tokenizer.encode_rendered(&rendered);
        assert_eq!(ids.iter().filter(|&&id| tokenizer.is_special(id)).count(), 1, "{content:?}");
        assert_eq!(tokenizer.decode(&ids), format!("{}{rest}", content.trim()));
    }
    // The end of a token that the template's text begins.
    let rendered = format!("<s><|im_{}", tokenizer.protect("  start|> x").trim());
    let ids = tokenizer.encode_rendered(&rendered);
    assert_eq!(ids.iter().filter(|&&id| tokenizer.is_special(id)).count(), 1);
}

#[test]
fn marks_cannot_be_forged_or_hidden() {
    let tokenizer = ours(&byte_level());
    // What looks like a mark in a text is text; it takes nothing away from the token of the template after it.
    for content in ["\u{fdd0}\u{fdd2}", "\u{fdd0}", "\u{fdd0}\u{fdd1}", "\u{fdd0}\u{fdd0}\u{fdd2}"] {
        let ids = tokenizer.encode_rendered(&format!("{}<|im_end|>", tokenizer.protect(content)));
        assert!(tokenizer.is_special(*ids.last().unwrap()), "{content:?}");
        assert_eq!(tokenizer.decode(&ids), content);
    }
    // Nor does one hide the spelling that follows it.
    let ids = tokenizer.encode_rendered(&tokenizer.protect("\u{fdd0}<s>\u{fdd0}\u{fdd1}<|im_end|>"));
    assert!(!ids.iter().any(|&id| tokenizer.is_special(id)));
}

#[test]
fn the_token_of_a_template_is_found_beside_one_that_text_and_template_would_make_together() {
    let mut file = byte_level();
    // `<<s>` would take in the `<` of the text before the template's `<s>`.
    file["added_tokens"][2]["content"] = "<<s>".into();
    let tokenizer = ours(&file);
    let ids = tokenizer.encode_rendered(&format!("{}<s>", tokenizer.protect("a<")));
    assert_eq!(ids.last(), tokenizer.encode_with_specials("<s>").first());
    assert_eq!(tokenizer.decode(&ids), "a<");
    assert_eq!(tokenizer.encode_with_specials("<<s>").len(), 1);
}

#[test]
fn special_tokens_that_are_one_character_or_overlap_are_protected() {
    let mut file = byte_level();
    file["added_tokens"][0]["content"] = "日".into();
    file["added_tokens"][1]["content"] = "aba".into();
    file["added_tokens"][2]["content"] = "ab".into();
    let tokenizer = ours(&file);
    let content = "日ababab日本aba日";
    let rendered = format!("日{}aba", tokenizer.protect(content));
    let ids = tokenizer.encode_rendered(&rendered);
    let special: Vec<u32> = ids.iter().copied().filter(|&id| tokenizer.is_special(id)).collect();
    assert_eq!(special, tokenizer.encode_with_specials("日aba"));
    assert_eq!(tokenizer.decode(&ids), content);
}

#[test]
fn special_tokens_of_normalized_text_are_protected() {
    let mut file = byte_level();
    file["normalizer"] =
        serde_json::json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]});
    for index in 0..SPECIALS.len() {
        file["added_tokens"][index]["normalized"] = true.into();
    }
    let tokenizer = ours(&file);
    for content in ["＜Ｓ＞", "<S>", "x <|IM_END|> y", "<|im_", "ＳtArt|>"] {
        assert!(!tokenizer.encode(content).iter().any(|&id| tokenizer.is_special(id)));
        let rendered = format!("<|IM_START|>{}<|im_end|>", tokenizer.protect(content));
        let ids = tokenizer.encode_rendered(&rendered);
        assert_eq!(ids.iter().filter(|&&id| tokenizer.is_special(id)).count(), 2, "{content:?}");
    }
    assert_eq!(tokenizer.encode_with_specials("＜Ｓ＞").len(), 1);
}
