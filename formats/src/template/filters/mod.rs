//! The filters of Jinja2, and `tojson` as transformers has it.
//!
//! Purpose: [`table`] names them; [`text`], [`sequence`], [`order`], [`select`], [`number`] and [`json`] are what they do.
//! Invariant: a filter gives what Jinja2 3.1 gives without autoescape, or an error.
//! Must not know: templates.

mod json;
mod number;
mod order;
mod select;
mod sequence;
mod table;
mod text;

pub(super) use table::{NAMES, apply};
