//! What people and scripts are told of a run.
//!
//! `terminal` listens ([`crate::execute::Listener`]) and draws for people on stderr; `table` and `json` tell
//! of a run that has ended; [`text`] spells numbers, values and reasons for every command.

pub mod text;

mod json;
mod lines;
mod table;
mod terminal;

pub use json::run_to_json;
pub use terminal::Terminal;
