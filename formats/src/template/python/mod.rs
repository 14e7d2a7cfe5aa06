//! The values of Python, as far as templates see them.
//!
//! Purpose: [`object`] are its containers, [`kind`] what a value is, [`text`] how it prints, [`operator`], [`compare`] and
//! [`access`] what operators, comparisons, attributes and items mean, [`percent`] and [`braces`] its two ways to format.
//! Invariant: whatever walks through a value pays for its weight before; no container nests deeper than the bound.
//! Must not know: filters, templates.

pub(super) mod access;
pub(super) mod arguments;
pub(super) mod braces;
pub(super) mod compare;
pub(super) mod field;
pub(super) mod kind;
pub(super) mod number;
pub(super) mod object;
pub(super) mod operator;
pub(super) mod percent;
pub(super) mod text;

use minijinja::{Error, ErrorKind};

/// What every operation gives.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// The state of a rendering.
pub(super) type State<'t, 'e> = minijinja::State<'t, 'e>;

/// An error that the template caused.
pub(super) fn error(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}
