//! People's datasets.
//!
//! Purpose: [`open`] reads a file, a folder or a glob pattern as examples, whatever its [`Container`] (JSON lines, JSON, CSV,
//! TSV, Parquet, text, each also compressed) and whatever its [`Shape`] (texts, conversations, prompts with answers,
//! preferences, rankings); [`inspect`] says what is there.
//! Invariants: examples come in the order of the files' names and of their rows; one row is in memory at a time; a row that
//! cannot be read or does not fit is an error with file, line and field, and is never left out in silence.
//! Must not know: tokenizers, models, the runner.
//!
//! Text is UTF-8. A byte order mark is dropped. Blank lines and blank texts are no rows. A null is a missing value. Columns that
//! no shape knows are ignored.

mod containers;
mod error;
mod example;
mod files;
pub mod fuzz;
mod input;
mod inspect;
mod json;
mod parquet;
mod reader;
mod row;
mod shapes;

pub use containers::{Container, Cut, span};
pub use error::{At, Place, RecordError};
pub use example::{
    Chat, Completion, CompletionSet, Example, Message, Preference, Prompt, Ranked, Ranking, Role, Text,
    last_said,
};
pub use files::{DataFile, files};
pub use input::Compression;
pub use inspect::{Inspection, inspect};
pub use json::{Fields, Json};
pub use reader::{Options, Reader, open};
pub use shapes::Shape;

#[cfg(test)]
mod tests;
