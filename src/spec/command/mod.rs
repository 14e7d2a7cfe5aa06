//! The `run` of a command stage: its placeholders, and what can be said when it fails.
//!
//! The way through: `slot` (what a brace begins) -> `shell` (which shell reads the script) -> `script` (how each
//! place of a script is quoted; `commands`, `position`, `nested` and `heredoc` are parts of it) -> `expand` (values
//! in place of placeholders). `hints` explains failures. `error` holds what can go wrong, with its place.

mod commands;
mod error;
mod expand;
mod heredoc;
mod hints;
mod nested;
mod position;
mod script;
mod shell;
mod slot;
#[cfg(test)]
mod tests;

pub use error::{CommandError, Refusal, Region, Spot};
pub use expand::{Placeholder, Values, expand, placeholders};
pub use hints::{explain_exit, undeclared_files};
pub use shell::is_posix;
pub use slot::Space;
