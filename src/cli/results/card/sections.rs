//! The sections of a card.
//!
//! Purpose: each section of a card as Markdown; an empty text where there is nothing to say.
//! Invariant: whatever comes from outside goes through `escape`; a number is one of the facts, or how many of them there
//! are.
//! Must not know: where facts come from.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::escape::{block, code, shell};
use super::facts::{Ancestor, Card, Made, Measured};
use crate::cas::trust::OWN;
use crate::cli::results::metrics::number;
use crate::report::text::{bytes as short, seconds, value};

/// The most rows of a table of files, params or settings.
const MOST_ROWS: usize = 100;
/// The most params of a stage of the lineage.
const MOST_PARAMS: usize = 6;
/// With more stages than this the graph is not drawn.
const MOST_STAGES: usize = 60;
/// What stands where nothing is known.
const UNKNOWN: &str = "not known";

/// What the artifact is.
pub fn artifact(card: &Card) -> String {
    let artifact = &card.artifact;
    let form = match (artifact.folder, &artifact.files) {
        (false, _) if artifact.executable => "executable file".to_owned(),
        (false, _) => "file".to_owned(),
        (true, Some(files)) => format!("folder of {}", files_of(files.len())),
        (true, None) => "folder".to_owned(),
    };
    let rows = [
        ("Stage", code(&artifact.stage)),
        ("Output", code(&artifact.output)),
        ("Kind", kind(&card.made)),
        ("Type", code(&artifact.artifact_type)),
        ("Digest (SHA-256)", code(&artifact.digest.to_string())),
        ("Form", form),
        ("Size", size(artifact.bytes)),
    ];
    let mut text = pairs(&rows);
    if let Some(files) = artifact.files.as_ref().filter(|files| !files.is_empty()) {
        let row =
            |file: &super::facts::File| [code(&file.path), size(file.bytes), code(&file.digest.to_string())];
        text += &format!("\n{}", table(["File", "Size", "SHA-256"], files.iter().map(row)));
    }
    text
}

/// How it was made.
pub fn made(card: &Card) -> String {
    let made = &card.made;
    let mut rows = vec![
        ("Action key", code(&made.key.to_string())),
        ("Run", code(&made.run)),
        ("Started", code(&made.started)),
        ("Took", seconds(made.seconds)),
        ("Kiln", code(&made.kiln)),
    ];
    if let Some(program) = &made.program {
        rows.push(("Program of the provider (SHA-256)", code(&program.to_string())));
    }
    if let Some(shell) = &made.shell {
        rows.push(("Shell", code(&words(shell))));
    }
    if let Some(numerics) = &made.numerics {
        rows.push(("Numerics", code(&plain(numerics))));
    }
    let mut text = pairs(&rows);
    if !made.params.is_empty() {
        text += &format!("\nThe params with which the stage ran:\n\n{}", settings(&made.params));
    }
    if !made.inputs.is_empty() {
        let row = |input: &super::facts::Input| {
            let from = input.from.as_deref().map_or_else(|| UNKNOWN.to_owned(), code);
            [code(&input.name), from, code(&input.digest)]
        };
        text += "\nWhat it read:\n\n";
        text += &table(["Input", "From", "SHA-256"], made.inputs.iter().map(row));
    }
    if !made.uses.is_empty() {
        let rows = made.uses.iter().map(|(path, digest)| [code(path), code(digest)]);
        text += &format!("\nThe files that it used:\n\n{}", table(["File", "SHA-256"], rows));
    }
    match &made.command {
        Some(Value::String(script)) => text += &format!("\nThe script:\n\n{}", block("sh", script)),
        Some(words) => text += &format!("\nThe command:\n\n{}", block("json", &words.to_string())),
        None => {}
    }
    text
}

/// The words of a shell, as a pipeline file has them.
fn words(command: &Value) -> String {
    let words = command.as_array().map(|words| words.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    words.flatten().map_or_else(|| plain(command), |words| words.join(" "))
}

/// What its files say of the model.
pub fn model(card: &Card) -> String {
    let Some(model) = &card.model else { return String::new() };
    let mut rows = Vec::new();
    if let (Some(parameters), Some(tensors)) = (model.parameters, model.tensors) {
        let types: Vec<_> = model.by_type.iter().map(|(name, n)| code(&format!("{name}: {n}"))).collect();
        rows.push(("Parameters", parameters.to_string()));
        rows.push(("Tensors", tensors.to_string()));
        rows.push(("Types", types.join(", ")));
    }
    let mut text = if rows.is_empty() { String::new() } else { pairs(&rows) };
    if let Some(config) = model.config.as_ref().filter(|config| !config.is_empty()) {
        let gap = if text.is_empty() { "" } else { "\n" };
        text += &format!("{gap}`config.json`:\n\n{}", settings(config));
    }
    text
}

/// The stages from the sources to it.
pub fn lineage(card: &Card) -> String {
    let head = ["Stage", "Kind", "Outputs (SHA-256)", "Params that the file sets", "Run", "Signed by"];
    let mut text = table(head, card.lineage.iter().map(ancestor));
    text += "\nThe stages as the pipeline names them:\n\n";
    match card.lineage.len() {
        n if n > MOST_STAGES => {
            text += "There are too many to be drawn; `kiln graph --format mermaid` draws them.\n"
        }
        _ => text += &block("mermaid", &card.graph),
    }
    text
}

fn ancestor(ancestor: &Ancestor) -> [String; 6] {
    let output = |(name, digest): (&String, &String)| code(&format!("{name}: {digest}"));
    let outputs: Vec<_> = ancestor.outputs.iter().map(output).collect();
    let outputs = if outputs.is_empty() { UNKNOWN.to_owned() } else { outputs.join(", ") };
    let unknown = || UNKNOWN.to_owned();
    let Some(made) = &ancestor.made else {
        return [code(&ancestor.stage), unknown(), outputs, unknown(), unknown(), unknown()];
    };
    let main: Vec<_> = ancestor.main.iter().filter_map(|name| Some((name, made.params.get(name)?))).collect();
    let shown = main.iter().take(MOST_PARAMS);
    let shown = shown.map(|(name, param)| code(&format!("{name}={}", value(&without_nulls(param)))));
    let mut params = shown.collect::<Vec<_>>().join(", ");
    if main.len() > MOST_PARAMS {
        let _ = write!(params, " and {} more", main.len() - MOST_PARAMS);
    }
    [code(&ancestor.stage), kind(made), outputs, params, code(&made.run), signer(made)]
}

/// What the lineage starts from.
pub fn data(card: &Card) -> String {
    if card.data.is_empty() {
        return "No known record reads a source, or something that a stage without inputs made.\n".to_owned();
    }
    let row = |data: &super::facts::Data| {
        let path = data.path.as_deref().map_or_else(|| "made by a stage without inputs".to_owned(), code);
        let size = data.bytes.map_or_else(|| UNKNOWN.to_owned(), size);
        let files = data.files.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        [code(&data.name), path, code(&data.artifact_type), code(&data.digest), size, files]
    };
    let head = ["Name", "Path in the project", "Type", "SHA-256", "Size", "Files"];
    table(head, card.data.iter().map(row))
        + "\nA `/` behind a digest marks a folder, a `*` an executable file.\n"
}

/// The numbers of the stages.
pub fn metrics(card: &Card) -> String {
    if card.metrics.is_empty() {
        return String::new();
    }
    numbers(card.metrics.iter())
}

/// The numbers of the evaluations that read it.
pub fn evaluations(card: &Card) -> String {
    let mut text = String::new();
    for evaluation in &card.evaluations {
        let stage = &evaluation.measured.stage;
        let outputs = evaluation.outputs.iter().map(|(name, digest)| code(&format!("{name}: {digest}")));
        let outputs = outputs.collect::<Vec<_>>().join(", ");
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(
            text,
            "{gap}{} (kind {}, action key {}) read this artifact and made {outputs}. {} prints it.",
            code(stage),
            code(&evaluation.kind),
            code(&evaluation.key.to_string()),
            code(&format!("kiln show {} {stage}", shell(&card.reproduction.file)))
        );
        if !evaluation.measured.summary.is_empty() || !evaluation.measured.metrics.is_empty() {
            text += &format!("\n{}", numbers(std::iter::once(&evaluation.measured)));
        }
    }
    text
}

/// Last values of metrics, and the numbers that a record has itself.
fn numbers<'a>(all: impl Iterator<Item = &'a Measured>) -> String {
    let mut rows = Vec::new();
    for one in all {
        let row = |name: &str, value: f64, step: String| {
            [code(&one.stage), code(name), number(value), step, code(&one.run)]
        };
        rows.extend(one.metrics.iter().map(|(name, last)| row(name, last.last, last.step.to_string())));
        // Records repeat what was measured last.
        let is_new = |(name, value): &&(String, f64)| one.metrics.get(name).is_none_or(|m| m.last != *value);
        let summary = one.summary.iter().filter(is_new);
        rows.extend(summary.map(|(name, value)| row(name, *value, "in the record".to_owned())));
    }
    table(["Stage", "Number", "Last value", "Step", "Run"], rows.into_iter())
}

/// How to make it again.
pub fn reproduction(card: &Card) -> String {
    let again = &card.reproduction;
    let words = again.arguments.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ");
    let lock = again.lock_file.as_deref().map(code);
    let mut text = match (&lock, again.locked) {
        (Some(lock), true) => {
            format!("The lock file {lock} has the action key of this artifact. In the project root:\n")
        }
        (Some(lock), false) => {
            format!(
                "The lock file {lock} does not have the action key of this artifact. In the project root:\n"
            )
        }
        (None, _) => "There is no lock file. In the project root:\n".to_owned(),
    };
    let locked = if again.locked && again.arguments.len() == 2 { " --locked" } else { "" };
    text += &format!("\n{}", block("sh", &format!("kiln run{locked} {words}\nkiln show {words}")));
    if card.stale {
        text += "\nThese commands make what the pipeline says now, which may be something else: the artifact is stale.\n";
    }
    text
}

/// How to verify it.
pub fn verification(card: &Card) -> String {
    let made = &card.made;
    let ids = made.keyids.iter().map(|id| code(id)).collect::<Vec<_>>().join(", ");
    let mut text = match (&made.signer, made.keyids.is_empty()) {
        (_, true) => "The record of this artifact is not signed.\n".to_owned(),
        (Some(id), _) => {
            let name = name_of_signer(made).map(|name| format!(", which is trusted here as {}", code(name)));
            let name = name.unwrap_or_default();
            format!(
                "The record of this artifact is signed (key id {}); the signature was checked against that key{name}.\n",
                code(id)
            )
        }
        (None, _) => {
            format!("The record of this artifact is signed (key id {ids}), by no key that is trusted here.\n")
        }
    };
    let again = &card.reproduction;
    let words = again.arguments.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ");
    let bundle = shell(&format!("{}.intoto.jsonl", card.artifact.stage));
    text += &format!(
        "\n{}",
        block(
            "sh",
            &format!(
                "kiln provenance {words} > {bundle}   # the statements of the whole lineage\n\
                 kiln verify {words}   # makes it again elsewhere and compares"
            )
        )
    );
    text + match card.artifact.folder {
        true => {
            "\n`sha256sum` of each file gives the digests above. The digest of the folder is that of its listing.\n"
        }
        false => "\n`sha256sum` of the file gives the digest above.\n",
    }
}

fn kind(made: &Made) -> String {
    match (&made.provider, &made.revision) {
        (Some(provider), Some(revision)) => {
            format!("{} (revision {} of {})", code(&made.kind), code(&plain(revision)), code(provider))
        }
        _ => code(&made.kind),
    }
}

/// A param without the settings that nobody gave a value.
fn without_nulls(param: &Value) -> Value {
    match param {
        Value::Object(all) => {
            let set = all.iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}

fn signer(made: &Made) -> String {
    match (&made.signer, made.keyids.is_empty()) {
        (Some(id), _) => match name_of_signer(made) {
            Some(name) => format!("{} (key id {})", code(name), code(id)),
            None => format!("key id {}", code(id)),
        },
        (None, true) => "nobody".to_owned(),
        (None, false) => "no trusted key".to_owned(),
    }
}

/// The name of the key that signed, unless it says no more than that the key is that of whoever writes the card.
fn name_of_signer(made: &Made) -> Option<&str> {
    made.signed_by.as_deref().filter(|name| *name != OWN)
}

fn size(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1000 => format!("{bytes} bytes"),
        _ => format!("{bytes} bytes ({})", short(bytes)),
    }
}

fn files_of(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

/// A text without quotes, anything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        other => other.to_string(),
    }
}

fn settings(all: &Map<String, Value>) -> String {
    table(["Name", "Value"], all.iter().map(|(name, value)| [code(name), code(&plain(value))]))
}

/// Names and what they have; the texts are Markdown already.
fn pairs(rows: &[(&str, String)]) -> String {
    table(["", ""], rows.iter().map(|(name, text)| [(*name).to_owned(), text.clone()]))
}

/// A table of cells that are Markdown already; of very many rows the first ones.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    let mut left = 0_usize;
    for (n, row) in rows.enumerate() {
        match n < MOST_ROWS {
            true => _ = writeln!(text, "| {} |", row.join(" | ")),
            false => left += 1,
        }
    }
    if left > 0 {
        let _ = writeln!(text, "\nAnd {left} more, which `kiln card --json` gives.");
    }
    text
}
