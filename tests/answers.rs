//! Model cards, through the binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Answer, Pipeline};
use serde_json::{Value, json};

/// A stage of commands, a stage that trains, and an evaluation of it.
const LADDER: &str = "
pipeline: p
providers: [./provider.py]
sources: { texts: { path: texts, type: corpus } }
stages:
  clean: { inputs: { t: texts }, run: 'cat {inputs.t}/* > {outputs.corpus}', outputs: { corpus: corpus } }
  model: { kind: train, inputs: { corpus: clean }, params: { steps: 4 } }
  report: { inputs: { m: model }, run: 'wc -c < {inputs.m}/state.txt > {outputs.r}', outputs: { r: report } }
";

fn with_provider(yaml: &str) -> Pipeline {
    let p = Pipeline::new().yaml(yaml).file("texts/a.txt", "to be\n").file("texts/b.txt", "or not\n");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/provider.py");
    // A copy keeps the permission to execute it.
    fs::copy(fixture, p.path("provider.py")).unwrap();
    p
}

fn ladder() -> Pipeline {
    let p = with_provider(LADDER);
    p.ask(&["run"]).good();
    p
}

/// The rows of the tables of a section, as cells.
fn rows(card: &str, section: &str) -> Vec<Vec<String>> {
    let body = card.split(&format!("\n## {section}\n")).nth(1).unwrap_or_else(|| panic!("{section}: {card}"));
    let body = body.split("\n## ").next().unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    body.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---")).map(cells).collect()
}

/// The value of a row with this name.
fn value<'a>(rows: &'a [Vec<String>], name: &str) -> &'a str {
    &rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name}: {rows:?}"))[1]
}

/// The file of the record of a stage.
fn record_of(p: &Pipeline, stage: &str) -> PathBuf {
    let plan = p.json(&["plan"]);
    let stage = plan["stages"].as_array().unwrap().iter().find(|s| s["name"] == stage).unwrap();
    let key = stage["key"].as_str().unwrap();
    p.path("artifacts/actions").join(&key[..2]).join(&key[2..])
}

#[test]
fn every_figure_of_a_card_is_one_of_the_records() {
    let p = ladder();
    let card = p.ask(&["card", "model"]).good();
    let (shown, plan) = (p.json(&["show", "model"]), p.json(&["plan"]));
    let text = |value: &Value| format!("`{}`", value.as_str().unwrap());
    let artifact = rows(&card, "The artifact");
    assert_eq!(value(&artifact, "Digest (SHA-256)"), text(&shown["digest"]));
    assert_eq!(value(&artifact, "Form"), "folder of 1 file");
    assert_eq!(value(&artifact, "Size"), "64 bytes");
    assert_eq!(value(&artifact, "Type"), "`checkpoint`");
    assert_eq!(value(&artifact, "Kind"), "`train` (revision `1` of `test`)");
    let made = rows(&card, "How it was made");
    assert_eq!(value(&made, "Action key"), text(&plan["stages"][1]["key"]));
    assert_eq!((value(&made, "Run"), value(&made, "`steps`")), ("`r-0001`", "`4`"));
    let lineage = rows(&card, "Lineage");
    let names: Vec<_> = lineage.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["Stage", "`clean`", "`model`"]);
    let clean = plan["stages"][0]["outputs"]["corpus"]["digest"].as_str().unwrap();
    assert_eq!(lineage[1][2], format!("`corpus: {clean}`"));
    assert_eq!(lineage[2][3], "`steps=4`");
    assert!(card.contains("```mermaid\nflowchart LR\n"), "{card}");
    let texts = p.json(&["show", "texts"])["digest"].as_str().unwrap().to_owned();
    assert_eq!(
        rows(&card, "Data")[1],
        ["`texts`", "`texts`", "`corpus`", &format!("`{texts}/`"), "13 bytes", "2"]
    );
    let metrics = rows(&card, "Metrics");
    assert_eq!(metrics[1], ["`model`", "`loss`", "0.2500", "4", "`r-0001`"]);
    assert_eq!(metrics[2..], [["`model`", "`steps`", "4", "in the record", "`r-0001`"]]);
    let report = plan["stages"][2]["key"].as_str();
    let found = p.json(&["card", "model"]);
    assert_eq!((&found["schema"], found["evaluations"][0]["key"].as_str()), (&json!("kiln.card/1"), report));
    assert!(card.contains("kiln run --locked kiln.yaml model\n"), "{card}");
    assert!(card.contains("The record of this artifact is not signed."), "{card}");
}

#[test]
fn the_files_of_a_source_that_is_a_folder_are_shown() {
    let p = ladder();
    assert!(p.ask(&["show", "texts"]).good().contains("corpus, folder of 2 files, 13 B"));
    assert_eq!(p.json(&["show", "texts"])["files"][1], json!({ "path": "b.txt", "size": 7 }));
}

#[test]
fn the_metadata_of_a_card_names_no_license_and_nothing_that_is_not_recorded() {
    let card = ladder().ask(&["card", "model"]).good();
    let metadata: Vec<_> = card.lines().skip(1).take_while(|line| *line != "---").collect();
    assert_eq!(
        metadata[1..],
        ["library_name: \"test\"", "tags:", "- \"checkpoint\"", "- \"kiln\"", "- \"train\""]
    );
    assert!(metadata[0].starts_with("# Written by `kiln card`"));
    assert!(rows(&card, "How it was made").iter().all(|row| row.len() == 2 || row.len() == 3), "{card}");
    assert!(card.contains("\n- No record says under which license"), "{card}");
}

#[test]
fn the_same_records_give_the_same_card() {
    let p = ladder();
    let card = p.ask(&["card", "model"]).good();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    p.ask(&["run"]).good();
    assert_eq!(p.ask(&["card", "model.model"]).good(), card, "another run made nothing");
    assert_eq!(p.ask(&["card", "kiln.yaml", "model"]).good(), card);
    p.edit("steps: 4", "steps: 5");
    p.ask(&["run"]).good();
    assert_ne!(p.ask(&["card", "model"]).good(), card);
}

#[test]
fn what_is_not_known_is_a_gap_and_is_not_made_up() {
    let p = ladder();
    let clean = p.json(&["plan"])["stages"][0].clone();
    fs::remove_file(record_of(&p, "clean")).unwrap();
    let card = p.ask(&["card", "model"]).good();
    let row = &rows(&card, "Lineage")[1];
    // The digest stands in the record of the stage that read it.
    let read = clean["outputs"]["corpus"]["digest"].as_str().unwrap();
    assert_eq!(
        *row,
        ["`clean`", "not known", &format!("`corpus: {read}`"), "not known", "not known", "not known"]
    );
    assert!(card.contains("\n- `clean`: not known: there is no record of it here.\n"), "{card}");
    assert!(!card.contains(clean["key"].as_str().unwrap()), "{card}");
    assert!(card.contains("This artifact is stale"), "{card}");
    assert!(card.contains("No known record reads a source"), "{card}");
    assert_eq!(p.json(&["card", "model"])["lineage"][0]["made"], Value::Null);
}

#[test]
fn a_record_that_made_other_bytes_is_no_part_of_the_lineage() {
    let p = ladder();
    let read = p.json(&["plan"])["stages"][0]["outputs"]["corpus"]["digest"].clone();
    p.write("texts/b.txt", "and not\n");
    p.ask(&["run", "clean"]).good();
    let card = p.json(&["card", "model"]);
    assert_eq!(card["lineage"][0]["made"], Value::Null, "{card:#}");
    assert_eq!(card["lineage"][0]["outputs"]["corpus"], read);
    let card = p.ask(&["card", "model"]).good();
    assert!(card.contains("the record that is here made other bytes than those that were read"), "{card}");
    // The source has other bytes than those that the known records read.
    p.ask(&["run"]).good();
    p.write("texts/b.txt", "not at all\n");
    p.write("kiln.yaml", &LADDER.replace("cat {inputs.t}/*", "cat {inputs.t}/a.txt"));
    let card = p.json(&["card", "clean"]);
    assert_eq!((&card["data"][0]["bytes"], &card["stale"]), (&Value::Null, &json!(true)), "{card:#}");
}

#[test]
fn nothing_that_a_file_says_becomes_markup() {
    let evil = "`|<img src=x onerror=alert(1)>\\\n## Owned\n---\n$$x$$ [a](http://b.c)";
    let quoted = json!(evil).to_string();
    let p = Pipeline::new()
        .yaml(&format!(
            "pipeline: {quoted}
sources: {{ s: {{ path: \"x|`y<b>.txt\", type: any }} }}
stages:
  a:
    inputs: {{ i: s }}
    params: {{ p: {quoted} }}
    run: |
      cat {{inputs.i}} > {{outputs.o}} # ```
      # ````
      # <script>
    outputs: {{ o: any }}
  m: {{ inputs: {{ i: a }}, run: 'mkdir {{outputs.o}}; cp {{inputs.i}} \"{{outputs.o}}/a|b\\`c<d>\"', outputs: {{ o: any }} }}
"
        ))
        .file("x|`y<b>.txt", "x");
    p.ask(&["run"]).good();
    for stage in ["a", "m"] {
        let card = p.ask(&["card", stage]).good();
        let (outside, blocks): (Vec<_>, Vec<_>) = split_blocks(&card);
        for line in &outside {
            assert!(
                !line.contains(['<', '>'])
                    || line
                        .replace("<code>", "")
                        .replace("</code>", "")
                        .trim_start_matches("> ")
                        .find(['<', '>'])
                        .is_none(),
                "{line}"
            );
            assert!(
                !line.contains("$$") && !line.starts_with("## Owned") && !line.contains("http:"),
                "{line}"
            );
        }
        assert_eq!(outside.iter().filter(|line| **line == "---").count(), 2, "{card}");
        // Every row of a table has as many cells as its head.
        let mut cells = None;
        for line in &outside {
            let count = line.starts_with('|').then(|| line.matches('|').count());
            assert!(cells.is_none() || count.is_none() || cells == count, "{line}");
            cells = count;
        }
        assert!(blocks.iter().all(|line| !line.starts_with("## ")), "{card}");
    }
    let card = p.ask(&["card", "a"]).good();
    assert!(card.contains("\n`````sh\n"), "a fence that the script cannot end: {card}");
    assert_eq!(p.json(&["card", "a"])["made"]["params"]["p"], evil, "the data has it as it is");
}

/// The lines outside of blocks of code, and those inside.
fn split_blocks(card: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut outside, mut inside, mut fence) = (Vec::new(), Vec::new(), None);
    for line in card.lines() {
        let ticks = line.len() - line.trim_start_matches('`').len();
        match fence {
            None if ticks >= 3 => fence = Some(ticks),
            Some(open) if ticks >= open && line.len() == ticks => fence = None,
            None => outside.push(line),
            Some(_) => inside.push(line),
        }
    }
    (outside, inside)
}

#[test]
fn a_card_replaces_a_card_and_no_other_file() {
    let p = ladder();
    p.write("README.md", "# Mine\n");
    let refused = p.ask(&["card", "model", "-o", "README.md"]);
    assert!(refused.code == 3 && refused.err.contains("stays as it is"), "{}", refused.err);
    assert_eq!(fs::read_to_string(p.path("README.md")).unwrap(), "# Mine\n");
    for _ in 0..2 {
        assert_eq!(p.ask(&["card", "model", "-o", "card.md"]).good(), "Wrote card.md.\n");
    }
    assert_eq!(fs::read_to_string(p.path("card.md")).unwrap(), p.ask(&["card", "model"]).good());
    let none = with_provider(LADDER).ask(&["card", "model"]);
    assert!(none.code == 1 && none.err.contains("`kiln run model` makes it"), "{}", none.err);
    let wrong = p.ask(&["card", "model.weights"]);
    assert!(wrong.code == 3 && wrong.err.contains("there is: model"), "{}", wrong.err);
}

#[test]
fn the_parameters_of_a_model_come_from_the_headers_of_its_files() {
    let p = Pipeline::new().yaml(
        "
pipeline: p
sources: { w: { path: w, type: any } }
stages:
  good: { inputs: { w: w }, run: 'mkdir {outputs.m}; cp {inputs.w} {outputs.m}/model.safetensors; echo \"{\\\"layers\\\": 2}\" > {outputs.m}/config.json', outputs: { m: checkpoint } }
  cut: { inputs: { w: w }, run: 'mkdir {outputs.m}; head -c -2 {inputs.w} > {outputs.m}/model.safetensors', outputs: { m: checkpoint } }
",
    );
    let header = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[5],"data_offsets":[24,34]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 34]].concat();
    fs::write(p.path("w"), bytes).unwrap();
    p.ask(&["run"]).good();
    let card = p.ask(&["card", "good"]).good();
    let model = rows(&card, "The model");
    assert_eq!((value(&model, "Parameters"), value(&model, "Tensors")), ("11", "2"));
    assert_eq!((value(&model, "Types"), value(&model, "`layers`")), ("`BF16: 5`, `F32: 6`", "`2`"));
    assert!(card.contains("\n- \"safetensors\"\n"), "{card}");
    let card = p.ask(&["card", "cut"]).good();
    assert!(!card.contains("## The model") && card.contains("the parameters are not known"), "{card}");
}

#[test]
fn a_card_says_who_signed_and_whether_that_key_is_trusted() {
    let remote = tempfile::tempdir().unwrap();
    let (builder, reader) = (with_provider(LADDER), with_provider(LADDER));
    let ask = |p: &Pipeline, words: &[&str]| {
        Answer::of(p.kiln(words).env("KILN_REMOTES", remote.path()).output().unwrap())
    };
    builder.ask(&["key", "new"]).good();
    let key = builder.json(&["key", "list"])["keys"][0].clone();
    ask(&builder, &["run"]).good();
    let card = ask(&builder, &["card", "model"]).good();
    let id = key["id"].as_str().unwrap();
    assert!(card.contains(&format!("is signed (key id `{id}`)")), "{card}");
    assert!(card.contains(&format!("| key id `{id}` |")) && !card.contains("`you`"), "{card}");
    let card = ask(&reader, &["card", "model"]).good();
    assert!(card.contains("by no key that is trusted here"), "{card}");
    assert!(card.contains("the record is signed by no key that is trusted here"), "{card}");
    reader.ask(&["key", "trust", "ci", key["key"].as_str().unwrap()]).good();
    let card = ask(&reader, &["card", "model"]).good();
    assert!(card.contains("trusted here as `ci`"), "{card}");
}

#[test]
fn numbers_of_a_run_that_only_has_the_same_name_are_not_taken() {
    let remote = tempfile::tempdir().unwrap();
    let (ours, theirs) = (with_provider(LADDER), with_provider(LADDER));
    let ask = |p: &Pipeline, words: &[&str]| {
        Answer::of(p.kiln(words).env("KILN_REMOTES", remote.path()).output().unwrap())
    };
    ask(&ours, &["run"]).good();
    // Here the first run made another model.
    theirs.edit("steps: 4", "steps: 2");
    theirs.ask(&["run"]).good();
    theirs.edit("steps: 2", "steps: 4");
    ask(&theirs, &["run"]).good();
    let card = ask(&theirs, &["card", "model"]).good();
    let metrics = rows(&card, "Metrics");
    assert_eq!(metrics[1], ["`model`", "`loss`", "0.2500", "in the record", "`r-0001`"], "{card}");
    assert_eq!(metrics.len(), 3, "{card}");
    assert!(card.contains("the run is not one of this store"), "{card}");
    assert_eq!(theirs.json(&["metrics"])["stages"], json!({}), "{card}");
}
