//! Preferences and rankings of other people.

use serde_json::{Value, json};

use super::super::Shape;
use super::{examples, file, fixture, reader, rows};

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn one(row: &Value) -> (Shape, Value) {
    let (_folder, path) = file("rows.jsonl", row.to_string());
    (reader(&path).shape(), serde_json::to_value(&examples(&path)[0]).unwrap())
}

#[test]
fn answers_to_a_prompt_are_a_preference() {
    let expected = json!({"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("")]});
    for row in [
        json!({"prompt": "a", "chosen": "b", "rejected": ""}),
        json!({"question": "a", "chosen": "b", "rejected": ""}),
        json!({"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("")]}),
        json!({"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": "b", "rejected": ""}),
    ] {
        assert_eq!(one(&row), (Shape::Preference, expected.clone()), "{row}");
    }
    let row = json!({"system": "be kind", "question": "a", "chosen": "b", "rejected": "c"});
    assert_eq!(one(&row).1["prompt"], json!([{"role": "system", "content": "be kind"}, user("a")]));
}

#[test]
fn what_two_conversations_begin_with_is_the_prompt() {
    let before = [user("a"), assistant("b"), user("c")];
    let whole = |answer: &str| [&before[..], &[assistant(answer)]].concat();
    let expected = json!({"prompt": before, "chosen": [assistant("good")], "rejected": [assistant("bad")]});
    let implicit = json!({"chosen": whole("good"), "rejected": whole("bad")});
    assert_eq!(one(&implicit), (Shape::Preference, expected.clone()));
    let binarized = json!({"prompt": "c", "messages": whole("good"), "chosen": whole("good"), "rejected": whole("bad"),
        "score_chosen": 8.5, "score_rejected": "7"});
    let mut scored = expected;
    scored["score_chosen"] = json!(8.5);
    scored["score_rejected"] = json!(7.0);
    assert_eq!(one(&binarized), (Shape::Preference, scored));
}

#[test]
fn equal_conversations_keep_their_last_turn_as_the_answer() {
    let whole = [user("a"), assistant("b")];
    let row = json!({"chosen": whole, "rejected": whole});
    let expected = json!({"prompt": [user("a")], "chosen": [assistant("b")], "rejected": [assistant("b")]});
    assert_eq!(one(&row).1, expected);
}

#[test]
fn answers_may_have_several_turns() {
    let row = json!({"chosen": [user("a"), assistant("b"), user("c"), assistant("d")], "rejected": [user("a"), assistant("e")]});
    let expected = json!({"prompt": [user("a")], "chosen": [assistant("b"), user("c"), assistant("d")], "rejected": [assistant("e")]});
    assert_eq!(one(&row).1, expected);
}

#[test]
fn transcripts_are_split_where_somebody_else_speaks() {
    let row = json!({
        "chosen": "\n\nHuman: a\nHuman: b?\n\nAssistant: c\n\nHuman: d\n\nAssistant: good ",
        "rejected": "\n\nHuman: a\nHuman: b?\n\nAssistant: c\n\nHuman: d\n\nAssistant:",
    });
    let expected = json!({"prompt": [user("a\nHuman: b?"), assistant("c"), user("d")],
        "chosen": [assistant("good")], "rejected": [assistant("")]});
    assert_eq!(one(&row), (Shape::HhTranscripts, expected));
}

#[test]
fn ultrafeedback_has_a_score_in_one_of_several_places() {
    let rated = |ratings: &[&str]| -> Value {
        ratings.iter().enumerate().map(|(i, rating)| (i.to_string(), json!({"Rating": rating}))).collect()
    };
    let row = json!({"source": "x", "instruction": "a", "completions": [
        {"response": "1", "overall_score": 7.5, "annotations": rated(&["1"])},
        {"response": "2", "overall_score": null, "score": "6"},
        {"response": "3", "annotations": rated(&["5", "N/A", "4"])},
        {"response": "4", "overall_score": 10.0, "annotations": rated(&["1", "2"])},
        {"response": "5", "overall_score": 10.0, "annotations": rated(&["5", "4"])},
        {"response": "", "fine-grained_score": 3.25},
    ]});
    let (shape, example) = one(&row);
    let scores: Vec<f64> = example["completions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| answer["score"].as_f64().unwrap())
        .collect();
    assert_eq!((shape, scores), (Shape::UltraFeedback, vec![7.5, 6.0, 4.5, 1.0, 10.0, 3.25]));
    assert_eq!(
        rows(&fixture("ultrafeedback.jsonl"))[0]["completions"][0],
        json!({"response": "yes", "score": 7.5})
    );
}
