//! The methods of Python's types that change nothing.
//!
//! Purpose: [`strings`] and [`split`] are those of `str`, [`letters`] what they know of characters, [`containers`] those of
//! lists, tuples, dicts and numbers.
//! Invariant: a method that is not here is no method; one that would change its value is known, but never done.
//! Must not know: filters, templates.

mod containers;
mod letters;
mod split;
mod strings;
mod table;

pub(super) use letters::{capitalize, is_lower, is_upper, title_word};
pub(super) use split::{Side, lines, strip};
pub(super) use strings::{center, replace};
pub(super) use table::{call, changes, has};
