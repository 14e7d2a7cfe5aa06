//! Tests against the crate itself, and against what must not happen.
//!
//! Purpose: the fixtures are made here, tokenizers of some three hundred tokens. Where the crate does the right thing, it is
//! the oracle; for real vocabularies there is `formats/tests/foreign.py`.

mod changed;
mod decode;
mod encode;
mod hostile;
mod load;
mod normalizers;
mod protect;
mod regex;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ForeignTokenizer;

/// The special tokens of the fixtures.
const SPECIALS: [&str; 4] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"];
const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What the byte-level fixture knows by heart.
const WORDS: [&str; 14] = [
    "Ġthe",
    "Ġcat",
    "Ġsat",
    "user",
    "assist",
    "ant",
    "ĠĠĠĠ",
    "Ċ",
    "æĹ¥",
    "Ã©",
    "imĠ_start",
    "<|im",
    "'s",
    "Ġ12",
];

/// An added token.
fn added(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": special})
}

/// A vocabulary of single characters and of words that merging makes from left to right.
fn vocabulary(chars: impl IntoIterator<Item = String>, words: &[&str]) -> (Vec<String>, Vec<Value>) {
    let mut tokens: Vec<String> = chars.into_iter().collect();
    let mut merges = Vec::new();
    for word in words {
        let mut chars = word.chars().map(String::from);
        let mut whole = chars.next().unwrap();
        for next in chars {
            let longer = format!("{whole}{next}");
            if !tokens.contains(&longer) {
                tokens.push(longer.clone());
                merges.push(json!([whole, next]));
            }
            whole = longer;
        }
    }
    (tokens, merges)
}

fn file(tokens: &[String], merges: Vec<Value>, added: Vec<Value>, parts: Value) -> Value {
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let mut file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges},
    });
    merge(&mut file, &parts);
    file
}

/// Sets fields, those of objects one by one.
fn merge(file: &mut Value, parts: &Value) {
    for (key, value) in parts.as_object().unwrap() {
        match (file.get_mut(key), value) {
            (Some(old @ Value::Object(_)), Value::Object(_)) if key == "model" => merge(old, value),
            _ => file[key] = value.clone(),
        }
    }
}

/// A byte-level tokenizer, as GPT-2's, with other parts where they are given.
fn byte_level_with(parts: Value) -> Value {
    let bytes = (0..=255).map(|byte| super::decode::char_of_byte(byte).to_string());
    let (tokens, merges) = vocabulary(bytes, &WORDS);
    let count = tokens.len();
    let mut list: Vec<Value> =
        SPECIALS.iter().enumerate().map(|(index, special)| added(count + index, special, true)).collect();
    list.push(added(count + 4, "<tool>", false));
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let mut file = file(&tokens, merges, list, json!({"pre_tokenizer": byte_level, "decoder": byte_level}));
    merge(&mut file, &parts);
    file
}

fn byte_level() -> Value {
    byte_level_with(json!({}))
}

/// A byte-level tokenizer that splits as Qwen2's.
fn qwen() -> Value {
    byte_level_with(
        json!({"normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": QWEN}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]}}),
    )
}

/// A tokenizer with bytes for what it does not know, as SentencePiece makes them.
fn sentence_piece_with(parts: Value) -> Value {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let first = ["<unk>", "<s>", "</s>"].map(String::from);
    let letters = ('a'..='z').chain("▁é.,<>/!".chars()).map(String::from);
    let (tokens, merges) =
        vocabulary(first.into_iter().chain(bytes).chain(letters), &["▁the", "▁cat", "sat", "▁▁"]);
    let list = vec![added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)];
    let decoders = json!([
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]);
    let normalizers = json!([
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]);
    let mut file = file(
        &tokens,
        merges,
        list,
        json!({
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "decoder": {"type": "Sequence", "decoders": decoders},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "model": {"unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true},
        }),
    );
    merge(&mut file, &parts);
    file
}

fn sentence_piece() -> Value {
    sentence_piece_with(json!({}))
}

/// The same with a pre-tokenizer in place of the normalizer, as newer conversions of Llama 2 have it.
fn metaspace() -> Value {
    sentence_piece_with(json!({"normalizer": null, "pre_tokenizer": {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}}))
}

/// Ours, and the crate's own.
fn both(file: &Value) -> (ForeignTokenizer, tokenizers::Tokenizer) {
    (ours(file), serde_json::from_value(file.clone()).unwrap())
}

fn ours(file: &Value) -> ForeignTokenizer {
    ForeignTokenizer::from_values(file, None, Some(&json!({"eos_token_id": 2})), None).unwrap()
}

/// Why a file is not accepted.
fn refusal(file: &Value) -> String {
    let result = ForeignTokenizer::from_values(file, None, Some(&json!({"eos_token_id": 0})), None);
    result.unwrap_err().to_string()
}

#[rustfmt::skip]
const FRAGMENTS: &[&str] = &[
    "a", "Z", "é", "e\u{301}", "ſ", "日本", "1", "234", "٣", "²", " ", "  ", "    ", "\t", "\n", "\r\n", "\u{a0}",
    "\u{3000}", "\u{200b}", "'s", "'LL", "!", "...", "😀", "👩\u{200d}👧", "\0", "\u{fffd}", "\u{fdd0}", "\u{fdd1}",
    "\u{fdd2}", "the", " the", " cat", "user", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>",
    "<tool>", "<|im", "_start|>", "<|", "|>", "<", ">", "▁", "▁▁", "<0x41>", "Ġ", "[x]", "x",
];

/// Text that goes through every rule and meets at every border.
fn mixed() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        20 => prop::sample::select(FRAGMENTS).prop_map(String::from),
        1 => any::<String>(),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}
