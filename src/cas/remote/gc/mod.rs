//! Removes what nobody needs from a remote.
//!
//! The way through: `survey` lists what the remote has; `mark` reads what the records that stay need; `collect` takes
//! both twice, with time between them, and removes what was garbage each time.

mod collect;
mod mark;
#[cfg(test)]
mod simulation;
mod survey;

pub use collect::GcRules;
