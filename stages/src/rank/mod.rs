//! Rankings: an order of the completions of each prompt.
//!
//! Purpose: make rankings by a programme (the gold reward and a labeller's noise), or take over
//! rankings that others made, checked against the completions.
//! Invariants: equal texts get equal ranks; a ranking depends on the seed and the prompt's number,
//! not on the rows before it.
//! Must not know: models, how the gold reward works, where rows are stored.

mod import;
mod label;
mod options;

pub use import::{ImportError, check_imported};
pub use label::{Agreement, RankError, Ranked, rank};
pub use options::RankOptions;
