//! Tests of commands.

mod hints;
mod refusals;
mod values;
