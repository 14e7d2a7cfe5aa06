//! The data that goes from stage to stage: corpora and examples.
//!
//! Purpose: read the artifacts of the types `corpus`, `prompts`, `demonstrations`, `completions` and `rankings` from datasets
//! of any container and shape (`kiln_formats::records`), with errors that name file, row and field; write those that stages
//! make.
//! Invariants: rows keep the order of the files; what is written reads back equal; the same rows are the same bytes.
//! Must not know: tokenizers, models, the runner.
//!
//! What stages write is one file of JSON lines. A folder may hold such a file under the type's name (`prompts.jsonl`, ..):
//!
//! | type | a line |
//! |---|---|
//! | `completions` | `{"prompt","completions":[{"text","finished","tokens"},..]}` |
//! | `rankings` | `{"prompt","completions":[..],"ranks":[1,2,2,4],"annotator","seconds","flags"}` |
//!
//! `prompt` is a question, or a list of messages. `tokens` are those that a model sampled, where one did. `finished` is true
//! when the model ended the completion with its stop token; a completion that is a bare string counts as finished. A rank of 1
//! is the best, and the same rank twice is a tie.

mod corpus;
mod error;
mod hold_out;
mod lines;
mod rows;
mod token_store;

pub use corpus::{Corpus, Cut, Part, read_corpus};
pub use error::DataError;
pub use hold_out::hold_out;
pub use lines::{listed, read, write};
pub use rows::{
    Answer, Chat, Completion, CompletionSet, Demonstration, Judged, Message, Prompt, Ranking, Role, Row,
    last_said, spoken,
};
pub use token_store::TokenStore;
