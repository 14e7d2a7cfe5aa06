//! The reading of datasets as functions of any bytes.
//!
//! Purpose: fuzz targets; each panics when a rule is broken: what was read, written as JSON and read again is the same, a second
//! reading is the same, and no row and no file is larger than small limits, however well it was compressed.
//! Invariant: no target writes anything or touches a file.
//! Must not know: who makes the bytes.

// A panic is how a target fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use super::containers::{Container, sniff};
use super::error::RecordError;
use super::example::Example;
use super::files::{DataFile, Listing};
use super::input::Input;
use super::parquet::PANICKED;
use super::reader::{Options, Reader};
use super::row;
use super::shapes::{self, Shape};

/// The largest row and the largest file, after decompression, in bytes.
const LIMITS: (u64, u64) = (1 << 12, 1 << 18);
/// What an example, as JSON, may have more than its row: an empty string among completions becomes an object.
const GROWTH: usize = 16;
/// The most rows that are read.
const MOST_ROWS: usize = 4096;

/// Reads bytes as JSON lines, JSON, CSV, TSV or text, or as what they seem to be; the first byte chooses. What follows may be
/// compressed.
pub fn rows(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let container = match choice % 6 {
        0 => Some(Container::JsonLines),
        1 => Some(Container::Json),
        2 => Some(Container::Csv),
        3 => Some(Container::Tsv),
        4 => Some(Container::Text),
        _ => None,
    };
    check(bytes, container);
}

/// Reads bytes as Parquet.
pub fn parquet(bytes: &[u8]) {
    check(bytes, Some(Container::Parquet));
}

fn check(bytes: &[u8], container: Option<Container>) {
    let bytes: Arc<[u8]> = bytes.into();
    let first = read(&bytes, container);
    let second = read(&bytes, container);
    assert_eq!(first, second, "a second reading is another");
    let mut total = 0;
    for example in first.into_iter().flatten() {
        let json = serde_json::to_vec(&example).unwrap();
        // Plain text has no rows: it is given in blocks of a file.
        let may_be_plain = matches!(container, None | Some(Container::Text));
        let is_plain = may_be_plain && matches!(example, Example::Text(_));
        let most = if is_plain { LIMITS.1 } else { LIMITS.0 };
        assert!(json.len() <= GROWTH * most as usize, "an example is larger than a row may be");
        total += if let Example::Text(text) = &example { text.text.len() } else { 0 };
        // A page of Parquet has a value once that many rows may have.
        let is_bounded = container.is_some_and(|container| container != Container::Parquet);
        assert!(!is_bounded || total <= LIMITS.1 as usize, "a file has more than was allowed");
        let row = row::parse(&json, false)
            .unwrap_or_else(|error| panic!("{error} in what was written: {example:?}"));
        let again = shapes::parse(shape_of(&example), row);
        let again = again.unwrap_or_else(|fault| panic!("{fault:?} in what was written: {example:?}"));
        assert_eq!(again, whole(example), "what was written is read as another");
    }
}

/// The examples, or the messages of their errors.
fn read(bytes: &Arc<[u8]>, container: Option<Container>) -> Vec<Result<Example, String>> {
    let said = |error: RecordError| {
        let text = error.to_string();
        assert!(!text.is_empty() && text.len() < 1 << 20, "an error says nothing, or everything");
        // What the decoder panics at should have been refused before. A row may well say these words itself.
        let panicked = matches!(&error, RecordError::File { message, .. } if message.ends_with(PANICKED));
        assert!(!panicked, "the decoder panicked");
        text
    };
    let options =
        Options { largest_row: LIMITS.0, largest_file: LIMITS.1, cut: Some(cut), ..Options::default() };
    let reader = (|| {
        let input = Input::Bytes(Arc::clone(bytes));
        let compression = input.compression()?;
        let container = container.map_or_else(|| sniff(&input, compression), Ok)?;
        let file = DataFile { path: Path::new("<bytes>").into(), container, compression, input };
        Reader::of(Path::new("<bytes>"), Listing { files: vec![file], skipped: Vec::new() }, &options)
    })();
    match reader {
        Ok(reader) => {
            reader.take(MOST_ROWS).map(|row| row.map(|(_, example)| example).map_err(said)).collect()
        }
        Err(error) => vec![Err(said(error))],
    }
}

fn cut(text: &str) -> Option<usize> {
    text.rfind(' ')
}

/// The shape of which the JSON of an example is.
fn shape_of(example: &Example) -> Shape {
    match example {
        Example::Text(_) => Shape::Text,
        Example::Chat(chat) if chat.prompt_turns == 0 => Shape::Messages,
        Example::Chat(_) => Shape::PromptCompletion,
        Example::Prompt(_) => Shape::Prompts,
        Example::Preference(_) => Shape::Preference,
        Example::Ranked(_) => Shape::UltraFeedback,
        Example::Completions(_) => Shape::Completions,
        Example::Ranking(_) => Shape::Rankings,
    }
}

/// A part of a text is a whole text when it is read again.
fn whole(mut example: Example) -> Example {
    if let Example::Text(text) = &mut example {
        text.ends = true;
    }
    example
}
