//! The regular expressions of `tokenizer.json`, as Oniguruma reads them.
//!
//! Purpose: the models of the world were trained with Python's `tokenizers`, which matches with Oniguruma. The crate, built
//! without that C library, matches with `fancy-regex`, which reads `{3}+`, `$`, `\w`, `(?m)` and `[[:alpha:]]` otherwise, stops
//! in silence where it fails, and has no bound on its time that holds for every pattern. So the patterns are [`parse`]d,
//! [`compile`]d and [`run`] here; [`charset`] takes the tables of Unicode from `regex-syntax`.
//! Invariant: a search takes no more steps than its [`Fuel`] has; a pattern that runs out splits no further, the same for the
//! same text. What is not understood is an error, never another meaning.
//! Must not know: tokens, tokenizers, JSON.

mod charset;
mod compile;
mod escape;
mod parse;
mod run;

pub(super) use run::{Fuel, Regex};

/// A pattern that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at} of the pattern: {what}")]
pub(super) struct PatternError {
    /// Where in the pattern.
    pub(super) at: usize,
    /// What is wrong there.
    pub(super) what: String,
}
