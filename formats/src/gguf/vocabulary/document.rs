//! A vocabulary as the files of Hugging Face.
//!
//! Purpose: `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, which `tokenizers` and `transformers` load
//! as they are.
//! Invariant: every token has the id that it has in the vocabulary.
//! Must not know: GGUF.

use serde_json::{Map, Value, json};

use super::tokens::{TokenKind, Vocabulary};

/// `tokenizer.json`.
pub(in crate::gguf) fn tokenizer(vocabulary: &Vocabulary) -> Value {
    let ids: Map<String, Value> = vocabulary.tokens.iter().cloned().zip((0u32..).map(Value::from)).collect();
    let added: Vec<Value> =
        (0u32..).zip(&vocabulary.tokens).zip(&vocabulary.kinds).filter_map(added_token).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": vocabulary.split.pre_tokenizer(),
        "post_processor": post_processor(vocabulary),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": vocabulary.split.ignores_merges,
            "vocab": ids,
            "merges": vocabulary.merges,
        },
    })
}

fn added_token(((id, text), kind): ((u32, &String), &TokenKind)) -> Option<Value> {
    let is_special = match kind {
        TokenKind::Control => true,
        TokenKind::UserDefined => false,
        TokenKind::Normal | TokenKind::Unused => return None,
    };
    Some(json!({
        "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": is_special,
    }))
}

/// What is put around a text.
fn post_processor(vocabulary: &Vocabulary) -> Value {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
    let special = &vocabulary.special;
    let bos =
        special.bos.filter(|_| vocabulary.adds_bos).and_then(|id| Some((id, vocabulary.text(Some(id))?)));
    let eos =
        special.eos.filter(|_| vocabulary.adds_eos).and_then(|id| Some((id, vocabulary.text(Some(id))?)));
    if bos.is_none() && eos.is_none() {
        return byte_level;
    }
    let piece = |text: &str, kind: u32| json!({ "SpecialToken": { "id": text, "type_id": kind } });
    let around = |sequence: &str, kind: u32| {
        let first = bos.map(|(_, text)| piece(text, kind));
        let last = eos.map(|(_, text)| piece(text, kind));
        let middle = json!({ "Sequence": { "id": sequence, "type_id": kind } });
        first.into_iter().chain([middle]).chain(last).collect::<Vec<Value>>()
    };
    let known =
        |(id, text): (u32, &str)| (text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] }));
    let tokens: Map<String, Value> = bos.into_iter().chain(eos).map(known).collect();
    let pair = [around("A", 0), around("B", 1)].concat();
    let template = json!({
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    });
    json!({ "type": "Sequence", "processors": [byte_level, template] })
}

/// `tokenizer_config.json`, for a model of this context length.
pub(in crate::gguf) fn tokenizer_config(vocabulary: &Vocabulary, context: usize) -> Value {
    let special = &vocabulary.special;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "model_max_length": context,
        "add_bos_token": vocabulary.adds_bos,
        "add_eos_token": vocabulary.adds_eos,
        "bos_token": vocabulary.text(special.bos),
        "eos_token": vocabulary.text(special.eos),
        "unk_token": vocabulary.text(special.unk),
        "pad_token": vocabulary.text(special.pad),
    });
    let templates = &vocabulary.templates;
    let named = |(name, template): &(String, String)| json!({ "name": name, "template": template });
    config["chat_template"] = match templates.as_slice() {
        [] => return config,
        [(name, template)] if name == "default" => json!(template),
        templates => templates.iter().map(named).collect(),
    };
    config
}

/// `generation_config.json`.
pub(in crate::gguf) fn generation_config(vocabulary: &Vocabulary) -> Value {
    let special = &vocabulary.special;
    let mut config = json!({ "bos_token_id": special.bos, "pad_token_id": special.pad });
    let stops = special.stops();
    config["eos_token_id"] = if stops.len() > 1 { json!(stops) } else { json!(stops.first()) };
    if !vocabulary.suppressed.is_empty() {
        config["suppress_tokens"] = json!(vocabulary.suppressed);
    }
    config
}
