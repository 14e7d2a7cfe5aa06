//! Examples on disk.
//!
//! Purpose: read the rows of an artifact from a dataset of any container and shape, with errors that name file and place;
//! write rows as one line of JSON each.
//! Invariant: equal rows are equal bytes; a row of another shape is an error and never left out.
//! Must not know: what the rows mean.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use kiln_formats::records::{self, Example, Options, Place, RecordError, Shape};
use serde::Serialize;

use super::{DataError, Row};

/// The rows of an artifact: a file, a folder that holds `TYPE.jsonl`, or a folder of files.
///
/// # Errors
/// [`DataError`] with file and place; an artifact without rows is one.
pub fn read<R: Row>(artifact: &Path) -> Result<Vec<R>, DataError> {
    let inside = artifact.join(format!("{}.jsonl", R::TYPE));
    let path = if inside.is_file() { &inside } else { artifact };
    let reader = records::open(path, &Options { wanted: R::SHAPES, ..Options::default() })?;
    let shape = reader.shape();
    let row = |example: Result<(Place, Example), RecordError>| {
        let (place, example) = example?;
        match R::of(example) {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(DataError::Shape {
                place: place.to_string(),
                found: shape,
                wanted: R::TYPE,
                shapes: listed(R::SHAPES),
                example: R::SHAPES.first().map_or("", |shape| shape.example()),
            }),
            Err(message) => Err(DataError::Row { place: place.to_string(), message }),
        }
    };
    reader.map(row).collect()
}

/// The names of shapes, for people.
pub fn listed(shapes: &[Shape]) -> String {
    shapes.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(", ")
}

/// Writes rows as an artifact that is one file.
///
/// # Errors
/// [`DataError`] of the file system.
pub fn write<'a, R: Serialize + 'a>(
    artifact: &Path,
    rows: impl IntoIterator<Item = &'a R>,
) -> Result<(), DataError> {
    let io = |source| DataError::Io { doing: "write", path: artifact.to_path_buf(), source };
    let mut out = BufWriter::new(File::create(artifact).map_err(io)?);
    for row in rows {
        serde_json::to_writer(&mut out, row).map_err(|error| io(error.into()))?;
        out.write_all(b"\n").map_err(io)?;
    }
    out.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{Answer, Completion, CompletionSet, Demonstration, Judged, Message, Prompt, Ranking};
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn rows<R: Row>(text: &str) -> Vec<R> {
        read(&file(text).1).unwrap()
    }

    fn message<R: Row + std::fmt::Debug>(text: &str) -> String {
        let (_folder, path) = file(text);
        let message = read::<R>(&path).unwrap_err().to_string();
        message.replace(&*path.to_string_lossy(), "rows")
    }

    #[test]
    fn a_row_of_another_shape_is_named_with_its_place_and_the_shapes_that_are_read() {
        let pairs = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n";
        assert_eq!(
            message::<Demonstration>(pairs),
            "rows:1: this is a dataset of preference, and demonstrations are prompt-completion, messages, conversations, \
             instruction, text, such as {\"prompt\": \"..\", \"completion\": \"..\"}"
        );
    }

    #[test]
    fn a_bad_line_is_named_with_its_file_number_and_field() {
        let text = "{\"prompt\":\"a\",\"response\":\"b\"}\n\n{\"prompt\":\"a\"}\n";
        let said = message::<Demonstration>(text);
        assert!(said.starts_with("rows:3: completion: "), "{said}");
        assert!(message::<Prompt>("{\"prompt\":\" \"}").starts_with("rows:1: prompt: "));
        assert_eq!(message::<Prompt>("\n\n"), "rows is empty or blank: it needs at least one row");
    }

    #[test]
    fn a_conversation_is_a_prompt_with_the_answer_that_is_known() {
        let text = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}";
        let wanted = Prompt { prompt: vec![Message::user("a")], response: Some("b".into()) };
        assert_eq!(rows::<Prompt>(text), [wanted]);
        let alone = "{\"messages\":[{\"role\":\"assistant\",\"content\":\"b\"}]}";
        assert!(message::<Prompt>(alone).contains("rows:1: the assistant speaks first"));
    }

    #[test]
    fn preferences_and_scores_are_rankings() {
        let pair = rows::<Judged>("{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}").remove(0);
        assert_eq!((pair.ranks, pair.answers.len()), (vec![1, 2], 2));
        assert_eq!(pair.answers[0], Answer::Turns(vec![Message::assistant("b")]));
        let scored = "{\"instruction\":\"a\",\"completions\":[{\"response\":\"b\",\"overall_score\":2},\
                      {\"response\":\"c\",\"overall_score\":5},{\"response\":\"d\",\"overall_score\":2}]}";
        assert_eq!(rows::<Judged>(scored)[0].ranks, [2, 1, 2]);
    }

    #[test]
    fn what_is_written_reads_back_equal_and_a_question_is_a_string() {
        let completion =
            |text: &str| Completion { text: text.into(), finished: text.len() > 1, tokens: vec![1, 2] };
        let question = vec![Message::user("é\u{1f600}\n")];
        let long = vec![Message::user("a"), Message::assistant("b"), Message::user("c")];
        let sets = [question, long]
            .map(|prompt| CompletionSet { prompt, completions: vec![completion("b"), completion("bc")] });
        let (_folder, path) = file("");
        write(&path, &sets).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("{\"prompt\":\"é"));
        assert_eq!(read::<CompletionSet>(&path).unwrap(), sets);
        let ranking = |set: &CompletionSet| Ranking {
            prompt: set.prompt.clone(),
            completions: set.completions.clone(),
            ranks: vec![2, 1],
            annotator: "gold".into(),
            seconds: 0.5,
            flags: vec!["unsure".into()],
        };
        let rankings = sets.each_ref().map(ranking);
        write(&path, &rankings).unwrap();
        assert_eq!(read::<Ranking>(&path).unwrap(), rankings);
        assert_eq!(read::<Judged>(&path).unwrap(), rankings.map(Judged::from));
    }

    #[test]
    fn a_folder_holds_the_rows_under_the_name_of_their_type_or_is_a_dataset() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "prompt,completion\nq,a\n").unwrap();
        assert_eq!(read::<Prompt>(folder.path()).unwrap()[0].response.as_deref(), Some("a"));
        std::fs::write(folder.path().join("prompts.jsonl"), "{\"prompt\":\"p\"}").unwrap();
        assert_eq!(read::<Prompt>(folder.path()).unwrap()[0].prompt, [Message::user("p")]);
    }
}
