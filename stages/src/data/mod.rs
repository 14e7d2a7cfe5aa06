//! The data that goes from stage to stage: corpora and JSON lines.
//!
//! Purpose: read and write the artifacts of the types `corpus`, `prompts`, `demonstrations`,
//! `completions` and `rankings`, with errors that name file and line.
//! Invariants: rows keep the order of the file; what is written reads back equal; the same rows
//! are the same bytes.
//! Must not know: tokenizers, models, the runner.
//!
//! On disk such an artifact is one file of JSON lines, or a folder that holds it under the type's
//! name with `.jsonl` at its end (`prompts.jsonl`, ..):
//!
//! | type | a line |
//! |---|---|
//! | `prompts` | `{"prompt"}`, and `"response"` where a person's answer is known |
//! | `demonstrations` | `{"prompt","response"}` |
//! | `completions` | `{"prompt","completions":[{"text","finished","tokens"},..]}` |
//! | `rankings` | `{"prompt","completions":[..],"ranks":[1,2,2,4],"annotator","seconds","flags"}` |
//!
//! `tokens` are those that a model sampled, where one did. `finished` is true when the model ended the completion with its stop token; a completion that is
//! a bare string counts as finished. A rank of 1 is the best, and the same rank twice is a tie.

/// What some editors write before UTF-8 text; it is no part of it.
const BYTE_ORDER_MARK: &[u8; 3] = b"\xef\xbb\xbf";

mod corpus;
mod error;
mod hold_out;
mod lines;
mod rows;
mod token_store;

pub use corpus::{Corpus, Cut, Part, read_corpus};
pub use error::DataError;
pub use hold_out::hold_out;
pub use lines::{read, read_lines, write, write_lines};
pub use rows::{Completion, CompletionSet, Demonstration, Prompt, Ranking, Row};
pub use token_store::TokenStore;
