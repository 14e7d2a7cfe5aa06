//! A dataset in `kiln show`.
//!
//! Purpose: has the provider look at an artifact that holds examples, with the model that is to learn from it where there is
//! one, and shows its format and its first rows: what is learnt in one colour, what is only read in another.
//! Invariant: an artifact that is no dataset is shown as any other; no control character reaches the terminal.
//! Must not know: formats, tokenizers.

use std::path::PathBuf;

use super::show::{self, Shown, clean};
use crate::cli::CliError;
use crate::cli::context::Context;
use crate::cli::printer::{BAD, FAINT, GOOD, Printer, paint};
use crate::graph::Producer;
use crate::protocol::{InspectAnswer, InspectRequest, InspectedRow};
use crate::provider::Providers;
use crate::spec::endings;

/// The types of artifacts that hold examples.
const TYPES: [&str; 5] = ["corpus", "demonstrations", "prompts", "completions", "rankings"];
/// The shape of which everything is learnt.
const TEXT: &str = "text";
/// How many rows are shown.
const ROWS: u32 = 3;

/// Looks at an artifact, if it is of a type that holds examples and the default provider looks at datasets.
///
/// # Errors
/// There is no provider, or it answers nonsense.
pub fn look(context: &Context, shown: &Shown) -> Result<Option<InspectAnswer>, CliError> {
    if !TYPES.contains(&shown.artifact_type.as_str()) {
        return Ok(None);
    }
    let mut providers = Providers::new(&context.store);
    let failed = |e: crate::provider::ProviderError| CliError::Failed(e.to_string());
    let Ok(provider) = providers.find(None) else { return Ok(None) };
    let model = learner(context, &shown.name);
    let stage = context.graph.index(shown.name.split('.').next().unwrap_or_default());
    let ending = stage.and_then(|ix| endings::of_download(context.graph.stage(ix))).unwrap_or_default();
    let (data, artifact_type) = (shown.pattern.clone(), shown.artifact_type.clone());
    provider.inspect(&InspectRequest { data, artifact_type, ending, model, rows: ROWS }).map_err(failed)
}

/// The model or the tokenizer of the first stage that reads an artifact and has one already.
fn learner(context: &Context, name: &str) -> Option<PathBuf> {
    let graph = &context.graph;
    let is_it = |from: &Producer| match from {
        Producer::Source(source) => *source == name,
        Producer::Stage { index, output } => {
            name == format!("{}.{}", graph.stage(*index).name.value, output.name)
        }
    };
    for stage in graph.order() {
        let inputs = graph.inputs(*stage);
        if !inputs.iter().any(|input| is_it(&input.from)) {
            continue;
        }
        let of = inputs.iter().find(|input| ["model", "tokenizer"].contains(&input.name));
        let named = of.map(|input| match input.from {
            Producer::Source(source) => source.to_owned(),
            Producer::Stage { index, output } => {
                format!("{}.{}", graph.stage(index).name.value, output.name)
            }
        });
        if let Some(Ok(model)) = named.map(|named| show::find(context, &named)) {
            return Some(model.path);
        }
    }
    None
}

/// Prints what a dataset is, and its first rows unless they are plain text; says whether it printed rows.
pub fn to_text(shown: &Shown, answer: &InspectAnswer, printer: &mut Printer) -> bool {
    if let Some(problem) = &answer.problem {
        printer.line(paint(BAD, format!("no dataset: {}", clean(problem))));
        return false;
    }
    let InspectAnswer { containers, shape, files, skipped, rows, checked, broken, first, .. } = answer;
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let beside = if *skipped > 0 {
        format!(", {} beside them not read", count(*skipped, "file"))
    } else {
        String::new()
    };
    printer.line(format!(
        "format  {shape} ({}), {} in {}{beside}",
        containers.join("; "),
        count(*rows, "row"),
        count(*files, "file"),
    ));
    if let Some(broken) = broken {
        printer.line(format!("broken  {}", paint(BAD, clean(&shortened(shown, broken)))));
    } else if checked < rows && shape != TEXT {
        printer.line(format!(
            "checked the first {}; those after them are read when a stage runs",
            count(*checked, "row")
        ));
    }
    if shape == TEXT {
        return false;
    }
    let learns = first.iter().any(|row| row.parts.iter().any(|part| part.learnt));
    if learns {
        let how = if first.iter().any(|row| row.tokens.is_some()) { "" } else { ", by who speaks" };
        let trained = in_marks(printer, "trained");
        printer.line(format!("learnt  {}, {}{how}", paint(GOOD, trained), paint(FAINT, "masked")));
    }
    for row in first {
        printer.line("");
        shown_row(shown, row, printer);
    }
    true
}

/// Where the bytes lie is of no use to people: the place in the artifact is.
fn shortened(shown: &Shown, text: &str) -> String {
    let place = text.strip_prefix(&*shown.path.to_string_lossy());
    place.map_or_else(|| text.to_owned(), |place| format!("{}{place}", shown.name))
}

/// What is learnt, in marks where there is no colour.
fn in_marks(printer: &Printer, text: &str) -> String {
    if printer.has_colours() { text.to_owned() } else { format!("«{text}»") }
}

fn shown_row(shown: &Shown, row: &InspectedRow, printer: &mut Printer) {
    let mut head = clean(&shortened(shown, &row.place));
    if !row.label.is_empty() {
        head = format!("{head}, {}", clean(&row.label));
    }
    if let Some([tokens, learnt]) = row.tokens {
        head = format!("{head}: {tokens} tokens, {learnt} of them learnt");
    }
    printer.line(paint(FAINT, head));
    let mut text = String::new();
    for part in &row.parts {
        let style = if part.learnt { GOOD } else { FAINT };
        // A style ends with its line, so that no terminal carries it on.
        for (place, line) in part.text.split('\n').enumerate() {
            if place > 0 {
                text.push('\n');
            }
            if !line.is_empty() {
                let line = if part.learnt { in_marks(printer, &clean(line)) } else { clean(line) };
                text.push_str(&paint(style, line));
            }
        }
        if row.tokens.is_none() {
            text.push('\n');
        }
    }
    text.lines().for_each(|line| printer.line(format!("  {line}")));
}
