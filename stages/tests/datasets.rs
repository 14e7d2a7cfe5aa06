//! Datasets of every shape and container go into the stages as they are, and broken ones are named with file, row and field.

// Helpers of tests fail as tests do; clippy takes only the tests themselves for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::{Ending, Run, Stage, Workshop};
use serde_json::{Value, json};

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::in_folder("datasets"))
}

/// A file beside the artifacts.
fn file(name: &str, text: &str) -> PathBuf {
    let path = workshop().artifact("corpus").with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn sft(data: &Path) -> Stage {
    workshop().sft().with("steps", json!(2)).input("demonstrations", data)
}

fn reward(data: &Path) -> Stage {
    workshop().reward().with("epochs", json!(1)).without("demonstrations").input("rankings", data)
}

#[track_caller]
fn trains(stage: &Stage, what: &str) -> Run {
    let run = stage.place().run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{what}: {:?}", run.error());
    run
}

/// The error of a stage that does not train, with the name of the file alone.
#[track_caller]
fn refused(stage: &Stage, data: &Path) -> String {
    let run = stage.place().run(Ending::Done, None);
    assert_eq!(run.code, Some(1), "{:?}", run.error());
    run.error().unwrap().replace(&*data.to_string_lossy(), "DATA")
}

/// A row of a shape, by its number.
type Of = fn(usize) -> Value;

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// The shapes that are learnt from, with a field that a broken twin lacks or has as a number.
const LEARNT: [(&str, Of, &str); 7] = [
    ("text", |i| json!({"text": format!("the sun rose {i}")}), "text"),
    (
        "messages",
        |i| json!({"messages": [user("the sun"), assistant("rose"), user("again"), assistant(&format!("sang {i}"))]}),
        "messages",
    ),
    (
        "conversations",
        |i| json!({"conversations": [{"from": "human", "value": "the sun"}, {"from": "gpt", "value": format!("rose {i}")}]}),
        "conversations",
    ),
    ("prompt-completion", |i| json!({"prompt": "the sun", "completion": format!("rose {i}")}), "completion"),
    ("prompt-response", |i| json!({"prompt": "the sun", "response": format!("rose {i}")}), "response"),
    (
        "conversational completion",
        |i| json!({"prompt": [user("the sun")], "completion": [assistant(&format!("rose {i}"))]}),
        "completion",
    ),
    (
        "instruction",
        |i| json!({"instruction": "say more", "input": "the sun", "output": format!("rose {i}")}),
        "output",
    ),
];

/// The shapes that are judged by.
const JUDGED: [(&str, Of, &str); 5] = [
    (
        "preference",
        |i| json!({"prompt": "the sun", "chosen": format!("rose {i}"), "rejected": "sang"}),
        "chosen",
    ),
    (
        "implicit preference",
        |i| json!({"chosen": [user("the sun"), assistant(&format!("rose {i}"))], "rejected": [user("the sun"), assistant("sang")]}),
        "rejected",
    ),
    (
        "HH transcripts",
        |i| json!({"chosen": format!("\n\nHuman: the sun\n\nAssistant: rose {i}"), "rejected": "\n\nHuman: the sun\n\nAssistant: sang"}),
        "rejected",
    ),
    (
        "UltraFeedback",
        |i| json!({"instruction": "the sun", "completions": [{"response": format!("rose {i}"), "overall_score": 7.5}, {"response": "sang", "overall_score": 2}]}),
        "completions",
    ),
    (
        "rankings",
        |i| json!({"prompt": "the sun", "completions": [format!("rose {i}"), "sang"], "ranks": [1, 2]}),
        "ranks",
    ),
];

fn rows(of: Of) -> Vec<Value> {
    (0..8).map(of).collect()
}

#[test]
fn every_shape_that_is_learnt_from_trains_and_its_broken_twin_is_named() {
    for (name, of, field) in LEARNT {
        trains(&sft(&file("learnt.jsonl", &lines(&rows(of)))), name);
        assert_broken(name, rows(of), field, sft);
    }
}

#[test]
fn every_shape_that_is_judged_by_trains_and_its_broken_twin_is_named() {
    for (name, of, field) in JUDGED {
        let data = file("judged.jsonl", &lines(&rows(of)));
        trains(&reward(&data), name);
        trains(&workshop().dpo().with("epochs", json!(1)).input("rankings", &data), name);
        assert_broken(name, rows(of), field, reward);
    }
}

#[track_caller]
fn assert_broken(name: &str, mut rows: Vec<Value>, field: &str, stage: impl Fn(&Path) -> Stage) {
    rows[5][field] = json!(7);
    // Tests run beside each other.
    let data = file(&format!("broken {name}.jsonl"), &lines(&rows));
    let said = refused(&stage(&data), &data);
    assert!(said.starts_with(&format!("DATA:6: {field}: ")), "{name}: {said}");
}

#[test]
fn every_container_trains() {
    let rows = rows(LEARNT[3].1);
    let cell = |i: usize, name: &str| rows[i][name].as_str().unwrap().to_owned();
    let separated = |separator: &str| -> String {
        let body = (0..8).map(|i| format!("{}{separator}{}\n", cell(i, "prompt"), cell(i, "completion")));
        format!("prompt{separator}completion\n") + &body.collect::<String>()
    };
    let columns = ["prompt", "completion"].map(|name| (0..8).map(|i| cell(i, name)).collect::<Vec<_>>());
    let containers = [
        ("rows.jsonl", lines(&rows)),
        ("rows.ndjson", lines(&rows)),
        ("rows.json", json!(rows).to_string()),
        ("columns.json", json!({"prompt": columns[0], "completion": columns[1]}).to_string()),
        ("rows.csv", separated(",")),
        ("rows.tsv", separated("\t")),
        // As the runner hands over a source that is one file.
        ("demonstrations-jsonl", lines(&rows)),
        ("demonstrations-json", json!(rows).to_string()),
        ("demonstrations-indented", serde_json::to_string_pretty(&rows).unwrap()),
        (
            "demonstrations-columns",
            serde_json::to_string_pretty(&json!({"prompt": columns[0], "completion": columns[1]})).unwrap(),
        ),
        ("demonstrations-csv", separated(",")),
        ("demonstrations-tsv", separated("\t")),
    ];
    let mut wanted = None;
    for (name, text) in containers {
        let place = sft(&file(name, &text)).place();
        let run = place.run(Ending::Done, None);
        assert_eq!(run.code, Some(0), "{name}: {:?}", run.error());
        let outputs = place.outputs();
        assert!(
            *wanted.get_or_insert(outputs.clone()) == outputs,
            "{name}: the same rows are the same bytes"
        );
    }
}

#[test]
fn files_of_other_programs_train_as_they_are() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/src/records/tests/data");
    for name in [
        "messages.parquet",
        "text.csv",
        "text.tsv",
        "text.jsonl",
        "text.jsonl.gz",
        "text.jsonl.zst",
        "text-records.json",
        "text-columns.json",
        "text-zstd.parquet",
        "text-snappy.parquet",
        "text-none.parquet",
    ] {
        trains(&sft(&data.join(name)).with("validation_fraction", json!(0)), name);
    }
    for name in ["preference-delta.parquet", "preference-lengths.parquet", "ultrafeedback.jsonl"] {
        trains(&reward(&data.join(name)).with("validation_fraction", json!(0)), name);
    }
}

#[test]
fn a_folder_is_a_dataset_and_a_compressed_corpus_is_text() {
    let folder = workshop().artifact("corpus").with_file_name("folder");
    std::fs::create_dir_all(&folder).unwrap();
    let rows = rows(LEARNT[1].1);
    std::fs::write(folder.join("b.jsonl"), lines(&rows[4..])).unwrap();
    std::fs::write(folder.join("a.jsonl"), lines(&rows[..4])).unwrap();
    std::fs::write(folder.join("README.md"), "What this is.").unwrap();
    let place = sft(&folder).place();
    assert_eq!(place.run(Ending::Done, None).code, Some(0));
    let whole = sft(&file("whole.jsonl", &lines(&rows))).place();
    assert_eq!(whole.run(Ending::Done, None).code, Some(0));
    assert!(place.outputs() == whole.outputs(), "the files come in the order of their names");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/src/records/tests/data");
    for name in ["text.jsonl.gz", "text-zstd.parquet", "text.csv"] {
        trains(&workshop().tokenizer(1).input("corpus", &data.join(name)), name);
    }
}

#[test]
fn a_container_that_is_broken_is_named_with_its_row() {
    let csv = file("broken.csv", "prompt,completion\nthe sun,rose\nthe \"sun,rose\n\"open,rose\n");
    let said = refused(&sft(&csv), &csv);
    assert!(said.starts_with("DATA:"), "{said}");
    let short = file("short.csv", "prompt,completion\nthe sun,rose\nthe sun\n");
    assert!(refused(&sft(&short), &short).starts_with("DATA:3: "));
    let json = file("broken.json", "[{\"prompt\": \"a\", \"completion\": \"b\"}, {\"prompt\": \"a\"}]");
    assert!(refused(&sft(&json), &json).starts_with("DATA[1]: completion: "));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/src/records/tests/data");
    let parquet = workshop().artifact("corpus").with_file_name("cut.parquet");
    let bytes = std::fs::read(data.join("messages.parquet")).unwrap();
    std::fs::write(&parquet, &bytes[..bytes.len() - 9]).unwrap();
    assert!(refused(&sft(&parquet), &parquet).starts_with("DATA: "));
    let latin = workshop().artifact("corpus").with_file_name("latin.jsonl");
    std::fs::write(&latin, b"{\"prompt\": \"caf\xe9\", \"completion\": \"b\"}\n").unwrap();
    assert!(refused(&sft(&latin), &latin).starts_with("DATA:1: it is not UTF-8"));
}

#[test]
fn a_dataset_of_another_kind_is_named_with_what_would_do() {
    let pairs = file("pairs.jsonl", &lines(&rows(JUDGED[0].1)));
    let said = refused(&sft(&pairs), &pairs);
    assert!(said.starts_with("DATA:1: this is a dataset of preference, and demonstrations are "), "{said}");
    let chats = file("chats.jsonl", &lines(&rows(LEARNT[1].1)));
    assert!(refused(&reward(&chats), &chats).contains("this is a dataset of messages, and rankings are"));
    let said = refused(&workshop().tokenizer(1).input("corpus", &chats), &chats);
    assert!(said.contains("this is a dataset of messages, and corpora are text"), "{said}");
}

#[test]
fn prompts_of_several_turns_are_sampled_and_kept_as_they_are() {
    let prompt = json!([user("the sun"), assistant("rose"), user("again")]);
    let data = file("turns.jsonl", &lines(&[json!({"prompt": prompt}), json!({"prompt": "the sun"})]));
    let place = workshop().sample(4).input("prompts", &data).place();
    assert_eq!(place.run(Ending::Done, None).code, Some(0));
    let outputs = place.outputs();
    let text = String::from_utf8(outputs["completions"].clone()).unwrap();
    let made: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&made[0]["prompt"], &made[1]["prompt"]), (&prompt, &json!("the sun")));
}

/// The stage that writes data as tokens.
fn tokenize(tokenizer: &str, data: &Path) -> Stage {
    let stage = workshop().tokenizer(2).without("corpus");
    Stage { kind: "tokenize".into(), params: json!({}), output: "tokens", ..stage }
        .input("tokenizer", &workshop().artifact(tokenizer))
        .input("data", data)
}

#[test]
fn tokens_on_disk_train_the_same_model_as_the_data_they_were_made_of() {
    let shop = workshop();
    for (name, of) in [("messages", LEARNT[1].1), ("text", LEARNT[0].1)] {
        let data = file("to-tokenize.jsonl", &lines(&rows(of)));
        let tokens = shop.made("tokens", &tokenize("base", &data));
        let outputs = |data: &Path| {
            let place = sft(data).with("steps", json!(5)).with("batch_size", json!(3)).place();
            let run = place.run(Ending::Done, None);
            assert_eq!(run.code, Some(0), "{name}: {:?}", run.error());
            place.outputs()
        };
        assert!(outputs(&tokens) == outputs(&data), "{name}");
        std::fs::remove_dir_all(&tokens).unwrap();
    }
}

#[test]
fn pretraining_reads_tokens_epoch_after_epoch_and_resumes_to_the_same_bytes() {
    let shop = workshop();
    let tokens = shop.made("corpus-tokens", &tokenize("tokenizer", &shop.artifact("corpus")));
    let stage = shop.pretrain().input("corpus", &tokens);
    let place = stage.place();
    let run = place.run(Ending::Done, None);
    assert_eq!(run.code, Some(0), "{:?}", run.error());
    assert!(run.logged("nothing of the tokens is held out"));
    let resumed = stage.place();
    assert_eq!(resumed.run(Ending::Killed, Some("0")).code, None);
    assert_eq!(resumed.run(Ending::Done, Some("0")).code, Some(0));
    assert!(resumed.outputs() == place.outputs());
    let run = trains(&stage.input("validation", &shop.artifact("corpus")), "with a validation text");
    let loss = run.summary().iter().find(|(name, _)| name == "val/loss").unwrap().1;
    assert!(loss < 0.8 * f64::from(shop.vocab()).ln(), "{loss}");
}

#[test]
fn tokens_of_another_tokenizer_and_damaged_ones_are_refused() {
    let shop = workshop();
    let other = shop.made("other-tokenizer", &shop.tokenizer(1).with("vocab_size", json!(290)));
    let stage = tokenize("base", &shop.artifact("corpus")).input("tokenizer", &other);
    let tokens = shop.made("other-tokens", &stage);
    assert!(refused(&sft(&tokens), &tokens).contains("DATA were made with another tokenizer"));
    let tokens = shop.made("damaged-tokens", &tokenize("base", &shop.artifact("corpus")));
    let path = tokens.join("00000.tokens");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&sft(&tokens), &tokens).contains("tokenize the data again"));
    let pairs = file("pairs-to-tokenize.jsonl", &lines(&rows(JUDGED[0].1)));
    assert!(refused(&tokenize("base", &pairs), &pairs).starts_with("DATA:1: this is neither a text nor"));
}
