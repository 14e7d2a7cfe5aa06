//! The shapes, and how they are told apart.
//!
//! Purpose: names for people, the columns of each shape, and the order in which they are tried.
//! Invariant: the same rows always give the same shape; a shape is found only when every row that was looked at has its columns.
//! Must not know: how rows are read.

use std::fmt;
use std::str::FromStr;

use super::super::error::Fault;
use super::super::example::Example;
use super::super::json::Json;
use super::super::row::Row;
use super::{answered, artifacts, preference, ranked, transcript, turns};

/// What the columns of a dataset mean.
///
/// Several shapes may fit the same columns; the first in the order of [`Shape::ALL`] is taken, and the caller may name another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Our own artifact `rankings`: `prompt`, `completions`, `ranks`.
    Rankings,
    /// UltraFeedback: `instruction` or `prompt`, and `completions` with `response` and a score each.
    UltraFeedback,
    /// Our own artifact `completions`: `prompt`, and `completions` of strings or of `{"text", "finished", "tokens"}`.
    Completions,
    /// Anthropic's HH: `chosen` and `rejected` as transcripts, each `\n\nHuman: ..\n\nAssistant: ..`.
    HhTranscripts,
    /// `chosen` and `rejected`, with `prompt` or with a common beginning; strings or lists of messages.
    Preference,
    /// OpenAI's and TRL's conversations: `messages` of `{"role", "content"}`.
    Messages,
    /// ShareGPT's conversations: `conversations` of `{"from", "value"}`, or of `{"role", "content"}`.
    Conversations,
    /// `prompt` and `completion`, as strings or lists of messages; also `response`, `answer`, and `question`.
    PromptCompletion,
    /// Alpaca's: `instruction`, `input`, `output`; also Dolly's `context` and `response`.
    Instruction,
    /// `text`, or `content`; every file of plain text.
    Text,
    /// Our own artifact `prompts`: `prompt`, and `response` where it is known.
    Prompts,
}

impl Shape {
    /// All shapes, in the order in which they are tried.
    pub const ALL: [Self; 11] = [
        Self::Rankings,
        Self::UltraFeedback,
        Self::Completions,
        Self::HhTranscripts,
        Self::Preference,
        Self::Messages,
        Self::Conversations,
        Self::PromptCompletion,
        Self::Instruction,
        Self::Text,
        Self::Prompts,
    ];

    /// The name that people know it by; [`Shape::from_str`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rankings => "rankings",
            Self::UltraFeedback => "ultrafeedback",
            Self::Completions => "completions",
            Self::HhTranscripts => "hh-transcripts",
            Self::Preference => "preference",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::PromptCompletion => "prompt-completion",
            Self::Instruction => "instruction",
            Self::Text => "text",
            Self::Prompts => "prompts",
        }
    }

    /// What a row looks like, for messages.
    pub fn example(self) -> &'static str {
        match self {
            Self::Rankings => r#"{"prompt": "..", "completions": ["..", ".."], "ranks": [2, 1]}"#,
            Self::UltraFeedback => {
                r#"{"instruction": "..", "completions": [{"response": "..", "overall_score": 7.5}, ..]}"#
            }
            Self::Completions => r#"{"prompt": "..", "completions": [{"text": "..", "finished": true}]}"#,
            Self::HhTranscripts => {
                r#"{"chosen": "\n\nHuman: ..\n\nAssistant: ..", "rejected": "\n\nHuman: .."}"#
            }
            Self::Preference => r#"{"prompt": "..", "chosen": "..", "rejected": ".."}"#,
            Self::Messages => {
                r#"{"messages": [{"role": "user", "content": ".."}, {"role": "assistant", "content": ".."}]}"#
            }
            Self::Conversations => {
                r#"{"conversations": [{"from": "human", "value": ".."}, {"from": "gpt", "value": ".."}]}"#
            }
            Self::PromptCompletion => r#"{"prompt": "..", "completion": ".."}"#,
            Self::Instruction => r#"{"instruction": "..", "input": "..", "output": ".."}"#,
            Self::Text => r#"{"text": ".."}"#,
            Self::Prompts => r#"{"prompt": ".."}"#,
        }
    }

    /// Whether a row has the columns of this shape.
    pub(in super::super) fn fits(self, row: &Row) -> bool {
        let has = |names: &[&str]| names.iter().any(|name| row.get(name).is_some());
        let asks = has(&["prompt", "question", "instruction"]);
        let completions = row.get("completions").and_then(Json::as_array);
        // A list without elements is of any kind; the row is refused where it is read.
        let has_responses = |wanted: bool| {
            completions.is_some_and(|list| {
                list.first().is_none_or(|first| first.get("response").is_some() == wanted)
            })
        };
        let starts_as_transcript =
            |name: &str| row.get(name).and_then(Json::as_str).is_some_and(transcript::begins);
        match self {
            Self::Rankings => has(&["prompt"]) && completions.is_some() && has(&["ranks"]),
            Self::UltraFeedback => asks && has_responses(true),
            Self::Completions => has(&["prompt"]) && has_responses(false),
            Self::HhTranscripts => {
                !has(&["prompt"]) && starts_as_transcript("chosen") && starts_as_transcript("rejected")
            }
            Self::Preference => has(&["chosen"]) && has(&["rejected"]),
            Self::Messages => has(&["messages"]),
            Self::Conversations => has(&["conversations", "conversation"]),
            Self::PromptCompletion => {
                has(&["prompt", "question"]) && has(&["completion", "response", "answer"])
            }
            Self::Instruction => has(&["instruction"]) && has(&["output", "response"]),
            Self::Text => has(&["text", "content"]),
            Self::Prompts => has(&["prompt"]),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|shape| shape.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{name}` is no shape of a dataset; the shapes are {names}")
        })
    }
}

/// The shape of these rows: the first whose columns all of them have.
pub(in super::super) fn detect(rows: &[&Row]) -> Option<Shape> {
    Shape::ALL.into_iter().find(|shape| !rows.is_empty() && rows.iter().all(|row| shape.fits(row)))
}

/// The shape of these rows among those that are wanted: the first that the first row fits, if most of the first `alike` rows do,
/// which are those of one file, so that a broken row or a file of another shape is named by what it lacks; else the first that all of them fit. Prompts come first where all fit, for nothing else of theirs is
/// needed.
pub(in super::super) fn wanted(rows: &[&Row], alike: usize, wanted: &[Shape]) -> Option<Shape> {
    let (first, alike) = (rows.first()?, &rows[..alike.min(rows.len())]);
    let among = || Shape::ALL.into_iter().filter(|shape| wanted.contains(shape));
    let of_all = among().find(|shape| rows.iter().all(|row| shape.fits(row)));
    let fit = |shape: &Shape| alike.iter().filter(|row| shape.fits(row)).count();
    let of_first = among().find(|shape| shape.fits(first)).filter(|shape| 2 * fit(shape) >= alike.len());
    match of_all {
        Some(Shape::Prompts) => of_all,
        _ => of_first.or(of_all),
    }
}

/// Why rows of these columns are not read, though a shape would seem to fit: they would teach what they should not.
pub(in super::super) fn refused(row: &Row, shape: Shape) -> Option<Fault> {
    let has = |name: &str| row.get(name).is_some();
    match shape {
        Shape::PromptCompletion if matches!(row.get("label"), Some(Json::Bool(_))) => Some(Fault::new(
            "label",
            "these are unpaired preferences (good and bad completions), which are not read; keep the rows whose label is true, without this column",
        )),
        Shape::Completions if has("labels") => {
            Some(Fault::new("labels", "these are judged steps (stepwise supervision), which are not read"))
        }
        _ => None,
    }
}

/// Reads a row of this shape.
pub(in super::super) fn parse(shape: Shape, mut row: Row) -> Result<Example, Fault> {
    if let Some(fault) = refused(&row, shape) {
        return Err(fault);
    }
    let row = &mut row;
    match shape {
        Shape::Rankings => artifacts::ranking(row).map(Example::Ranking),
        Shape::UltraFeedback => ranked::parse(row).map(Example::Ranked),
        Shape::Completions => artifacts::completions(row).map(Example::Completions),
        Shape::HhTranscripts => transcript::preference(row).map(Example::Preference),
        Shape::Preference => preference::parse(row).map(Example::Preference),
        Shape::Messages => turns::messages_row(row).map(Example::Chat),
        Shape::Conversations => turns::conversations_row(row).map(Example::Chat),
        Shape::PromptCompletion => answered::prompt_completion(row).map(Example::Chat),
        Shape::Instruction => answered::instruction(row).map(Example::Chat),
        Shape::Text => answered::text(row).map(Example::Text),
        Shape::Prompts => answered::prompt(row).map(Example::Prompt),
    }
}
