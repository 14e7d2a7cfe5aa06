//! What is wrong with a dataset is said with file, row and field: a broken twin of each container and shape.

use serde_json::{Value, json};

use super::super::{Options, Shape};
use super::{file, fixture, message, wrong};

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

#[test]
fn json_that_cannot_be_read_is_named_with_its_line_or_index_and_column() {
    let messages = [
        (
            "rows.jsonl",
            "{\"text\": \"a\"}\n\n{\"text\": \"b\"\n",
            "rows.jsonl:3: this JSON has no end at column 12",
        ),
        (
            "rows.jsonl",
            "text\n",
            "rows.jsonl:1: this is not JSON; a row is an object, such as {\"text\": \"..\"}",
        ),
        (
            "rows.jsonl",
            "{\"text\": NaN}",
            "rows.jsonl:1: expected value at column 10 (JSON has no NaN and no Infinity; write null)",
        ),
        (
            "rows.jsonl",
            "{'text': 'a'}",
            "rows.jsonl:1: key must be a string at column 2 (this is how Python prints a value; write JSON, with double quotes)",
        ),
        (
            "rows.jsonl",
            "[{\"text\": \"a\"}]",
            "rows.jsonl:1: this is an array; a row is an object, such as {\"text\": \"..\"}",
        ),
        (
            "rows.jsonl",
            "\"text\"",
            "rows.jsonl:1: this is no object; a row is an object, such as {\"text\": \"..\"}",
        ),
        (
            "rows.jsonl",
            "{\"text\": \"a\", \"text\": \"b\"}",
            "rows.jsonl:1: duplicate field `text` at column 20",
        ),
        (
            "rows.jsonl",
            "{\"text\": \"a\"} {\"text\": \"b\"}",
            "rows.jsonl:1: trailing characters at column 15",
        ),
        ("rows.jsonl", "{\"text\": \"\\ud800\"}", "rows.jsonl:1: unexpected end of hex escape at column 17"),
        (
            "rows.json",
            "[{\"text\": \"a\"},\n{\"text\": 1}]",
            "rows.json[1]: text: expected a string, found a number",
        ),
        (
            "rows.json",
            "[{\"text\": \"a\"},\n {\"text\": \"b\"]",
            "rows.json[1]: a bracket closes what is not open at line 2",
        ),
        (
            "rows.json",
            "[{\"text\": \"a\"} {\"text\": \"b\"}]",
            "rows.json[1]: expected `,` or `]`, found `{` at line 1",
        ),
        (
            "rows.json",
            "[{\"text\": \"a\"}] x",
            "rows.json[1]: there is more after the end of the rows at line 1",
        ),
        ("rows.json", "[{\"text\": \"a\"},", "rows.json[1]: this JSON, which begins at line 1, has no end"),
        (
            "rows.json",
            "{\"text\": [\"a\"], \"prompt\": [\"b\", \"c\"]}",
            "rows.json[1]: text: this column has no value here, and the column `prompt` has one",
        ),
        (
            "rows.json",
            "{\"text\": {\"x\": \"a\"}, \"prompt\": {\"y\": \"b\"}}",
            "rows.json[0]: prompt: this value has the label \"y\" and that of the first column \"x\"",
        ),
        (
            "rows.json",
            "words",
            "rows.json: this is not JSON with rows: it begins neither with `[` nor with `{`; name JSON lines .jsonl and text .txt",
        ),
    ];
    for (name, content, expected) in messages {
        assert_eq!(wrong(name, content), expected);
    }
}

#[test]
fn csv_that_cannot_be_read_is_named_with_the_line_on_which_its_record_begins() {
    let messages = [
        (
            "id,text\n\n1,\"a\nb\"\n2,b,c\n",
            "rows.csv:5: 3 fields, and the first line names 2; put quotes around a field with separators or line ends",
        ),
        ("id,text\n1,a\n2,\"b\n3,c\n", "rows.csv:3: a quote in this record is never closed"),
        (
            "text\n\"a\"b\n",
            "rows.csv:2: field 1 goes on after its closing quote; a quote inside a field is doubled",
        ),
        ("text,text\n1,2\n", "rows.csv:1: text: this column stands twice in the line of names"),
        (
            "messages\n\"[{'role': 'user'}]\"\n",
            "rows.csv:2: messages: key must be a string at column 3 (this is how Python prints a value; write JSON, with double \
             quotes); in a CSV this column is a list, written as JSON",
        ),
    ];
    for (content, expected) in messages {
        assert_eq!(wrong("rows.csv", content), expected);
    }
}

#[test]
fn text_in_another_encoding_is_named_with_what_to_do() {
    const ADVICE: &str = "; convert the file (for Latin-1: iconv -f ISO-8859-1 -t UTF-8)";
    let messages: [(&str, &[u8], String); 9] = [
        (
            "rows.jsonl",
            b"{\"text\": \"caf\xe9\"}",
            format!("rows.jsonl:1: it is not UTF-8 at byte 13 (0xE9){ADVICE}"),
        ),
        (
            "rows.json",
            b"[{\"text\": \"caf\xe9\"}]",
            format!("rows.json[0]: it is not UTF-8 at byte 13 (0xE9){ADVICE}"),
        ),
        (
            "rows.json",
            b"{\"text\": [\"caf\xe9\"]}",
            format!("rows.json[0]: text: it is not UTF-8 at byte 4 (0xE9){ADVICE}"),
        ),
        (
            "rows.csv",
            b"text\ncaf\xe9\n",
            format!("rows.csv:2: text: it is not UTF-8 at byte 3 (0xE9){ADVICE}"),
        ),
        (
            "rows.jsonl",
            b"\xff\xfe{\0\"\0",
            "rows.jsonl is UTF-16 text; convert it (iconv -f UTF-16 -t UTF-8) and run again".into(),
        ),
        (
            "rows.csv",
            b"\xfe\xff\0t\0e",
            "rows.csv is UTF-16 text; convert it (iconv -f UTF-16 -t UTF-8) and run again".into(),
        ),
        (
            "rows.jsonl",
            b"{\0\"\0t\0",
            "rows.jsonl is UTF-16LE text; convert it (iconv -f UTF-16LE -t UTF-8) and run again".into(),
        ),
        (
            "a.txt",
            b"\0t\0e\0x",
            "a.txt is UTF-16BE text; convert it (iconv -f UTF-16BE -t UTF-8) and run again".into(),
        ),
        (
            "a.txt",
            b"t\0\0\0e\0\0\0",
            "a.txt is UTF-32LE text; convert it (iconv -f UTF-32LE -t UTF-8) and run again".into(),
        ),
    ];
    for (name, content, expected) in messages {
        assert_eq!(wrong(name, content), expected);
    }
}

#[test]
fn files_that_are_something_else_are_named_with_what_to_do() {
    let gz = std::fs::read(fixture("text.jsonl.gz")).unwrap();
    let zst = std::fs::read(fixture("text.jsonl.zst")).unwrap();
    let parquet = std::fs::read(fixture("text-none.parquet")).unwrap();
    let messages: [(&str, &[u8], &str); 11] = [
        (
            "rows.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            "rows.jsonl: it is a pointer of Git LFS and not the data; get it with `git lfs pull`",
        ),
        ("rows.jsonl.gz", b"{\"text\": \"a\"}", "rows.jsonl.gz: it does not begin as gzip does; rename it"),
        ("rows.jsonl.zst", &gz, "rows.jsonl.zst: it does not begin as zstd does; rename it"),
        (
            "rows.jsonl.gz",
            &gz[..gz.len() - 12],
            "cannot read rows.jsonl.gz: the compressed data end early; copy the file again",
        ),
        (
            "rows.jsonl.zst",
            &zst[..zst.len() - 5],
            "cannot read rows.jsonl.zst: the compressed data end early; copy the file again",
        ),
        (
            "rows.arrow",
            b"ARROW1",
            "rows.arrow: Arrow files are not read; write Parquet (with datasets: load_from_disk(..).to_parquet(..))",
        ),
        ("rows.xlsx", b"PK", "rows.xlsx: spreadsheets are not read; export it as CSV UTF-8"),
        (
            "rows.jsonl.bz2",
            b"BZh",
            "rows.jsonl.bz2: bzip2 is not read; compress it with gzip or zstd, or not at all",
        ),
        (
            "rows.parquet",
            b"{\"text\": \"a\"}",
            "rows.parquet: this is no Parquet: it does not begin as a file of Parquet does",
        ),
        (
            "rows.parquet",
            &parquet[..parquet.len() - 1],
            "rows.parquet: it does not end as a file of Parquet does; it was cut short, copy it again",
        ),
        (
            "rows.parquet",
            b"PAR1\xff\xff\xff\x7fPAR1",
            "rows.parquet: its metadata would have 2147483647 bytes, and the file has 12; it is damaged",
        ),
    ];
    for (name, content, expected) in messages {
        assert_eq!(wrong(name, content), expected);
    }
    assert!(wrong("missing/../gone.jsonl", "").contains("is empty"), "the file is there");
    let (folder, _path) = file("a.txt", "a");
    let error = message(&folder.path().join("gone.jsonl"), &Options::default());
    assert_eq!(error, "cannot read gone.jsonl: No such file or directory (os error 2)");
}
