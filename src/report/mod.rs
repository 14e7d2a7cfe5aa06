//! What people and scripts are told of a run.
//!
//! Everything here listens ([`crate::execute::Listener`]) and answers nothing: `terminal` for people
//! on stderr, `json` for scripts on stdout, [`text`] for how numbers and values are spelled.

pub mod text;

mod json;
mod lines;
mod table;
mod terminal;

pub use json::run_to_json;
pub use terminal::Terminal;
