//! Encoding against the definition, round trips, streams.

use proptest::prelude::*;

use super::{SAMPLE, mixed, trained_on};
use crate::bpe::{Pattern, Tokenizer};

/// The merges applied one after the other to every piece.
fn slowly(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    for piece in tokenizer.pattern().pieces(text) {
        let mut word: Vec<u32> = piece.bytes().map(u32::from).collect();
        for (index, &pair) in tokenizer.vocabulary().merges().iter().enumerate() {
            super::train::merge(&mut word, pair, 256 + index as u32);
        }
        ids.extend(word);
    }
    ids
}

fn tokenizers() -> [Tokenizer; 2] {
    Pattern::ALL.map(|pattern| trained_on(SAMPLE, pattern, 340))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn encoding_is_the_merges_in_their_order(text in mixed()) {
        for tokenizer in tokenizers() {
            prop_assert_eq!(tokenizer.encode(&text), slowly(&tokenizer, &text));
        }
    }

    #[test]
    fn long_pieces_encode_as_short_ones_do(text in "[aabth]{60,300}") {
        for tokenizer in tokenizers() {
            prop_assert_eq!(tokenizer.encode(&text), slowly(&tokenizer, &text));
        }
    }

    #[test]
    fn a_text_encodes_alike_alone_in_a_batch_and_from_bytes(texts in prop::collection::vec(mixed(), 0..5)) {
        for tokenizer in tokenizers() {
            let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
            let alone: Vec<Vec<u32>> = borrowed.iter().map(|text| tokenizer.encode(text)).collect();
            prop_assert_eq!(&tokenizer.encode_batch(&borrowed), &alone);
            let bytes: Vec<Vec<u32>> = borrowed.iter().map(|text| tokenizer.encode_bytes(text.as_bytes())).collect();
            prop_assert_eq!(bytes, alone);
        }
    }

    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200), text in mixed()) {
        for tokenizer in tokenizers() {
            prop_assert_eq!(&tokenizer.decode_bytes(&tokenizer.encode_bytes(&bytes)), &bytes);
            prop_assert_eq!(&tokenizer.decode(&tokenizer.encode(&text)), &text);
        }
    }

    #[test]
    fn a_stream_gives_what_decoding_at_once_gives(ids in prop::collection::vec(0u32..345, 0..60)) {
        for tokenizer in tokenizers() {
            let mut stream = tokenizer.stream_decoder();
            let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
            text += &stream.finish();
            prop_assert_eq!(text, tokenizer.decode(&ids));
        }
    }
}

#[test]
fn a_text_longer_than_a_stretch_encodes_as_its_parts_do() {
    let tokenizer = trained_on(SAMPLE, Pattern::Gpt4, 340);
    let text = SAMPLE.repeat(10_000);
    assert!(text.len() > 1 << 20);
    assert_eq!(tokenizer.encode(&text), tokenizer.encode(SAMPLE).repeat(10_000));
}

#[test]
fn two_megabytes_of_one_letter_encode_in_no_time() {
    let tokenizer = trained_on(SAMPLE, Pattern::Gpt4, 340);
    let text = "a".repeat(2 << 20);
    let ids = tokenizer.encode(&text);
    assert!(ids.len() < text.len() / 4);
    assert_eq!(tokenizer.decode(&ids), text);
}

#[test]
fn a_stream_holds_a_character_back_until_it_is_whole() {
    let tokenizer = trained_on("", Pattern::Gpt4, 261);
    let mut stream = tokenizer.stream_decoder();
    let texts: Vec<String> = "é😀".bytes().map(|byte| stream.push(byte.into())).collect();
    assert_eq!(texts, ["", "é", "", "", "", "😀"]);
    assert_eq!(stream.push(0xf0), "");
    assert_eq!(stream.push(u32::from(b'a')), "\u{fffd}a");
    assert_eq!(stream.push(0xe2), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

#[test]
fn an_id_that_is_no_token_shows_as_a_replacement_character() {
    let tokenizer = trained_on("", Pattern::Gpt4, 261);
    assert_eq!(tokenizer.decode(&[104, 261, u32::MAX, 105]), "h\u{fffd}\u{fffd}i");
}
