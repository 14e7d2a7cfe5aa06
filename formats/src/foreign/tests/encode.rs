//! Text to ids, against the crate.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::super::ForeignTokenizer;

use super::{
    added, both, byte_level, byte_level_with, metaspace, mixed, ours, qwen, sentence_piece,
    sentence_piece_with,
};

/// Files whose every part is used by some model.
fn files() -> Vec<Value> {
    let with_pre_tokenizer = |part: Value| {
        byte_level_with(json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        part, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}}))
    };
    let with_normalizer = |part: Value| byte_level_with(json!({"normalizer": part}));
    vec![
        byte_level(),
        qwen(),
        sentence_piece(),
        metaspace(),
        byte_level_with(
            json!({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true}}),
        ),
        byte_level_with(json!({"model": {"ignore_merges": true}})),
        byte_level_with(
            json!({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}}),
        ),
        with_pre_tokenizer(json!({"type": "Digits", "individual_digits": true})),
        with_pre_tokenizer(json!({"type": "Punctuation", "behavior": "Contiguous"})),
        with_pre_tokenizer(json!({"type": "FixedLength", "length": 3})),
        with_pre_tokenizer(json!({"type": "UnicodeScripts"})),
        with_pre_tokenizer(json!({"type": "WhitespaceSplit"})),
        with_pre_tokenizer(json!({"type": "Whitespace"})),
        with_pre_tokenizer(json!({"type": "BertPreTokenizer"})),
        with_pre_tokenizer(json!({"type": "CharDelimiterSplit", "delimiter": "a"})),
        with_pre_tokenizer(
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithNext", "invert": false}),
        ),
        with_pre_tokenizer(
            json!({"type": "Split", "pattern": {"Regex": r"\p{L}"}, "behavior": "MergedWithPrevious", "invert": true}),
        ),
        with_normalizer(json!({"type": "NFKC"})),
        with_normalizer(json!({"type": "NFD"})),
        with_normalizer(json!({"type": "Lowercase"})),
        with_normalizer(json!({"type": "Strip", "strip_left": true, "strip_right": true})),
        with_normalizer(
            json!({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Nmt"}]}),
        ),
        with_normalizer(
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
        ),
        with_normalizer(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "_"})),
        sentence_piece_with(
            json!({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}}),
        ),
    ]
}

/// Ours beside the crate's, whose special tokens are text if they are to be.
fn pairs(files: &[Value], specials_are_text: bool) -> Vec<(ForeignTokenizer, Tokenizer)> {
    let pair = |file| {
        let (ours, mut theirs) = both(file);
        theirs.set_encode_special_tokens(specials_are_text);
        (ours, theirs)
    };
    files.iter().map(pair).collect()
}

type Pairs = LazyLock<Vec<(ForeignTokenizer, Tokenizer)>>;
static WITH_SPECIALS: Pairs = LazyLock::new(|| pairs(&[files(), flagged()].concat(), false));
static TEXT_ALONE: Pairs = LazyLock::new(|| pairs(&files(), true));

/// Added tokens with each of their flags.
fn flagged() -> Vec<Value> {
    ["single_word", "lstrip", "rstrip", "normalized"]
        .map(|flag| {
            let mut file = byte_level();
            for index in 0..5 {
                file["added_tokens"][index][flag] = true.into();
            }
            file
        })
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn text_with_special_tokens_gets_the_ids_of_the_crate(texts in prop::collection::vec(mixed(), 4)) {
        for (index, (ours, theirs)) in WITH_SPECIALS.iter().enumerate() {
            for text in &texts {
                let expected = theirs.encode(text.as_str(), false).unwrap();
                prop_assert_eq!(ours.encode_with_specials(text), expected.get_ids(), "{} {:?}", index, text);
            }
        }
    }

    #[test]
    fn text_alone_gets_the_ids_of_the_crate_without_special_tokens(texts in prop::collection::vec(mixed(), 4)) {
        for (index, (ours, theirs)) in TEXT_ALONE.iter().enumerate() {
            for text in &texts {
                let expected = theirs.encode(text.as_str(), false).unwrap();
                prop_assert_eq!(ours.encode(text), expected.get_ids(), "{} {:?}", index, text);
                let document = theirs.encode(text.as_str(), true).unwrap();
                prop_assert_eq!(ours.encode_document(text), document.get_ids(), "{} {:?}", index, text);
            }
        }
    }

    #[test]
    fn text_never_becomes_a_special_token(text in mixed()) {
        for file in [byte_level(), qwen(), metaspace()] {
            let tokenizer = ours(&file);
            let ids = tokenizer.encode(&text);
            prop_assert!(!ids.iter().any(|&id| tokenizer.is_special(id)), "{text:?} {ids:?}");
        }
    }

    #[test]
    fn byte_level_ids_decode_to_the_text_they_are_of(text in mixed()) {
        for file in [byte_level(), byte_level_with(json!({"model": {"ignore_merges": true}}))] {
            let tokenizer = ours(&file);
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text.as_str());
            prop_assert_eq!(tokenizer.decode_marked(&tokenizer.encode_with_specials(&text)), text.as_str());
        }
    }
}

#[test]
fn a_spelled_special_token_is_one_only_when_asked_for() {
    let tokenizer = ours(&byte_level());
    let id = tokenizer.encode_with_specials("<|im_end|>");
    assert_eq!(id.len(), 1);
    assert!(tokenizer.is_special(id[0]));
    assert!(tokenizer.encode("<|im_end|>").len() > 1);
    assert!(tokenizer.encode_document("<|im_end|>").len() > 1);
    // An added token that is not special is found either way.
    assert_eq!(tokenizer.encode("<tool>").len(), 1);
}

#[test]
fn a_document_begins_with_the_token_that_the_post_processor_adds() {
    let tokenizer = ours(&sentence_piece());
    assert_eq!(tokenizer.encode_document("the")[0], 1);
    assert_eq!(tokenizer.encode_document(""), [1]);
    assert_eq!(tokenizer.encode_document("the")[1..], tokenizer.encode("the"));
    let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": true, "add_prefix_space": true});
    let tokenizer = ours(&sentence_piece_with(json!({"post_processor": roberta})));
    assert_eq!(tokenizer.encode_document(""), [1, 2]);
}

#[test]
fn truncation_and_padding_do_nothing() {
    let file = byte_level_with(json!({
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "!"}}));
    assert_eq!(ours(&file).encode("one two three four"), ours(&byte_level()).encode("one two three four"));
}

#[test]
fn a_special_token_that_merging_makes_is_taken_apart_in_text() {
    let mut file = byte_level();
    let id = file["model"]["vocab"]["user"].as_u64().unwrap();
    file["added_tokens"].as_array_mut().unwrap().insert(0, added(id as usize, "user", true));
    let tokenizer = ours(&file);
    assert_eq!(tokenizer.encode_with_specials("user"), [id as u32]);
    let ids = tokenizer.encode("user");
    assert!(!ids.contains(&(id as u32)));
    assert_eq!(tokenizer.decode(&ids), "user");
}

#[test]
fn a_special_token_of_the_vocabulary_is_not_found_as_a_whole_piece() {
    let mut file = byte_level_with(json!({"model": {"ignore_merges": true}}));
    let id = file["model"]["vocab"].as_object().unwrap().len();
    file["model"]["vocab"]["whole"] = id.into();
    let list = file["added_tokens"].as_array_mut().unwrap();
    list.iter_mut().for_each(|token| token["id"] = (token["id"].as_u64().unwrap() + 1).into());
    list.insert(0, added(id, "whole", true));
    let tokenizer = ours(&file);
    assert!(!tokenizer.encode("whole").contains(&(id as u32)));
    assert_eq!(tokenizer.encode_with_specials("whole"), [id as u32]);
    assert_eq!(tokenizer.decode_marked(&[id as u32]), "whole");
}

#[test]
fn tokens_that_strip_what_others_strip_do_no_harm() {
    // The crate panics here ("AddedVocabulary bad split").
    let mut file = byte_level();
    let list = file["added_tokens"].as_array_mut().unwrap();
    list[1]["rstrip"] = true.into();
    let next = list.len() + list[0]["id"].as_u64().unwrap() as usize;
    let mut spaces = added(next, "  ", false);
    spaces["lstrip"] = true.into();
    list.push(spaces);
    let tokenizer = ours(&file);
    let ids = tokenizer.encode_with_specials("<|im_start|>     a");
    assert_eq!(ids[0], tokenizer.encode_with_specials("<|im_start|>")[0]);
    assert!(tokenizer.decode_marked(&ids).ends_with('a'));
}

#[test]
fn clones_of_a_tokenizer_work_in_many_threads() {
    let tokenizer = ours(&qwen());
    let expected = tokenizer.encode("the cat sat, 日本");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (tokenizer, expected) = (tokenizer.clone(), &expected);
            scope.spawn(move || assert_eq!(tokenizer.encode("the cat sat, 日本"), *expected));
        }
    });
}
