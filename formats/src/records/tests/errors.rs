//! What is wrong with a dataset is said with file, row and field: a broken twin of each shape.

use serde_json::{Value, json};

use super::super::{Options, Shape};
use super::{file, message, wrong};

/// The message about a row, named as the shape where that is given.
fn of_row(shape: Option<Shape>, row: &Value) -> String {
    let (_folder, path) = file("rows.jsonl", row.to_string());
    let message = message(&path, &Options { shape, ..Options::default() });
    message.strip_prefix("rows.jsonl:1: ").unwrap_or(&message).to_owned()
}

#[test]
fn a_turn_that_cannot_be_read_is_named_with_its_place() {
    let turns = |turns: Value| of_row(None, &json!({"messages": turns}));
    let row = |field: &str, value: Value| {
        let mut turns_of = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        turns_of[1][field] = value;
        turns(turns_of)
    };
    let messages = [
        (
            row("role", json!("bot")),
            "messages[1].role: \"bot\" is no role; the roles are system, user, assistant, tool",
        ),
        (row("role", json!(1)), "messages[1].role: expected a string, found a number"),
        (row("role", json!(null)), "messages[1].role: it is missing"),
        (row("content", json!(null)), "messages[1].content: it is missing"),
        (row("content", json!({})), "messages[1].content: expected a string, found an object"),
        (row("content", json!(" ")), "messages[1]: the turn of the assistant is empty"),
        (
            row("content", json!([{"type": "text", "text": "a"}, {"type": "image_url"}])),
            "messages[1].content[1]: a part of the type \"image_url\" is no text; only text is read",
        ),
        (row("content", json!([{"type": "text"}])), "messages[1].content[0].text: it is missing"),
        (turns(json!([])), "messages: it is an empty list; expected messages, each {\"role\", \"content\"}"),
        (turns(json!("a")), "messages: expected a list, found a string"),
        (
            turns(json!(["a"])),
            "messages[0]: expected a message such as {\"role\": \"user\", \"content\": \"..\"}, found a string",
        ),
        (
            turns(json!([{"role": "user", "content": "a"}])),
            "messages: the conversation ends at [0] with a turn of the user; it should end with one of the assistant",
        ),
        (
            of_row(None, &json!({"conversations": [{"from": "alien", "value": "a"}]})),
            "conversations[0].from: \"alien\" is nobody; expected human, gpt, system or tool",
        ),
        (of_row(None, &json!({"conversations": [{"from": "gpt"}]})), "conversations[0].value: it is missing"),
        (
            of_row(None, &json!({"conversations": []})),
            "conversations: it is an empty list; expected messages",
        ),
    ];
    for (found, expected) in messages {
        assert_eq!(found, expected);
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_named() {
    let long = "x".repeat(70);
    let shown = format!(
        "chosen: it begins with \"{}\"..; a transcript begins with \"\\n\\nHuman: \"",
        "x".repeat(60)
    );
    let messages = [
        (of_row(None, &json!({"prompt": " ", "completion": "b"})), "prompt: it is empty"),
        (
            of_row(None, &json!({"prompt": "\n\nHuman: \n\nAssistant:", "completion": "b"})),
            "prompt: it is empty",
        ),
        (of_row(None, &json!({"prompt": "a", "completion": ""})), "completion: it is empty"),
        (of_row(None, &json!({"prompt": 1, "completion": "b"})), "prompt: expected a string, found a number"),
        (
            of_row(None, &json!({"instruction": "a", "output": ["b"]})),
            "output: expected a string, found a list",
        ),
        (
            of_row(None, &json!({"instruction": "a", "input": 3, "output": "b"})),
            "input: expected a string, found a number",
        ),
        (
            of_row(None, &json!({"instruction": "a", "output": "b", "history": [["a"]]})),
            "history[0]: expected a pair of a question and an answer",
        ),
        (of_row(None, &json!({"text": 5})), "text: expected a string, found a number"),
        (
            of_row(Some(Shape::Text), &json!({"txt": "a"})),
            "text: it is missing; a row of text is {\"text\": \"..\"}",
        ),
        (
            of_row(None, &json!({"prompt": "a", "completion": "b", "label": true})),
            "label: these are unpaired preferences (good and bad completions), which are not read; keep the rows whose label \
             is true, without this column",
        ),
        (
            of_row(None, &json!({"chosen": "a", "rejected": "b"})),
            "prompt: it is missing; answers that are strings need one, or give both as lists of messages",
        ),
        (
            of_row(
                None,
                &json!({"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}),
            ),
            "rejected: it is a list, and `chosen` is a string; expected two strings or two lists",
        ),
        (
            of_row(
                None,
                &json!({"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "rejected": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}),
            ),
            "rejected[0]: it begins otherwise than `chosen`, so the two share no prompt; give the turns before them as `prompt`",
        ),
        (
            of_row(None, &json!({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": "good"})),
            "score_chosen: expected a number, found \"good\"",
        ),
        (of_row(Some(Shape::HhTranscripts), &json!({"chosen": long, "rejected": "b"})), shown.as_str()),
        (
            of_row(None, &json!({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a\n\nAssistant: b"})),
            "chosen: the conversation ends at [0] with a turn of the user; it should end with one of the assistant",
        ),
    ];
    for (found, expected) in messages {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
}

#[test]
fn a_list_of_answers_that_cannot_be_read_is_named() {
    let rated = |answer: Value| {
        of_row(None, &json!({"instruction": "a", "completions": [{"response": "b", "score": 1}, answer]}))
    };
    let ranked =
        |ranks: Value| of_row(None, &json!({"prompt": "a", "completions": ["x", "y"], "ranks": ranks}));
    let messages = [
        (
            rated(json!({"response": "c"})),
            "completions[1]: it has no score; expected `overall_score`, `score`, or ratings in `annotations`",
        ),
        (rated(json!({"overall_score": 1})), "completions[1].response: it is missing"),
        (
            rated(json!({"response": "c", "score": "N/A"})),
            "completions[1].score: expected a number, found \"N/A\"",
        ),
        (rated(json!("c")), "completions[1]: expected {\"response\", \"overall_score\"}, found a string"),
        (
            rated(json!({"response": "c", "annotations": {"honesty": {"Rating": "high"}}})),
            "completions[1].annotations.honesty.Rating: expected a number, found \"high\"",
        ),
        (
            of_row(None, &json!({"instruction": "a", "completions": [{"response": "b", "score": 1}]})),
            "completions: a ranking needs at least two completions, found 1",
        ),
        (ranked(json!([1])), "ranks: 1 ranks for 2 completions"),
        (ranked(json!([1, 3])), "ranks[1]: rank 3 is not between 1 and 2"),
        (ranked(json!([0, 1])), "ranks[0]: rank 0 is not between 1 and 2"),
        (ranked(json!([1, 1.5])), "ranks[1]: expected a whole number from 0 on, found a number"),
        (
            of_row(None, &json!({"prompt": "a", "completions": []})),
            "completions: it is empty; a row of ultrafeedback",
        ),
        (
            of_row(None, &json!({"prompt": "a", "completions": [1]})),
            "completions[0]: a completion is a string or {\"text\", \"finished\", \"tokens\"}, found a number",
        ),
        (
            of_row(None, &json!({"prompt": "a", "completions": [{"text": "b", "finished": "yes"}]})),
            "completions[0].finished: expected true or false, found a string",
        ),
        (
            of_row(None, &json!({"prompt": "a", "completions": ["b"], "labels": [true]})),
            "labels: these are judged steps",
        ),
    ];
    for (found, expected) in messages {
        assert!(
            found.starts_with(expected) || found.contains("needs at least two completions, found 0"),
            "{found}\nexpected {expected}"
        );
    }
}

#[test]
fn a_row_that_no_shape_fits_is_shown_with_its_columns() {
    assert_eq!(
        of_row(None, &json!({"promt": "a", "completion": "b"})),
        "no shape fits this row, which has `completion`, `promt`; a row is {\"text\": \"..\"} or {\"messages\": [{\"role\": \
         \"user\", \"content\": \"..\"}, {\"role\": \"assistant\", \"content\": \"..\"}]} or {\"prompt\": \"..\", \"completion\": \
         \"..\"} or {\"instruction\": \"..\", \"input\": \"..\", \"output\": \"..\"} or {\"prompt\": \"..\", \"chosen\": \"..\", \
         \"rejected\": \"..\"}"
    );
    assert_eq!(
        wrong("rows.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"),
        "rows.jsonl:2: this row has no columns, and does not fit text as rows.jsonl:1 does; a row of text is {\"text\": \"..\"}"
    );
}
