//! Tests of commands.

mod hints;
mod refusals;
mod samples;
mod values;
