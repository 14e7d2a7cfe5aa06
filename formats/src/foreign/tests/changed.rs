//! Files that are changed anywhere.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fuzz;
use super::{byte_level, sentence_piece};

/// Values that fit somewhere, and values that fit nowhere.
fn any_value() -> impl Strategy<Value = Value> {
    let numbers = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![0_u64, 1, 2, 255, 299, 300, 301, 1 << 20, 1 << 31, u64::MAX])
            .prop_map(Value::from),
        Just(json!(-1)),
        Just(json!(0.5)),
        Just(json!([])),
        Just(json!({})),
    ];
    let texts = vec![
        "",
        " ",
        "a",
        "the",
        "Ġ",
        "Ġt",
        "▁",
        "<s>",
        "<0x41>",
        "##",
        "</w>",
        "日",
        "\u{301}",
        r"\s+",
        r"(a|aa)+$",
        r"\p{L}+(?!x)",
        "(",
        "[^a]",
        "x*",
        r"(?=(\d{3})+)",
        "Isolated",
        "Removed",
        "MergedWithPrevious",
        "Contiguous",
        "BPE",
        "Sequence",
        "ByteLevel",
        "Metaspace",
        "Replace",
        "Split",
        "Digits",
        "Strip",
        "NFKC",
        "Lowercase",
        "ByteFallback",
        "Fuse",
        "BPEDecoder",
        "WordPiece",
        "FixedLength",
        "Prepend",
        "always",
        "never",
        "first",
    ];
    let strings =
        prop_oneof![prop::sample::select(texts).prop_map(Value::from), any::<String>().prop_map(Value::from)];
    let parts = prop::sample::select(vec![
        json!({"type": "Strip", "content": "a", "start": 3, "stop": 2}),
        json!({"type": "Strip", "strip_left": true, "strip_right": false}),
        json!({"type": "WordPiece", "prefix": "a", "cleanup": true}),
        json!({"type": "BPEDecoder", "suffix": "e"}),
        json!({"type": "Metaspace", "replacement": "a", "prepend_scheme": "always", "split": true}),
        json!({"type": "Replace", "pattern": {"Regex": "a|"}, "content": "bc"}),
        json!({"type": "Split", "pattern": {"Regex": "|e"}, "behavior": "MergedWithNext", "invert": true}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "NFKD"}),
        json!({"type": "ByteLevel"}),
        json!({"type": "Nmt"}),
        json!({"type": "StripAccents"}),
    ]);
    prop_oneof![2 => numbers, 3 => strings, 3 => parts]
}

/// Puts a value somewhere into a file.
fn change(file: &mut Value, path: &[prop::sample::Index], value: Value) {
    let Some((step, rest)) = path.split_first() else { return *file = value };
    match file {
        Value::Object(map) if !map.is_empty() => {
            let place = step.index(map.len());
            change(map.values_mut().nth(place).unwrap(), rest, value);
        }
        Value::Array(list) if !list.is_empty() => {
            let place = step.index(list.len());
            change(&mut list[place], rest, value);
        }
        other => *other = value,
    }
}

proptest! {
    #[test]
    fn files_that_are_changed_anywhere_break_no_rule(
        which in 0_usize..4,
        changes in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 1..6), any_value()), 1..5),
        text in super::mixed(),
    ) {
        let mut file = [byte_level(), super::qwen(), sentence_piece(), super::metaspace()][which].clone();
        for (path, value) in changes {
            change(&mut file, &path, value);
        }
        fuzz(format!("{file}\0{text}").as_bytes());
    }
}
