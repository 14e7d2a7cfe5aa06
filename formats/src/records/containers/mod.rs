//! How rows are written to a file.
//!
//! Purpose: JSON lines ([`lines`]), JSON as an array, as one object or as columns ([`json`], [`array`], [`columns`], which
//! read with [`scan`]), CSV ([`csv`]), plain text ([`text`]); Parquet has a folder of its own.
//! Invariant: a source holds one row in memory, and gives the rows in the order of the file.
//! Must not know: what the columns mean.

mod array;
mod columns;
mod csv;
mod json;
mod kind;
mod lines;
mod scan;
mod text;

pub use kind::Container;
pub(super) use kind::{Limits, Rows, open, sniff};
pub use text::{Cut, span};
