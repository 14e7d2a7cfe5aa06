//! `inspect`: what a dataset is, and what of it a model learns.
//!
//! Purpose: the files, the shape and the first rows of a dataset, each as the parts that are learnt and those that are not: in
//! tokens of the model that is to learn from it, or else by who speaks.
//! Invariant: what is said to be learnt is what the stages learn.
//! Must not know: terminals, stages.

use std::path::Path;

use kiln::protocol::{InspectAnswer, InspectRequest, InspectedPart, InspectedRow};
use kiln_formats::records::{self, Compression, Container, DataFile, Example, Inspection, Options, Shape};
use kiln_formats::tokenizer::Tokenizer;

use crate::data::{Answer, CompletionSet, Demonstration, Judged, Message, Prompt, Row, listed, spoken};
use crate::dialogue::{answered, demonstrated, judged_row};
use crate::import;
use crate::model::TokenRow;

/// The most bytes of a text that are looked at in an answer.
const MOST_TEXT: usize = 4096;

/// Looks at a dataset.
pub fn inspect(request: &InspectRequest) -> InspectAnswer {
    let problem = |text: String| InspectAnswer { problem: Some(text), ..InspectAnswer::default() };
    let wanted = shapes(&request.artifact_type);
    let container = Some(&request.ending).filter(|ending| !ending.is_empty() && request.data.is_file());
    let container = container.and_then(|ending| Container::of_ending(Path::new(&format!("x{ending}"))));
    let options = Options { cut: Some(kiln_formats::bpe::last_cut), wanted, container, ..Options::default() };
    let found = match records::inspect(&request.data, &options, request.rows as usize) {
        Ok(found) => found,
        Err(error) => return problem(error.to_string()),
    };
    if !wanted.is_empty() && !wanted.contains(&found.shape) {
        let (shape, shapes) = (found.shape, listed(wanted));
        return problem(format!(
            "this is a dataset of {shape}, and {} are {shapes}; name another type, or rename its columns",
            request.artifact_type
        ));
    }
    let tokenizer = request.model.as_ref().map(|folder| import::tokenizer(folder)).transpose();
    let tokenizer = match tokenizer {
        Ok(tokenizer) => tokenizer,
        Err(error) => return problem(error.to_string()),
    };
    match rows(&found, tokenizer.as_ref()) {
        Ok(first) => InspectAnswer { first, ..described(&found) },
        Err(text) => problem(text),
    }
}

/// The shapes that the stages read from artifacts of a type; of a corpus any.
fn shapes(artifact_type: &str) -> &'static [Shape] {
    match artifact_type {
        Demonstration::TYPE => Demonstration::SHAPES,
        Prompt::TYPE => Prompt::SHAPES,
        CompletionSet::TYPE => CompletionSet::SHAPES,
        Judged::TYPE => Judged::SHAPES,
        _ => &[],
    }
}

fn described(found: &Inspection) -> InspectAnswer {
    let container = |file: &DataFile| match file.compression {
        Compression::None => file.container.to_string(),
        Compression::Gzip => format!("{}, gzip", file.container),
        Compression::Zstd => format!("{}, zstd", file.container),
    };
    let mut containers: Vec<String> = found.files.iter().map(container).collect();
    containers.sort();
    containers.dedup();
    InspectAnswer {
        problem: None,
        containers,
        shape: found.shape.name().to_owned(),
        files: found.files.len() as u64,
        skipped: found.skipped.len() as u64,
        rows: found.rows,
        checked: found.checked,
        broken: found.broken.as_ref().map(ToString::to_string),
        first: Vec::new(),
    }
}

fn rows(found: &Inspection, tokenizer: Option<&Tokenizer>) -> Result<Vec<InspectedRow>, String> {
    let mut out = Vec::new();
    for (place, example) in &found.first {
        for (label, shown) in shown(example) {
            let row = match tokenizer {
                Some(tokenizer) => {
                    let row = shown.tokens(tokenizer).map_err(|error| format!("{place}: {error}"))?;
                    InspectedRow {
                        parts: parts(tokenizer, &row),
                        tokens: Some([row.ids.len(), row.targets()].map(|n| n as u64)),
                        ..InspectedRow::default()
                    }
                }
                None => InspectedRow { parts: shown.by_role(), ..InspectedRow::default() },
            };
            out.push(InspectedRow { place: place.to_string(), label, ..row });
        }
    }
    Ok(out)
}

/// A thing to show, of which a row may have several.
enum Shown {
    Demonstration(Demonstration),
    Prompt(Prompt),
    Judged(Judged, usize),
}

/// What a row shows, each with a word for what it is where there are several.
fn shown(example: &Example) -> Vec<(String, Shown)> {
    if let Example::Prompt(prompt) = example {
        return vec![(String::new(), Shown::Prompt(prompt.clone()))];
    }
    if let Ok(Some(demonstration)) = Demonstration::of(example.clone()) {
        return vec![(String::new(), Shown::Demonstration(demonstration))];
    }
    let judged = match example {
        Example::Completions(set) => Judged {
            prompt: set.prompt.clone(),
            tools: None,
            answers: set.completions.iter().cloned().map(Answer::Completion).collect(),
            ranks: Vec::new(),
        },
        other => match Judged::of(other.clone()) {
            Ok(Some(judged)) => judged,
            _ => return Vec::new(),
        },
    };
    let is_pair = matches!(example, Example::Preference(_));
    let label = |place: usize| match judged.ranks.get(place) {
        Some(1) if is_pair => "chosen".to_owned(),
        Some(_) if is_pair => "rejected".to_owned(),
        Some(rank) => format!("rank {rank}"),
        None => format!("completion {}", place + 1),
    };
    (0..judged.answers.len()).map(|place| (label(place), Shown::Judged(judged.clone(), place))).collect()
}

impl Shown {
    fn tokens(&self, tokenizer: &Tokenizer) -> Result<TokenRow, kiln_formats::tokenizer::TokenizerError> {
        match self {
            Self::Demonstration(demonstration) => Ok(demonstrated(tokenizer, demonstration)?.0),
            Self::Prompt(prompt) => {
                let ids = tokenizer.prompt_ids(&prompt.prompt)?;
                let from = ids.len();
                Ok(TokenRow::new(ids, from))
            }
            Self::Judged(judged, place) => match &judged.answers[*place] {
                Answer::Completion(completion) => answered(tokenizer, &judged.prompt, completion),
                answer => judged_row(tokenizer, judged, answer),
            },
        }
    }

    /// The turns, of which those of the assistant after the prompt are learnt.
    fn by_role(&self) -> Vec<InspectedPart> {
        let part = |text: &str, learnt| InspectedPart { text: shortened(text), learnt };
        let turns = |turns: &[Message], prompt_turns: usize| {
            let turn = |(place, turn): (usize, &Message)| {
                let learnt = place >= prompt_turns && turn.role == crate::data::Role::Assistant;
                part(&format!("{}: {}", turn.role, turn.content), learnt)
            };
            turns.iter().enumerate().map(turn).collect::<Vec<_>>()
        };
        match self {
            Self::Demonstration(Demonstration::Chat(chat)) => turns(&chat.messages, chat.prompt_turns),
            Self::Demonstration(Demonstration::Text(text)) => vec![part(text, true)],
            Self::Prompt(prompt) => vec![part(&spoken(&prompt.prompt), false)],
            Self::Judged(judged, place) => {
                let mut all = turns(&judged.prompt, judged.prompt.len());
                match &judged.answers[*place] {
                    Answer::Completion(completion) => all.push(part(&completion.text, true)),
                    Answer::Turns(answer) => all.extend(turns(answer, 0)),
                }
                all
            }
        }
    }
}

/// The text of a row's tokens, cut where learning begins and ends.
fn parts(tokenizer: &Tokenizer, row: &TokenRow) -> Vec<InspectedPart> {
    let mut is_target = vec![false; row.ids.len()];
    row.places().for_each(|place| is_target[place] = true);
    let mut parts = Vec::new();
    let mut start = 0;
    for run in is_target.chunk_by(|a, b| a == b) {
        let ids = &row.ids[start..start + run.len()];
        parts.push(InspectedPart { text: shortened(&tokenizer.decode_marked(ids)), learnt: run[0] });
        start += run.len();
    }
    parts
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_fits_several_shapes_is_shown_as_the_stage_of_its_type_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("rows.jsonl");
        std::fs::write(&data, r#"{"prompt": "p", "completion": "c", "chosen": "a", "rejected": "b"}"#)
            .unwrap();
        let shape = |artifact_type: &str| {
            let artifact_type = artifact_type.to_owned();
            let (data, ending) = (data.clone(), String::new());
            let request = InspectRequest { data, artifact_type, ending, model: None, rows: 1 };
            let found = inspect(&request);
            assert_eq!((found.problem, found.first.is_empty()), (None, false));
            found.shape
        };
        assert_eq!(shape("demonstrations"), Shape::PromptCompletion.name());
        assert_eq!(shape("rankings"), Shape::Preference.name());
    }
}
