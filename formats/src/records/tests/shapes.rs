//! Texts, conversations, prompts with answers, and our own artifacts.

use serde_json::{Value, json};

use super::super::{Example, Options, Shape, open};
use super::{examples, file, folder, read, reader};

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// The shape and the only example of a row.
fn one(row: &Value) -> (Shape, Value) {
    let (_folder, path) = file("rows.jsonl", row.to_string());
    let examples = examples(&path);
    assert_eq!(examples.len(), 1, "{row}");
    (reader(&path).shape(), serde_json::to_value(&examples[0]).unwrap())
}

#[test]
fn messages_are_conversations_as_they_stand() {
    let row = json!({"messages": [{"role": "system", "content": "be kind"}, user("a"), assistant("b")], "prompt": "a"});
    assert_eq!(one(&row), (Shape::Messages, json!({"messages": row["messages"]})));
}

#[test]
fn content_may_be_a_list_of_parts_and_tools_are_kept() {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let row = json!({"messages": [
        {"role": "developer", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": " b", "type": null, "image_url": null}, "c"], "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "content": "1", "tool_call_id": "x", "tool_calls": []},
        {"role": "assistant", "content": "d", "weight": 0, "id": 7},
    ], "tools": tools});
    let expected = json!({"messages": [
        {"role": "system", "content": ""},
        {"role": "user", "content": "a bc", "name": "Ann"},
        {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "content": "1", "tool_call_id": "x"},
        {"role": "assistant", "content": "d", "weight": 0},
    ], "tools": tools});
    assert_eq!(one(&row), (Shape::Messages, expected));
}

#[test]
fn conversations_of_share_gpt_have_other_names_for_the_same() {
    let row = json!({"system": "be kind", "conversations": [
        {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
        {"from": "observation", "value": "c"}, {"from": "chatgpt", "value": "d", "weight": null},
    ]});
    let expected = json!({"messages": [
        {"role": "system", "content": "be kind"}, user("a"), assistant("b"), {"role": "tool", "content": "c"}, assistant("d"),
    ]});
    assert_eq!(one(&row), (Shape::Conversations, expected));
    let row = json!({"conversation": [user("a"), assistant("b")]});
    assert_eq!(one(&row), (Shape::Conversations, json!({"messages": [user("a"), assistant("b")]})));
}

#[test]
fn a_prompt_is_not_learnt_and_its_completion_is() {
    let expected = json!({"prompt": [user("a")], "completion": [assistant("b")]});
    for row in [
        json!({"prompt": "a", "completion": "b"}),
        json!({"prompt": "a", "response": "b"}),
        json!({"question": "a", "answer": "b"}),
        json!({"prompt": [user("a")], "completion": [assistant("b")]}),
        json!({"prompt": "\n\nHuman: a\n\nAssistant:", "completion": "b"}),
    ] {
        assert_eq!(one(&row), (Shape::PromptCompletion, expected.clone()), "{row}");
    }
    let row = json!({"id": "x", "system_prompt": "be kind", "question": "a", "response": "b"});
    let (_folder, path) = file("rows.jsonl", row.to_string());
    let Example::Chat(chat) = &examples(&path)[0] else { panic!("a chat") };
    assert_eq!((chat.messages.len(), chat.prompt_turns), (3, 2));
}

#[test]
fn an_instruction_and_its_input_are_the_turn_of_the_user() {
    let expected = json!({"prompt": [user("add\n\n2 and 3")], "completion": [assistant("5")]});
    let alpaca = json!({"instruction": "add", "input": "2 and 3", "output": "5", "text": "Below is .."});
    let dolly = json!({"instruction": "add", "context": "2 and 3", "response": "5", "category": "qa"});
    assert_eq!(one(&alpaca), (Shape::Instruction, expected.clone()));
    assert_eq!(one(&dolly), (Shape::Instruction, expected));
    let bare = json!({"instruction": "hi", "input": "", "output": "hello", "history": [["a", "b"]]});
    let expected =
        json!({"prompt": [user("a"), assistant("b"), user("hi")], "completion": [assistant("hello")]});
    assert_eq!(one(&bare), (Shape::Instruction, expected));
}

#[test]
fn texts_are_texts() {
    assert_eq!(one(&json!({"text": "a", "url": "x"})), (Shape::Text, json!({"text": "a"})));
    assert_eq!(one(&json!({"content": "a"})), (Shape::Text, json!({"text": "a"})));
}

#[test]
fn our_own_artifacts_are_read() {
    assert_eq!(one(&json!({"prompt": "a"})), (Shape::Prompts, json!({"prompt": "a"})));
    let row = json!({"prompt": "a", "completions": ["x", {"text": "", "finished": false, "tokens": [1, 2]}]});
    let answers = json!([{"text": "x", "finished": true}, {"text": "", "finished": false, "tokens": [1, 2]}]);
    assert_eq!(one(&row), (Shape::Completions, json!({"prompt": "a", "completions": answers})));
    let row = json!({"prompt": "a", "completions": ["x", "y"], "ranks": [1, 1]});
    let answers = json!([{"text": "x", "finished": true}, {"text": "y", "finished": true}]);
    let expected = json!({"prompt": "a", "completions": answers, "ranks": [1, 1], "annotator": "", "seconds": 0.0, "flags": []});
    assert_eq!(one(&row), (Shape::Rankings, expected));
}

#[test]
fn the_shape_is_the_first_that_fits_all_the_rows_that_are_looked_at() {
    let rows = "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"response\": \"c\"}\n";
    let (_folder, path) = file("rows.jsonl", rows);
    assert_eq!(reader(&path).shape(), Shape::Prompts);
    assert_eq!(super::rows(&path)[1], json!({"prompt": "b", "response": "c"}));
}

#[test]
fn the_name_of_each_shape_is_read_back() {
    for shape in Shape::ALL {
        assert_eq!(shape.to_string().parse::<Shape>(), Ok(shape));
        // The example of a message is a row of the shape.
        if !shape.example().contains(", ..") {
            let (_folder, path) = file("rows.jsonl", shape.example());
            let options = Options { shape: Some(shape), ..Options::default() };
            let rows = open(&path, &options).unwrap();
            assert!(rows.count() > 0, "{shape}");
        }
    }
    let error = "alpaca".parse::<Shape>().unwrap_err();
    assert!(error.contains("`alpaca` is no shape") && error.contains("prompt-completion"), "{error}");
}

#[test]
fn every_file_is_held_to_the_shape_of_the_first() {
    let instruction = r#"{"instruction": "a", "output": "b"}"#;
    let chat = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let message = |rows: usize| {
        let first = format!("{instruction}\n").repeat(rows);
        let folder = folder(&[("a.jsonl", first.as_bytes()), ("b.jsonl", chat.as_bytes())]);
        super::message(&folder.path().join("*.jsonl"), &Options::default())
    };
    const EXAMPLE: &str = r#"a row of instruction is {"instruction": "..", "input": "..", "output": ".."}"#;
    // Among the first rows the shape is still looked for.
    let expected = format!(
        "b.jsonl:1: this row has `messages`, and does not fit instruction as a.jsonl:1 does; {EXAMPLE}"
    );
    assert_eq!(message(1), expected);
    let expected =
        format!("b.jsonl:1: instruction: it is missing; {EXAMPLE}, and this one looks like messages");
    assert_eq!(message(100), expected);
}

#[test]
fn a_null_is_a_missing_value() {
    let rows = "{\"messages\": null, \"text\": \"a\"}\n{\"text\": \"b\", \"messages\": null}\n";
    assert_eq!(read("rows.jsonl", rows), [json!({"text": "a"}), json!({"text": "b"})]);
}

#[test]
fn tools_and_their_calls_keep_the_order_of_their_keys() {
    let line = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"z":1,"b":{"y":2,"a":[3]}}]},{"role":"assistant","content":"c"}],"tools":[{"type":"function","name":"f","a":null}]}"#;
    let (_folder, path) = file("rows.jsonl", line);
    assert_eq!(serde_json::to_string(&examples(&path)[0]).unwrap(), line);
}
