//! What is compared, and how it is said.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::key_inputs::stage;
use crate::digest::canonical_json;
use crate::plan::reasons::compare;

#[test]
fn nested_values_are_named_by_their_path() {
    let old = json!({ "params": { "model": { "layers": 2, "width": 64 }, "steps": 1 }, "revision": 1 });
    let new = json!({ "params": { "model": { "layers": 4, "width": 64 }, "rate": 0.5 }, "revision": 1 });
    let said: Vec<_> =
        compare(&stage(), Some(&old), &new).into_iter().map(|r| (r.what, r.old, r.new)).collect();
    assert_eq!(
        said,
        [
            ("params.model.layers".into(), Some(json!(2)), Some(json!(4))),
            ("params.rate".into(), None, Some(json!(0.5))),
            ("params.steps".into(), Some(json!(1)), None),
        ]
    );
}

#[test]
fn a_number_in_another_spelling_is_no_change() {
    let (old, new) =
        (json!({ "params": { "a": 1.0, "b": [1e3] } }), json!({ "params": { "a": 1, "b": [1000] } }));
    assert!(compare(&stage(), Some(&old), &new).is_empty());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c.]{1,2}", inner, 0..3)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn key_inputs_that_differ_always_have_a_reason_and_equal_ones_never(a in value(), b in value()) {
        let (old, new) = (json!({ "params": a }), json!({ "params": b }));
        let same = canonical_json(&old) == canonical_json(&new);
        prop_assert_eq!(compare(&stage(), Some(&old), &new).is_empty(), same);
    }
}
