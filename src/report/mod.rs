//! What a run reports to people and scripts.
//!
//! `terminal`, `json`, `record`, `lockfile` and `links` are the reporters of a run: each receives its events
//! ([`crate::sched::Event`]). [`text`] formats numbers, values and reasons for every command.

pub mod links;
pub mod lockfile;
pub mod resume;
pub mod text;

mod json;
mod lines;
mod record;
mod table;
mod tensorboard;
mod terminal;

pub use json::JsonReport;
pub use links::Links;
pub use record::Recorder;
pub use terminal::Terminal;
