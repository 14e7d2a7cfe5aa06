//! `kiln card`: a model card from the records alone.
//!
//! The way through: `records` (from the record of an artifact up to the sources) -> `gather`, with `measured`, `model` and
//! `reproduction` (what else is known) -> `facts` (plain data, as `--json` gives it) -> `markdown`, by `sections`, with
//! everything from outside through `escape`. `command` is the command.

mod command;
mod escape;
mod facts;
mod gather;
mod markdown;
mod measured;
mod model;
mod records;
mod reproduction;
mod sections;

pub use command::run;
