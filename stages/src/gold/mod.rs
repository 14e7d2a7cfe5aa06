//! The gold reward: what a good reply is, as a programme.
//!
//! Purpose: score replies by a rule that nobody trains on, so that the quality of every rung of the
//! ladder can be measured, and so that a programme can stand in for a labeller.
//! Invariants: a score lies in [-1, 1]; a reply that was cut off (no stop token) scores -1; the same
//! texts and options give the same scores.
//! Must not know: models, tokenizers, files.
//!
//! Rules are chosen by name, `gold: { rule: verse }`; a new rule is a variant of [`Rule`] and a
//! branch in [`Gold::new`].

mod form;
mod format;
mod lexicon;
mod options;
mod rule;
mod verse;
mod words;

pub use lexicon::Lexicon;
pub use options::{GoldOptions, Rule, Weights};
pub use rule::{Gold, GoldError, Parts, Reply};
pub use words::words;
