//! Parquet.
//!
//! Purpose: rows out of a file of Parquet: the crate `parquet` decodes levels and values, and everything that it would trust
//! is checked before: [`thrift`], [`shape`] and [`footer`] bound the metadata, [`header`], [`check`], [`rle`] and [`delta`] each
//! page, [`pages`] what is in memory at a time; [`leaf`] reads a column and [`tree`] puts the columns together again.
//! Invariant: a size, a count or an offset that lies is an error before memory is taken for it; one row is in memory beside a
//! page and a dictionary of each column, and these are bounded together.
//! Must not know: what the columns mean.

mod check;
mod delta;
mod footer;
mod header;
mod leaf;
mod pages;
mod rle;
mod rows;
mod shape;
mod source;
mod thrift;
mod tree;

pub(super) use rows::{PANICKED, Parquet};

#[cfg(test)]
mod tests;
