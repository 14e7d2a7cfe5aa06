//! Numbers of kinds: one value however they are spelt, exact or refused.

use serde_json::json;

use crate::spec::testing::{GOOD, load, short};

/// A param of the stage `base`, written so.
fn with(param: &str, written: &str) -> Result<serde_json::Value, String> {
    let text = GOOD.replace("learning_rate: 1e-3 }", &format!("{param}: {written} }}"));
    let graph = load(&text).map_err(|all| short(&all))?;
    Ok(graph.pipeline().stage("base").unwrap().params_json()[param].clone())
}

#[test]
fn whole_numbers_up_to_64_bits_are_kept_exactly() {
    for written in ["18446744073709551615", "1844674407370955161.5e1", "0xFFFFFFFFFFFFFFFF"] {
        assert_eq!(with("seed", written), Ok(json!(u64::MAX)), "{written}");
    }
    assert_eq!(with("seed", "9007199254740993"), Ok(json!(9_007_199_254_740_993u64)));
    assert_eq!(with("seed", "'${BIG:-9007199254740993}'"), Ok(json!(9_007_199_254_740_993u64)));
    assert_eq!(with("warmup", "1e3"), Ok(json!(1000)));
    assert_eq!(with("learning_rate", "02.50e-1"), with("learning_rate", "0.25"));
}

#[test]
fn what_a_type_cannot_hold_is_an_error_with_its_position() {
    let errors: Vec<_> = [
        ("seed", "18446744073709551616"),
        ("seed", "1e20"),
        ("seed", "1.5"),
        ("seed", "-1"),
        ("warmup", "4294967296"),
        ("learning_rate", "1e999"),
        ("learning_rate", "1e-999"),
        ("init", "{ dropout: 1e-60 }"),
        ("tags", "[1e999]"),
    ]
    .into_iter()
    .map(|(param, written)| with(param, written).unwrap_err())
    .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
        range 11:60 parameter `seed` of stage `base` (kind pretrain) must be a whole number of 64 bits, not `18446744073709551616`
        range 11:60 parameter `seed` of stage `base` (kind pretrain) must be a whole number of 64 bits, not `1e20`
        type 11:60 parameter `seed` of stage `base` (kind pretrain) must be a whole number, not `1.5`
        range 11:60 parameter `seed` of stage `base` (kind pretrain) must be at least 0, not `-1`
        range 11:62 parameter `warmup` of stage `base` (kind pretrain) must be at most 4294967295, not `4294967296`
        range 11:69 parameter `learning_rate` of stage `base` (kind pretrain) does not fit into 64 bits: `1e999`
        range 11:69 parameter `learning_rate` of stage `base` (kind pretrain) does not fit into 64 bits: `1e-999`
        range 11:71 parameter `init.dropout` of stage `base` (kind pretrain) does not fit into a float of 32 bits: `1e-60`
        type 11:61 parameter `tags[0]` of stage `base` (kind pretrain) must be a string, not a number `1e999`
    "#);
}
