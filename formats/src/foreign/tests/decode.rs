//! Ids to text, against the crate.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::super::ForeignTokenizer;

use super::{both, byte_level, byte_level_with, metaspace, ours, sentence_piece, sentence_piece_with};

fn decoders() -> Vec<Value> {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let sequence =
        |parts: &[Value]| sentence_piece_with(json!({"decoder": {"type": "Sequence", "decoders": parts}}));
    let one = |part: Value| sentence_piece_with(json!({"decoder": part}));
    let metaspace_decoder = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    vec![
        byte_level(),
        sentence_piece(),
        metaspace(),
        one(Value::Null),
        one(metaspace_decoder("always")),
        one(metaspace_decoder("never")),
        one(json!({"type": "WordPiece", "prefix": "▁", "cleanup": true})),
        one(json!({"type": "WordPiece", "prefix": "##", "cleanup": false})),
        one(json!({"type": "Fuse"})),
        one(json!({"type": "ByteFallback"})),
        sequence(&[json!({"type": "ByteFallback"}), replace.clone(), json!({"type": "Fuse"})]),
        sequence(&[json!({"type": "Fuse"}), replace.clone(), metaspace_decoder("always")]),
        sequence(&[json!({"type": "Strip", "content": "▁", "start": 1, "stop": 0}), json!({"type": "Fuse"})]),
        sequence(&[
            replace,
            json!({"type": "Fuse"}),
            json!({"type": "Strip", "content": " ", "start": 3, "stop": 0}),
        ]),
        byte_level_with(json!({"decoder": {"type": "Sequence", "decoders": [
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            {"type": "Strip", "content": " ", "start": 2, "stop": 0},
            {"type": "Replace", "pattern": {"String": "th"}, "content": "TH"}]}})),
    ]
}

/// Ours beside the crate's.
fn pairs() -> &'static [(ForeignTokenizer, Tokenizer)] {
    static PAIRS: LazyLock<Vec<(ForeignTokenizer, Tokenizer)>> =
        LazyLock::new(|| decoders().iter().map(both).collect());
    &PAIRS
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ids_decode_to_the_text_of_the_crate(ids in prop::collection::vec(0_u32..330, 0..24)) {
        for (index, (ours, theirs)) in pairs().iter().enumerate() {
            prop_assert_eq!(ours.decode(&ids), theirs.decode(&ids, true).unwrap(), "{}", index);
            prop_assert_eq!(ours.decode_marked(&ids), theirs.decode(&ids, false).unwrap(), "{}", index);
        }
    }

    #[test]
    fn a_stream_gives_the_text_of_all_tokens(ids in prop::collection::vec(0_u32..330, 0..24)) {
        for (index, (tokenizer, _)) in pairs().iter().enumerate() {
            let mut stream = tokenizer.stream_decoder();
            let mut text = String::new();
            for &id in &ids {
                text += &stream.push(id);
                prop_assert!(tokenizer.decode(&ids).starts_with(&text), "{}", index);
            }
            text += &stream.finish();
            prop_assert_eq!(text, tokenizer.decode(&ids), "{}", index);
        }
    }

    #[test]
    fn the_bytes_of_the_tokens_are_the_bytes_of_the_text(text in super::mixed()) {
        let tokenizer = ours(&byte_level());
        let bytes: Option<Vec<Vec<u8>>> = tokenizer.encode(&text).into_iter().map(|id| tokenizer.token_bytes(id)).collect();
        // The one added token is text as well.
        prop_assert_eq!(bytes.unwrap().concat(), text.as_bytes());
    }
}

#[test]
fn a_stream_hands_out_a_character_when_its_last_byte_is_there() {
    let tokenizer = ours(&byte_level());
    let bytes: Vec<u32> = "é".bytes().map(|byte| tokenizer.encode("\u{0}")[0] + u32::from(byte)).collect();
    let mut stream = tokenizer.stream_decoder();
    assert_eq!(stream.push(bytes[0]), "");
    assert_eq!(stream.push(bytes[1]), "é");
    assert_eq!(stream.finish(), "");
}

#[test]
fn bytes_of_sentence_piece_wait_for_a_token_that_is_none() {
    let tokenizer = ours(&sentence_piece());
    let mut stream = tokenizer.stream_decoder();
    let byte = |byte: u32| 3 + byte;
    assert_eq!(stream.push(byte(0xc3)) + &stream.push(byte(0xa4)), "");
    let letter = tokenizer.encode("a").pop().unwrap();
    assert_eq!(stream.push(letter), "äa");
    // A byte that fits no other spoils all of its run, as in the crate.
    assert_eq!(stream.push(byte(0x41)) + &stream.push(byte(0xff)), "");
    assert_eq!(stream.finish(), "\u{fffd}\u{fffd}");
}

#[test]
fn special_tokens_are_left_out_or_spelled_out() {
    let tokenizer = ours(&byte_level());
    let ids = tokenizer.encode_with_specials("<|im_start|>user<|im_end|><tool>");
    assert_eq!(tokenizer.decode(&ids), "user<tool>");
    assert_eq!(tokenizer.decode_marked(&ids), "<|im_start|>user<|im_end|><tool>");
}

#[test]
fn ids_that_no_token_has_decode_to_nothing() {
    let tokenizer = ours(&byte_level());
    assert_eq!(tokenizer.decode(&[u32::MAX, 1 << 31, tokenizer.vocab_size() as u32]), "");
    assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    assert!(!tokenizer.is_special(u32::MAX));
    assert_eq!(tokenizer.stream_decoder().push(u32::MAX), "");
}

#[test]
fn a_special_token_of_normalized_text_is_left_out_too() {
    // The crate spells it as `▁<s>` (0.23), for it asks whether the normalized spelling is special.
    let mut file = sentence_piece();
    file["added_tokens"][1]["normalized"] = true.into();
    let tokenizer = ours(&file);
    assert_eq!(tokenizer.encode_with_specials("<s>")[0], 1);
    assert_eq!(tokenizer.decode(&[1]), "");
}

#[test]
fn tokens_have_the_bytes_of_their_alphabet() {
    let tokenizer = ours(&sentence_piece());
    assert_eq!(tokenizer.token_bytes(3 + 0x0a), Some(vec![0x0a]));
    assert_eq!(tokenizer.token_bytes(1), None);
    let the = tokenizer.encode("the");
    assert_eq!(the.len(), 1);
    assert_eq!(tokenizer.token_bytes(the[0]).as_deref(), Some(&b" the"[..]));
}

#[test]
fn decoders_that_would_panic_in_the_crate_cut_what_there_is() {
    let strip = json!({"type": "Strip", "content": "▁", "start": 2, "stop": 9});
    let tokenizer = ours(&sentence_piece_with(json!({"decoder": strip})));
    let ids = tokenizer.encode("   the");
    assert!(tokenizer.decode(&ids).contains("the"));
    let suffix = json!({"type": "BPEDecoder", "suffix": "</w>"});
    assert_eq!(ours(&sentence_piece_with(json!({"decoder": suffix}))).decode(&[]), "");
}
