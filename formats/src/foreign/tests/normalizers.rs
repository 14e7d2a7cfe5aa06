//! Normalizers in any order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{byte_level, sentence_piece};
use crate::foreign::fuzz;

/// Normalizers in any order, those that leave nothing among them.
fn normalizers() -> impl Strategy<Value = Vec<Value>> {
    let replace =
        |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let parts = vec![
        replace(json!({"Regex": "."}), ""),
        replace(json!({"Regex": "[^a]"}), ""),
        replace(json!({"Regex": ""}), "é"),
        replace(json!({"Regex": "(?=a)|b$"}), "日x"),
        replace(json!({"String": "a"}), ""),
        replace(json!({"String": " "}), "▁"),
        json!({"type": "Prepend", "prepend": "▁é"}),
        json!({"type": "Prepend", "prepend": ""}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Strip", "strip_left": false, "strip_right": true}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": true, "lowercase": true}),
        json!({"type": "NFC"}),
        json!({"type": "NFD"}),
        json!({"type": "NFKC"}),
        json!({"type": "NFKD"}),
        json!({"type": "Nmt"}),
        json!({"type": "StripAccents"}),
        json!({"type": "Lowercase"}),
        json!({"type": "ByteLevel"}),
    ];
    prop::collection::vec(prop::sample::select(parts), 1..5)
}

proptest! {
    #[test]
    fn normalizers_in_any_order_never_panic(parts in normalizers(), text in super::mixed(), which in 0_usize..3) {
        // `Replace` before `BertNormalizer` once panicked in the crate.
        let mut file = [byte_level(), super::metaspace(), sentence_piece()][which].clone();
        file["normalizer"] = json!({"type": "Sequence", "normalizers": parts});
        for index in 0..3 {
            file["added_tokens"][index]["normalized"] = true.into();
        }
        fuzz(format!("{file}\0{text}").as_bytes());
    }
}
