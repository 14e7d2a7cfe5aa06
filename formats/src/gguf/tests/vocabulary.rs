//! Vocabularies of files as `tokenizers` has them.

use std::str::FromStr;

use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::{Parts, refused, text};
use crate::gguf::{Imported, MetaArray, MetaValue};

const TOKENS: &str = "tokenizer.ggml.tokens";

fn import(parts: &Parts) -> Imported<Vec<u8>> {
    Imported::new(parts.file()).unwrap()
}

fn refusal(parts: Parts) -> String {
    refused(Imported::new(parts.file()))
}

fn strings(list: &[&str]) -> MetaValue {
    MetaValue::Array(MetaArray::String(list.iter().map(|&text| text.into()).collect()))
}

fn tokenizer(parts: &Parts) -> Tokenizer {
    Tokenizer::from_str(&import(parts).tokenizer.to_string()).unwrap()
}

fn ids(parts: &Parts, text: &str) -> Vec<u32> {
    tokenizer(parts).encode(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn tokens_keep_their_ids_and_special_tokens_stay_whole() {
    let parts = Parts::of("qwen2");
    assert_eq!(ids(&parts, "ab a1<|stop|>b"), [2, 4, 5, 7, 1]);
    let tokenizer = tokenizer(&parts);
    assert_eq!(tokenizer.decode(&[6, 2, 4, 5, 7], false).unwrap(), "<|start|>ab a1<|stop|>");
    assert_eq!(tokenizer.decode(&[6, 2, 4, 5, 7], true).unwrap(), "ab a1");
    assert_eq!(tokenizer.get_vocab_size(true), 8);
}

#[test]
fn bos_is_put_before_a_text_where_the_file_or_its_split_says_so() {
    // LLaMA 3's split does, unless the file says that it does not.
    assert_eq!(ids(&Parts::of("llama"), "ab"), [6, 2]);
    let key = "tokenizer.ggml.add_bos_token";
    assert_eq!(ids(&Parts::of("llama").set(key, MetaValue::Bool(false)), "ab"), [2]);
    assert_eq!(ids(&Parts::of("qwen2"), "ab"), [2]);
    let both = Parts::of("qwen2")
        .set(key, MetaValue::Bool(true))
        .set("tokenizer.ggml.add_eos_token", MetaValue::Bool(true));
    assert_eq!(ids(&both, "ab"), [6, 2, 7]);
    assert_eq!(import(&both).tokenizer_config["add_bos_token"], true);
    let none = Parts::of("llama").without("tokenizer.ggml.bos_token_id");
    assert!(refusal(none).contains("to begin with BOS, and there is no such token"));
}

#[test]
fn a_split_is_taken_by_its_name_and_an_unknown_one_is_refused() {
    let key = "tokenizer.ggml.pre";
    let pre =
        |name: &str| import(&Parts::of("qwen2").set(key, text(name))).tokenizer["pre_tokenizer"].clone();
    assert_eq!(pre("gpt-2")["use_regex"], true);
    assert_eq!(pre("smollm")["pretokenizers"][0], json!({ "type": "Digits", "individual_digits": true }));
    assert_eq!(pre("default")["pretokenizers"].as_array().unwrap().len(), 5);
    assert_eq!(pre("qwen2")["pretokenizers"][0]["behavior"], "Isolated");
    assert_eq!(pre("qwen2"), pre("deepseek-r1-qwen"));
    let whole = |name: &str| {
        let parts = Parts::of("qwen2").set(key, text(name));
        import(&parts).tokenizer["model"]["ignore_merges"].clone()
    };
    assert_eq!((whole("llama-bpe"), whole("dbrx")), (json!(true), json!(false)));
    let message = refusal(Parts::of("qwen2").set(key, text("of-the-future")));
    assert!(
        message.contains(&format!("metadata key `{key}`: `of-the-future` is not known; there are: gpt-2"))
    );
    assert!(refusal(Parts::of("qwen2").without(key)).contains("does not say how a text is split"));
}

#[test]
fn every_split_loads_and_splits_digits_as_it_should() {
    let key = "tokenizer.ggml.pre";
    for (name, expected) in [
        ("gpt-2", 1),
        ("smollm", 4),
        ("default", 2),
        ("llama-bpe", 2),
        ("dbrx", 2),
        ("qwen2", 4),
        ("qwen35", 4),
        ("tekken", 4),
        ("gpt-4o", 2),
        ("deepseek-v3", 2),
        ("deepseek-coder", 4),
        ("seed-coder", 4),
        ("falcon", 2),
    ] {
        let tokens = ["1", "11", "1111", "111", "a", "<|start|>", "<|stop|>", "<|pad|>"];
        let parts = Parts::of("qwen2")
            .set(key, text(name))
            .set(TOKENS, strings(&tokens))
            .set("tokenizer.ggml.token_type", MetaValue::Array(MetaArray::I32(vec![1, 1, 1, 1, 1, 3, 3, 3])))
            .set("tokenizer.ggml.bos_token_id", MetaValue::U32(5))
            .set("tokenizer.ggml.eos_token_id", MetaValue::U32(6))
            .set("tokenizer.ggml.add_bos_token", MetaValue::Bool(false))
            .set("tokenizer.ggml.merges", strings(&["1 1", "11 11", "11 1"]));
        assert_eq!(ids(&parts, "1111").len(), expected, "{name}");
    }
}

#[test]
fn a_vocabulary_that_is_not_byte_level_is_refused() {
    let key = "tokenizer.ggml.model";
    assert!(refusal(Parts::of("llama").set(key, text("llama"))).contains("SentencePiece"));
    assert!(refusal(Parts::of("llama").set(key, text("bert"))).contains("`bert` is not byte-level BPE"));
    assert!(refusal(Parts::of("llama").without(key)).contains("`tokenizer.ggml.model`: it is missing"));
    assert!(refusal(Parts::of("llama").without(TOKENS)).contains("`tokenizer.ggml.tokens`: it is missing"));
    assert!(refusal(Parts::of("llama").without("tokenizer.ggml.merges")).contains("merges`: it is missing"));
    let lower = Parts::of("llama").set("tokenizer.ggml.normalizer.lowercase", MetaValue::Bool(true));
    assert!(refusal(lower).contains("changes no text"));
}

#[test]
fn a_vocabulary_that_tokenizers_cannot_hold_is_refused() {
    let twice = strings(&["a", "b", "ab", "Ġ", "Ġa", "a", "<|start|>", "<|stop|>"]);
    assert!(refusal(Parts::of("llama").set(TOKENS, twice)).contains("the tokens 0 and 5 are both `a`"));
    let merges = |list: &[&str]| refusal(Parts::of("llama").set("tokenizer.ggml.merges", strings(list)));
    assert!(merges(&["a b", "b a"]).contains("merge 1: `ba` is no token"));
    assert!(merges(&["ab"]).contains("merge 0: `ab` is not two tokens"));
    assert!(merges(&["a b b"]).contains("merge 0: `b b` is no token"));
    let types = |list: Vec<i32>| {
        refusal(Parts::of("llama").set("tokenizer.ggml.token_type", MetaValue::Array(MetaArray::I32(list))))
    };
    assert!(types(vec![1; 7]).contains("7 types of 8 tokens"));
    assert!(types(vec![1, 1, 6, 1, 1, 1, 3, 3]).contains("the type 6 of token 2"));
}

#[test]
fn a_special_id_beyond_the_tokens_is_refused_and_minus_one_is_none() {
    let key = "tokenizer.ggml.eos_token_id";
    assert!(
        refusal(Parts::of("qwen2").set(key, MetaValue::U32(8)))
            .contains("the eos token 8 is none of 8 tokens")
    );
    assert!(refusal(Parts::of("qwen2").set(key, MetaValue::I32(-2))).contains("-2 is no token"));
    for none in [MetaValue::U32(u32::MAX), MetaValue::I32(-1), MetaValue::I64(-1)] {
        assert_eq!(import(&Parts::of("qwen2").set(key, none)).config["eos_token_id"], Value::Null);
    }
}

#[test]
fn all_tokens_that_end_a_turn_are_in_the_generation_config() {
    let parts = Parts::of("llama")
        .set("tokenizer.ggml.eot_token_id", MetaValue::U32(5))
        .set("tokenizer.ggml.eom_token_id", MetaValue::U32(7))
        .set("tokenizer.ggml.padding_token_id", MetaValue::U32(7))
        .set("tokenizer.ggml.suppress_tokens", MetaValue::Array(MetaArray::I32(vec![3])));
    let model = import(&parts);
    let expected =
        json!({ "bos_token_id": 6, "pad_token_id": 7, "eos_token_id": [7, 5], "suppress_tokens": [3] });
    assert_eq!(model.generation_config, expected);
    assert_eq!(model.config["eos_token_id"], 7);
    assert_eq!(model.tokenizer_config["pad_token"], "<|stop|>");
}

#[test]
fn a_special_token_that_a_file_forgot_to_mark_stays_whole_all_the_same() {
    let key = "tokenizer.ggml.token_type";
    let unmarked = MetaValue::Array(MetaArray::I32(vec![1; 8]));
    for parts in [Parts::of("qwen2").without(key), Parts::of("qwen2").set(key, unmarked)] {
        assert_eq!(ids(&parts, "a<|stop|>"), [0, 7]);
    }
    // A text that only looks like one is none.
    let plain = Parts::of("qwen2").without(key).set("tokenizer.ggml.eos_token_id", MetaValue::U32(5));
    assert_eq!(import(&plain).tokenizer["added_tokens"].as_array().unwrap().len(), 1);
}

#[test]
fn user_defined_and_added_tokens_stay_whole_and_are_not_special() {
    let types = MetaValue::Array(MetaArray::I32(vec![1, 1, 4, 1, 1, 1, 3, 3]));
    let parts = Parts::of("qwen2")
        .set("tokenizer.ggml.token_type", types)
        .set("tokenizer.ggml.merges", strings(&["Ġ a"]));
    assert_eq!(ids(&parts, "abab"), [2, 2]);
    assert_eq!(tokenizer(&parts).decode(&[2, 7], true).unwrap(), "ab");
    let key = "tokenizer.ggml.added_tokens";
    let added = Parts::of("qwen2")
        .set(key, strings(&["ab", "<|stop|>"]))
        .set("tokenizer.ggml.merges", strings(&["Ġ a"]));
    assert_eq!(ids(&added, "abab<|stop|>"), [2, 2, 7]);
    assert!(refusal(Parts::of("qwen2").set(key, strings(&["<think>"]))).contains("`<think>` has no id"));
}

#[test]
fn chat_templates_are_kept_by_name() {
    let model = import(&Parts::of("llama"));
    assert_eq!(model.tokenizer_config["chat_template"], "{{ messages }}");
    let named = Parts::of("llama").set("tokenizer.chat_template.tool_use", text("{{ tools }}"));
    let expected = json!([
        { "name": "default", "template": "{{ messages }}" }, { "name": "tool_use", "template": "{{ tools }}" },
    ]);
    assert_eq!(import(&named).tokenizer_config["chat_template"], expected);
    let none = import(&Parts::of("llama").without("tokenizer.chat_template"));
    assert_eq!(none.tokenizer_config.get("chat_template"), None);
}
