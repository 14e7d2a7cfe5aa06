//! Files and texts that want to do harm.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{ForeignTokenizer, fuzz};
use super::{added, byte_level, byte_level_with, ours, refusal, sentence_piece, sentence_piece_with};

fn split(pattern: &str) -> Value {
    byte_level_with(json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]}}))
}

/// How long it takes at most, in a build without optimization on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn models_other_than_bpe_are_refused_by_name() {
    for (kind, vocab) in
        [("WordPiece", json!({"a": 0})), ("Unigram", json!([["a", 0.5]])), ("WordLevel", json!({"a": 0}))]
    {
        let why = refusal(&json!({"model": {"type": kind, "vocab": vocab}}));
        assert!(why.contains("model.type") && why.contains(kind) && why.contains("BPE"), "{why}");
    }
    assert!(refusal(&json!({"model": {"vocab": {"a": 0}}})).contains("only BPE"));
    assert!(refusal(&json!({"model": {"type": "Magic"}})).contains("`Magic`"));
}

#[test]
fn a_tokenizer_that_draws_lots_is_refused() {
    assert!(refusal(&byte_level_with(json!({"model": {"dropout": 0.1}}))).contains("model.dropout"));
    ours(&byte_level_with(json!({"model": {"dropout": 0.0}})));
}

#[test]
fn ids_are_small_and_each_is_given_once() {
    for id in
        [json!(1_u64 << 31), json!(u64::MAX), json!(1 << 20), json!(-1), json!(0.5), json!("1"), json!(null)]
    {
        let mut file = byte_level();
        file["model"]["vocab"]["new"] = id.clone();
        let why = refusal(&file);
        assert!(why.contains("tokenizer.json"), "{why}");
    }
    let mut file = byte_level();
    file["model"]["vocab"]["new"] = 5.into();
    assert!(refusal(&file).contains("two tokens have the id 5"));
    for id in [1_u64 << 31, 1 << 20, 3] {
        let mut file = byte_level();
        file["added_tokens"][4]["id"] = id.into();
        assert!(refusal(&file).contains("added_tokens[4]"), "{id}");
    }
    let mut file = byte_level();
    file["added_tokens"][4]["content"] = "<s>".into();
    assert!(refusal(&file).contains("`<s>` is there twice"));
    let twice = byte_level().to_string().replacen("\"vocab\":{", "\"vocab\":{\"!\":400,", 1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), twice).unwrap();
    assert!(ForeignTokenizer::load(folder.path()).unwrap_err().to_string().contains("`!` is there twice"));
}

#[test]
fn holes_among_the_ids_are_no_tokens() {
    let mut file = byte_level();
    file["added_tokens"] = json!([]);
    file["model"]["vocab"]["new"] = ((1 << 20) - 1).into();
    let tokenizer = ours(&file);
    assert_eq!(tokenizer.vocab_size(), 1 << 20);
    assert_eq!(tokenizer.decode(&[1 << 19]), "");
    assert_eq!(tokenizer.token_bytes(1 << 19), None);
    // The crate would give a new token an id in the hole, whatever the file says.
    file["added_tokens"] = json!([added(1 << 19, "<s>", true)]);
    assert!(refusal(&file).contains("the library would give it"));
}

#[test]
fn merges_make_tokens_that_there_are() {
    for (merge, what) in [
        (json!(["a", "zz"]), "`zz` is not in the vocabulary"),
        (json!(["z", "q"]), "`zq` is not in the vocabulary"),
        (json!(["", "a"]), "each has to add something"),
        (json!(["a", "b", "c"]), "two tokens"),
        (json!("a b c"), "one space"),
        (json!("ab"), "one space"),
        (json!(5), "a merge"),
    ] {
        let mut file = byte_level();
        file["added_tokens"] = json!([]);
        file["model"]["vocab"][""] = 500.into();
        file["model"]["merges"].as_array_mut().unwrap().push(merge.clone());
        let why = refusal(&file);
        assert!(why.contains(what), "{merge}: {why}");
    }
    // In the crate, a prefix that cuts a character is undefined behavior, and a short right half a panic.
    for prefix in ["é", "##", "\u{10ffff}"] {
        let why = refusal(&byte_level_with(json!({"model": {"continuing_subword_prefix": prefix}})));
        assert!(why.contains("model.merges[0]"), "{why}");
    }
}

#[test]
fn an_unknown_token_that_is_unknown_is_refused_where_it_is_needed() {
    assert!(
        refusal(&sentence_piece_with(json!({"model": {"unk_token": "<none>"}}))).contains("model.unk_token")
    );
    let tokenizer = ours(&byte_level_with(json!({"model": {"unk_token": "<none>"}})));
    assert_eq!(tokenizer.decode(&tokenizer.encode("日本\0")), "日本\0");
}

#[test]
fn tokens_and_parts_are_bounded() {
    let mut file = byte_level();
    file["model"]["vocab"]["a".repeat(5000)] = 500.into();
    assert!(refusal(&file).contains("5000 bytes"));
    let mut file = byte_level();
    file["added_tokens"][0]["content"] = "a".repeat(600).into();
    assert!(refusal(&file).contains("600"));
    file["added_tokens"][0]["content"] = "".into();
    assert!(refusal(&file).contains("1 to 512 bytes, this one 0"));
    let large = json!({"type": "Prepend", "prepend": "x".repeat(2 << 20)});
    assert!(
        refusal(&byte_level_with(json!({"normalizer": large}))).contains("more than the 1048576 allowed")
    );
    let vocab: serde_json::Map<_, _> = (0..=1 << 20).map(|id| (id.to_string(), Value::from(0))).collect();
    assert!(refusal(&byte_level_with(json!({"model": {"type": "BPE", "vocab": vocab}}))).contains("tokens"));
}

#[test]
fn parts_in_parts_end_somewhere() {
    for (part, list) in [
        ("normalizer", "normalizers"),
        ("pre_tokenizer", "pretokenizers"),
        ("decoder", "decoders"),
        ("post_processor", "processors"),
    ] {
        let mut nested = json!({"type": "Sequence", list: []});
        for _ in 0..9 {
            nested = json!({"type": "Sequence", list: [nested]});
        }
        assert!(
            refusal(&byte_level_with(json!({part: nested}))).contains("nested more than 4 deep"),
            "{part}"
        );
        let many = json!({"type": "Sequence", list: vec![json!({"type": "Sequence", list: []}); 40]});
        assert!(refusal(&byte_level_with(json!({part: many}))).contains("40 parts are more"), "{part}");
        for wrong in
            [json!({"type": "Magic"}), json!({}), json!([]), json!(5), json!("NFC"), json!({"type": 5})]
        {
            assert!(refusal(&byte_level_with(json!({part: wrong}))).contains(part), "{part} {wrong}");
        }
    }
    // As text, deeper than any parser goes.
    let deep = byte_level().to_string().replacen(
        "\"normalizer\":null",
        &format!("\"normalizer\":{}{}", "[".repeat(50_000), "]".repeat(50_000)),
        1,
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), deep).unwrap();
    assert!(ForeignTokenizer::load(folder.path()).unwrap_err().to_string().contains("recursion limit"));
}

#[test]
fn parts_that_make_a_text_grow_without_bound_are_refused() {
    let grow = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "x".repeat(200)});
    let normalizer = json!({"type": "Sequence", "normalizers": [grow.clone(), grow]});
    assert!(refusal(&byte_level_with(json!({"normalizer": normalizer}))).contains("times as long"));
    let grow = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(200)});
    let decoder = json!({"type": "Sequence", "decoders": [grow.clone(), grow]});
    assert!(refusal(&byte_level_with(json!({"decoder": decoder}))).contains("times as long"));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let twice = json!({"type": "Sequence", "pretokenizers": [byte_level, byte_level]});
    assert!(
        refusal(&byte_level_with(json!({"pre_tokenizer": twice})))
            .contains("two parts of the type ByteLevel")
    );
}

#[test]
fn what_would_panic_in_the_crate_is_refused() {
    let cases = [
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "////"})),
        ("decoder", json!({"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true})),
        ("decoder", json!({"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""})),
        ("decoder", json!({"type": "BPEDecoder", "suffix": ""})),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false}),
        ),
        // A template that names a token which it does not list, and one for two texts.
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        ),
        ("post_processor", json!({"type": "BertProcessing", "sep": ["x", 1_u64 << 31], "cls": ["y", 1]})),
        ("post_processor", json!({"type": "BertProcessing", "sep": ["x", 1 << 19], "cls": ["y", 1]})),
    ];
    for (part, value) in cases {
        let why = refusal(&byte_level_with(json!({part: value})));
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn added_tokens_that_are_spelled_the_same_when_normalized_are_refused() {
    let mut file = byte_level_with(json!({"normalizer": {"type": "Lowercase"}}));
    for (index, content) in ["AB", "ab"].into_iter().enumerate() {
        file["added_tokens"][index]["content"] = content.into();
        file["added_tokens"][index]["normalized"] = true.into();
    }
    assert!(refusal(&file).contains("`AB` and `ab` are spelled the same"));
    // One that is nothing when normalized is never found. The crate panicked on the text "£" for such a token.
    let mut file = byte_level_with(json!({"normalizer": {"type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}}));
    file["added_tokens"][0]["content"] = "\u{200c}".into();
    file["added_tokens"][0]["normalized"] = true.into();
    assert_eq!(ours(&file).decode(&ours(&file).encode_with_specials("£\u{200c}")), "£");
}

#[test]
fn patterns_that_go_back_exponentially_end() {
    let long = "a".repeat(3000);
    for pattern in [
        "(a+)+b",
        "(a*)*b",
        "(a|a)*b",
        "(a|aa)+$b",
        "(?:a?){30}a{30}b",
        "((a+)*)+!",
        r"(a*)\1*b",
        "(?<=(a+)+)b",
        "(?=(a|aa)+b)a",
    ] {
        let tokenizer = ours(&split(pattern));
        let started = Instant::now();
        assert_eq!(tokenizer.decode(&tokenizer.encode(&long)), long, "{pattern}");
        assert!(started.elapsed() < PATIENCE, "{pattern}: {:?}", started.elapsed());
    }
}

#[test]
fn patterns_are_bounded_in_size() {
    for pattern in [
        "(?:ab){1000}".repeat(30),
        "((a{900}){900}){900}".into(),
        "((((){999}){999}){999}){999}".into(),
        "(".repeat(5000) + &")".repeat(5000),
        "[".repeat(60) + &"]".repeat(60),
        "a".repeat(9000),
        "a{1001}".into(),
    ] {
        let why = refusal(&split(&pattern));
        assert!(why.contains("pre_tokenizer.pretokenizers[0].pattern.Regex"), "{why}");
    }
}

#[test]
fn long_texts_of_one_kind_take_no_quadratic_time() {
    let mut file = byte_level();
    for index in 0..5 {
        file["added_tokens"][index]["lstrip"] = (index % 2 == 0).into();
        file["added_tokens"][index]["rstrip"] = true.into();
    }
    let next = file["added_tokens"][4]["id"].as_u64().unwrap() as usize + 1;
    let mut space = added(next, " ", false);
    (space["lstrip"], space["rstrip"]) = (true.into(), true.into());
    file["added_tokens"].as_array_mut().unwrap().push(space);
    let tokenizers = [ours(&byte_level()), ours(&super::qwen()), ours(&sentence_piece()), ours(&file)];
    for tokenizer in tokenizers {
        for unit in [" ", "a", "\n", "<s>", "<", "<|im_start|> ", "é", "\u{301}", "1", " a"] {
            let text = unit.repeat(40_000 / unit.len());
            let started = Instant::now();
            let ids = tokenizer.encode_with_specials(&text);
            assert!(!ids.is_empty());
            _ = tokenizer.encode_rendered(&tokenizer.protect(&text));
            assert!(started.elapsed() < PATIENCE, "{unit:?}: {:?}", started.elapsed());
        }
    }
}

#[test]
fn a_run_of_white_space_longer_than_the_crate_can_go_back_is_one_piece() {
    // There, `\s+(?!\S)` fails beyond a million and leaves all of the rest in one piece.
    let tokenizer = ours(&super::qwen());
    let text = " ".repeat(1_200_000) + "the cat";
    let ids = tokenizer.encode(&text);
    assert_eq!(ids[ids.len() - 2..], tokenizer.encode(" the cat"));
    assert_eq!(tokenizer.decode(&ids), text);
}

#[test]
fn the_targets_of_the_fuzzer_hold_for_the_fixtures() {
    for file in [byte_level(), super::qwen(), sentence_piece(), super::metaspace()] {
        fuzz(format!("{file}\0<s> <|im_start|> e\u{301} \u{fdd0}").as_bytes());
    }
    for bytes in
        [&b""[..], b"{}", b"{\"model\":{}}", b"\xff\0\xff", b"{\"model\":{\"vocab\":{},\"merges\":[]}}"]
    {
        fuzz(bytes);
    }
}
