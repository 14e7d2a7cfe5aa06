//! The files: the same bytes for the same tokenizer, and nothing else is read.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{SAMPLE, mixed, trained_on};
use crate::bpe::json::byte_chars;
use crate::bpe::{Pattern, Tokenizer};

fn saved(pattern: Pattern) -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained_on(SAMPLE, pattern, 300);
    tokenizer.save(folder.path()).unwrap();
    (folder, tokenizer)
}

fn read(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

/// The error of reading a tokenizer whose file was changed so.
fn refusal(change: impl Fn(&mut Value)) -> String {
    let (folder, _) = saved(Pattern::Gpt4);
    let mut file = read(folder.path(), "tokenizer.json");
    change(&mut file);
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let message = Tokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "the message names the file: {message}");
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn what_is_read_is_what_was_saved(text in mixed(), other in mixed()) {
        for pattern in Pattern::ALL {
            let folder = tempfile::tempdir().unwrap();
            let tokenizer = trained_on(&text, pattern, 330);
            tokenizer.save(folder.path()).unwrap();
            let loaded = Tokenizer::load(folder.path()).unwrap();
            prop_assert_eq!(loaded.vocabulary().merges(), tokenizer.vocabulary().merges());
            prop_assert_eq!(loaded.pattern(), pattern);
            prop_assert_eq!(loaded.encode(&other), tokenizer.encode(&other));
        }
    }
}

#[test]
fn the_same_tokenizer_gives_the_same_bytes() {
    for pattern in Pattern::ALL {
        let (first, second) = (saved(pattern).0, saved(pattern).0);
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            let bytes = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(name)).unwrap();
            assert_eq!(bytes(&first), bytes(&second));
        }
    }
}

#[test]
fn the_byte_table_is_that_of_gpt2() {
    let chars = byte_chars();
    for (byte, char) in
        [(0, 'Ā'), (b'\n', 'Ċ'), (b' ', 'Ġ'), (b'a', 'a'), (0x7f, 'ġ'), (0xad, 'Ń'), (0xff, 'ÿ')]
    {
        assert_eq!(chars[byte as usize], char);
    }
    assert_eq!(chars.iter().collect::<std::collections::HashSet<_>>().len(), 256);
}

#[test]
fn merges_written_as_pairs_are_read_too() {
    let (folder, tokenizer) = saved(Pattern::Gpt4);
    let mut file = read(folder.path(), "tokenizer.json");
    for merge in file["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(merge.as_str().unwrap().split(' ').collect::<Vec<_>>());
    }
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    assert_eq!(Tokenizer::load(folder.path()).unwrap().encode(SAMPLE), tokenizer.encode(SAMPLE));
}

#[test]
fn a_vocabulary_that_is_not_dense_is_refused() {
    let message = refusal(|file| file["model"]["vocab"]["a"] = json!(100_000));
    assert!(message.contains("token `a` has id 100000 out of 295"), "{message}");
    let message = refusal(|file| file["model"]["vocab"]["a"] = json!(98));
    assert!(message.contains("two tokens have the id 98"), "{message}");
    let message = refusal(|file| file["model"]["vocab"]["zzz"] = json!(295));
    assert!(message.contains("296 tokens and 39 merges"), "{message}");
}

#[test]
fn bytes_out_of_their_places_are_refused() {
    let message = refusal(|file| {
        file["model"]["vocab"]["a"] = json!(98);
        file["model"]["vocab"]["b"] = json!(97);
    });
    assert!(message.contains("token 97 is not the byte 97"), "{message}");
}

#[test]
fn merges_that_contradict_the_vocabulary_are_refused() {
    let message = refusal(|file| file["model"]["merges"].as_array_mut().unwrap().swap(0, 1));
    assert!(message.contains("do not join to"), "{message}");
    let message = refusal(|file| file["model"]["merges"][0] = json!("nospace"));
    assert!(message.contains("is not two tokens"), "{message}");
    let message = refusal(|file| drop(file["model"]["merges"].as_array_mut().unwrap().pop()));
    assert!(message.contains("295 tokens and 38 merges"), "{message}");
}

#[test]
fn merges_that_no_training_makes_are_refused() {
    let load =
        |merges: Vec<(u32, u32)>| Tokenizer::from_merges(merges, Pattern::Gpt4).unwrap_err().to_string();
    assert!(load(vec![(97, 256)]).contains("merge 0 is unusable: it joins 97 and 256"));
    assert!(load(vec![(97, 98), (97, 98)]).contains("merge 1 is unusable: 97 and 98 are joined twice"));
    // b+c goes first, so (ab)+c never meets.
    let shadowed = load(vec![(98, 99), (97, 98), (257, 99)]);
    assert!(shadowed.contains("no text can give its token"), "{shadowed}");
    let twice = load(vec![(98, 99), (97, 98), (97, 256), (257, 99)]);
    assert!(twice.contains("its bytes are token 258 already"), "{twice}");
    let doubling = std::iter::once((97, 97)).chain((256..300).map(|id| (id, id))).collect();
    assert!(load(doubling).contains("longer than 1024 bytes"));
}

#[test]
fn settings_that_change_the_encoding_are_refused() {
    let settings = [
        ("/normalizer", json!({ "type": "NFC" }), "`normalizer`"),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!(r"(a+)+$"), "neither gpt2 nor gpt4"),
        ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true), "neither gpt2 nor gpt4"),
        ("/model/dropout", json!(0.1), "`model.dropout`"),
        ("/model/type", json!("Unigram"), "`model.type`"),
        ("/model/byte_fallback", json!(true), "`model.byte_fallback`"),
        ("/model/end_of_word_suffix", json!("</w>"), "`model.end_of_word_suffix`"),
        ("/added_tokens/4/content", json!("<|stop|>"), "`added_tokens`"),
        ("/added_tokens/0/id", json!(3), "`added_tokens`"),
        ("/decoder", Value::Null, "`decoder`"),
        ("/post_processor", json!({ "type": "ByteLevel" }), "`post_processor`"),
        ("/version", json!("2.0"), "`version`"),
    ];
    for (pointer, value, expected) in settings {
        let message = refusal(|file| *file.pointer_mut(pointer).unwrap() = value.clone());
        assert!(message.contains(expected), "{pointer}: {message}");
        assert!(message.contains("run that stage again"), "{pointer}: {message}");
    }
    assert!(refusal(|file| file["extra"] = json!(1)).contains("unknown field `extra`"));
}

#[test]
fn a_token_that_stands_twice_is_refused_though_json_maps_hide_it() {
    let (folder, _) = saved(Pattern::Gpt2);
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"a\": 97,", "\"a\": 97,\n      \"a\": 97,", 1)).unwrap();
    assert!(Tokenizer::load(folder.path()).unwrap_err().to_string().contains("296 tokens and 39 merges"));
    std::fs::write(&path, text.replacen("\"b\": 98,", "\"a\": 98,", 1)).unwrap();
    let message = Tokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("token `a` stands twice"), "{message}");
}

#[test]
fn a_file_cut_short_a_huge_file_and_a_missing_one_are_refused() {
    let (folder, _) = saved(Pattern::Gpt4);
    let path = folder.path().join("tokenizer.json");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(Tokenizer::load(folder.path()).unwrap_err().to_string().contains("EOF while parsing"));
    // Sparse: no disk is used.
    std::fs::File::create(&path).unwrap().set_len(1 << 32).unwrap();
    assert!(Tokenizer::load(folder.path()).unwrap_err().to_string().contains("larger than 128 MiB"));
    std::fs::remove_file(&path).unwrap();
    assert!(Tokenizer::load(folder.path()).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn another_chat_template_is_refused() {
    let (folder, _) = saved(Pattern::Gpt4);
    let mut config = read(folder.path(), "tokenizer_config.json");
    config["chat_template"] = json!("{{ messages }}");
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let message = Tokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json") && message.contains("chat_template"), "{message}");
}
