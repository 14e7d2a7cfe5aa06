//! What the columns of a dataset mean.
//!
//! Purpose: the shapes that are in public use ([`kind`] names them and tells them apart), each read from a row: conversations
//! ([`turns`]), prompts with answers ([`asked`], [`answered`]), preferences ([`preference`], [`transcript`]), rankings
//! ([`ranked`], [`artifacts`]).
//! Invariant: a row that does not fit its shape is an error that names the field and what was expected.
//! Must not know: files and containers.

mod answered;
mod artifacts;
mod asked;
mod fields;
mod kind;
mod preference;
mod ranked;
mod transcript;
mod turns;

pub use kind::Shape;
pub(super) use kind::{detect, parse, refused, wanted};
