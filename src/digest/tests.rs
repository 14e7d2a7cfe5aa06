//! Names of bytes, and the one spelling of a JSON value.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn the_digest_of_a_file_is_what_sha256sum_prints() {
    assert_eq!(
        Digest::of_bytes(b"abc").to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_digest_parses_back_and_refuses_anything_else() {
    let d = Digest::of_bytes(b"x");
    assert_eq!(d.to_string().parse(), Ok(d));
    for bad in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
}

#[test]
fn canonical_json_is_the_example_of_rfc_8785() {
    let text = r#"{ "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false] }"#;
    let expected = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#
        .to_owned()
        + r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#;
    assert_eq!(canonical_json(&serde_json::from_str(text).unwrap()), expected);
}

#[test]
fn keys_are_sorted_by_utf_16_code_units() {
    let value = json!({ "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "ö": 7 });
    let text = canonical_json(&value);
    let order: Vec<_> = text.split(':').filter_map(|part| part.chars().next()).skip(1).collect();
    assert_eq!(order, ['2', '4', '6', '7', '1', '5', '3']);
}

#[test]
fn a_number_has_one_spelling() {
    let spelled = |text: &str| canonical_json(&serde_json::from_str(text).unwrap());
    for (text, canonical) in [
        ("1.0", "1"),
        ("-0.0", "0"),
        ("-0", "0"),
        ("1e-3", "0.001"),
        ("1e21", "1e+21"),
        ("1e-7", "1e-7"),
        ("123456789012345680000", "123456789012345680000"),
        ("9007199254740992.0", "9007199254740992"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ] {
        assert_eq!(spelled(text), canonical, "{text}");
    }
}

#[test]
fn integers_beyond_2_to_the_53_are_told_apart_from_their_neighbours() {
    let two_53 = 1u64 << 53;
    let neighbours = [
        json!(two_53 - 1),
        json!(two_53),
        json!(two_53 + 1),
        json!(two_53 + 2),
        json!(i64::MIN),
        json!(i64::MIN + 1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(u64::MAX - 1),
        json!(18_446_744_073_709_551_616.0),
        json!({ "$int": "18446744073709551615" }),
        json!({ "$$int": "18446744073709551615" }),
        json!("18446744073709551615"),
    ];
    let mut texts: Vec<_> = neighbours.iter().map(|value| canonical_json(&tag_integers(value))).collect();
    assert_eq!(texts[3], r#"{"$int":"9007199254740994"}"#);
    assert_eq!(texts[10], r#"{"$$int":"18446744073709551615"}"#);
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), neighbours.len());
    assert_eq!(tag_integers(&json!(two_53 + 2)), tag_integers(&json!((two_53 + 2) as f64)));
}

/// Any JSON value, with numbers and keys that are easily mixed up.
fn value() -> impl Strategy<Value = Value> {
    let near = |at: i128| {
        (at - 3..at + 4).prop_map(|n| {
            i64::try_from(n)
                .map(Value::from)
                .or_else(|_| u64::try_from(n).map(Value::from))
                .unwrap_or_default()
        })
    };
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        near(1 << 53),
        near(u64::MAX.into()),
        (-3..4i32).prop_map(|n| json!(f64::from(n) * 2.0 + 9_007_199_254_740_992.0)),
        Just(json!(true)),
        "[0-9$]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("\\$?\\$?(int|a)", inner, 0..3)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

/// Whether two values are equal, numbers by their exact value.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (integer(a), integer(b)) {
            (None, None) => a.as_f64() == b.as_f64(),
            (a, b) => a == b,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

proptest! {
    #[test]
    fn different_values_have_different_texts_and_equal_ones_the_same(a in value(), b in value()) {
        prop_assert_eq!(canonical_json(&a) == canonical_json(&b), equal(&a, &b));
        let (a_tagged, b_tagged) = (tag_integers(&a), tag_integers(&b));
        prop_assert_eq!(canonical_json(&a_tagged) == canonical_json(&b_tagged), equal(&a, &b));
    }

    #[test]
    fn what_was_written_reads_back_as_the_same_value(a in value()) {
        for value in [a.clone(), tag_integers(&a)] {
            let back: Value = serde_json::from_str(&canonical_json(&value)).unwrap();
            prop_assert!(equal(&back, &value), "{} {}", back, value);
        }
        prop_assert!(equal(&untag_integers(&tag_integers(&a)), &a));
    }

    #[test]
    fn every_finite_float_survives(x in any::<f64>().prop_filter("finite", |x| x.is_finite())) {
        let back: f64 = canonical_json(&json!(x)).parse().unwrap();
        prop_assert_eq!(back, x);
    }
}
